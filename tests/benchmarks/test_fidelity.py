"""docs/fidelity.md and backends/fidelity.json say what the models do now."""

import csv
import json

import pytest

from benchmarks.fidelity import (
    DOCUMENT,
    VALIDATION,
    all_sections,
    document,
    main,
    report_stale,
    up_to_date,
    validation,
    validation_text,
)
from benchmarks.references.errors import Pair, Section, read_table, summarise
from h4hc.backends.files import preset_names
from h4hc.ir.workload import CLASSES


def section(title, group, found, preset="one"):
    return Section(
        title, "a simulator", "cycles", summarise([Pair(group, "layer", 100, found)]), ("heat",), preset
    )


def test_the_files_are_up_to_date():
    found = all_sections()
    assert up_to_date(DOCUMENT, document(found)), "run python benchmarks/fidelity.py"
    assert up_to_date(VALIDATION, validation_text(found)), "run python benchmarks/fidelity.py"


def test_validation_is_by_preset_and_class():
    found = json.loads(VALIDATION.read_text())
    assert set(found) <= set(preset_names())
    for classes in found.values():
        assert set(classes) <= set(CLASSES)
        for entry in classes.values():
            assert set(entry) == {"reference", "layers", "error", "bias"}
            assert abs(entry["bias"]) <= entry["error"] + 1e-3


def test_the_first_section_of_a_preset_counts_and_networks_do_not():
    found = validation(
        [section("a", "depthwise", 110), section("b", "depthwise", 150), section("c", "networks", 90)]
    )
    assert found == {
        "one": {"depthwise": {"reference": "a simulator", "layers": 1, "error": 0.1, "bias": 0.1}}
    }


def test_the_page_says_what_is_not_modelled():
    text = document([section("Sums, in pJ", "depthwise", 90)])
    assert "[Sums, in pJ](#sums-in-pj)" in text
    assert "| depthwise | -10.0% |" in text
    assert "- heat" in text


def test_stale_files_are_named(capsys):
    assert report_stale([DOCUMENT]) == 1
    assert capsys.readouterr().err == "docs/fidelity.md is out of date; run python benchmarks/fidelity.py\n"
    assert report_stale([]) == 0


def test_other_tables_are_compared_and_nothing_is_written(tmp_path, monkeypatch, capsys):
    rows = read_table("vela_layers_u55-128")
    with (tmp_path / "vela_layers_u55-128.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(row for row in rows if row["model"] == "mlperf_tiny_resnet8_int8")
    before = DOCUMENT.read_bytes(), VALIDATION.read_bytes()
    monkeypatch.setattr("sys.argv", ["fidelity.py", "--vela", str(tmp_path)])
    assert main() == 0
    text = capsys.readouterr().out
    assert "u55-128, with memory" in text
    assert "u65-256" not in text
    assert (DOCUMENT.read_bytes(), VALIDATION.read_bytes()) == before


def test_a_folder_without_tables_is_told(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["fidelity.py", "--vela", str(tmp_path)])
    with pytest.raises(SystemExit):
        main()
    assert "has no table vela_layers_<configuration>.csv" in capsys.readouterr().err
