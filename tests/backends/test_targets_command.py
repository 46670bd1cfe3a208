"""``h4hc targets``."""

from __future__ import annotations

import json
from pathlib import Path

from click.testing import CliRunner, Result

from h4hc.backends.files import FOLDER
from h4hc.cli import main


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["targets", *arguments])


def test_list() -> None:
    assert "npu+cim-cu4" in run("list").output
    names = [item["name"] for item in json.loads(run("list", "--json").output)]
    assert names == ["cim", "npu", "npu+cim", "npu+cim-cu4", "npu+cim-sram", "npu+cim-u65", "ort-cpu"]


def test_show() -> None:
    output = run("show", "npu+cim", "--sources").output
    for text in ("0.512", "46.4", "4 MiB", "12.8 GB/s", "ISSCC 2022"):
        assert text in output.replace("\n", " "), text


def test_show_json() -> None:
    shown = json.loads(run("show", "npu+cim", "--json").output)
    assert shown["devices"]["cim"]["resident_weight_bytes"] == 4 << 20
    assert shown["target"]["memories"][0]["bandwidth"] == 32e9


def test_validate(tmp_path: Path) -> None:
    good = FOLDER / "targets" / "npu.yaml"
    assert run("validate", str(good)).exit_code == 0
    bad = tmp_path / "bad.yaml"
    bad.write_text(good.read_text(encoding="utf-8").replace("bandwidth", "bandwith", 1), encoding="utf-8")
    result = run("validate", str(bad))
    assert result.exit_code == 2
    assert "did you mean bandwidth?" in result.output
    assert "Traceback" not in result.output


def test_unknown_target() -> None:
    result = run("show", "npu-cim")
    assert result.exit_code == 2
    assert "did you mean npu+cim?" in result.output
