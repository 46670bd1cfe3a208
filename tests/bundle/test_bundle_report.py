"""report.html and `h4hc report`."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from h4hc.bundle.document import build_document
from h4hc.bundle.report import operator_anchors, render_report, script_json
from h4hc.bundle.timing import replay
from h4hc.cli import main
from h4hc.cli.summary import summary_json
from h4hc.cli.units import si, size
from h4hc.ir.compilation import Baseline, Compilation, Options
from tests.bundle.bundle_builder import EXAMPLE_DEVICES, by_name, compile_by_hand, example_model, written

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>&{{script}}\u2028"


class Page(HTMLParser):
    """The elements of a page, and the text of its scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.inside = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.inside = tag

    def handle_endtag(self, tag: str) -> None:
        self.inside = ""

    def handle_data(self, data: str) -> None:
        if self.inside == "script":
            self.scripts.append(data)


def page(document: dict[str, Any]) -> str:
    return render_report(document, replay(document))


def test_the_page_is_self_contained(example_bundle: Path) -> None:
    text = (example_bundle / "report.html").read_text()
    for tag, attributes in Page(text).tags:
        assert tag not in {"link", "img", "iframe", "object"}
        assert "src" not in attributes
        assert not (attributes.get("href") or "#").partition("#")[0]
    assert "default-src 'none'" in text
    assert re.findall(r"https?://[^\s\"')]+", text) == ["http://www.w3.org/2000/svg"]
    assert "url(" not in text and "@import" not in text


def test_the_page_holds_the_schedule(example_bundle: Path) -> None:
    document = json.loads((example_bundle / "schedule.json").read_text())
    data, _ = Page((example_bundle / "report.html").read_text()).scripts
    shown = json.loads(data)
    assert [task["id"] for task in shown["tasks"]] == [task["id"] for task in document["tasks"]]
    assert shown["summary"] == document["summary"]
    assert [o["anchor"] for o in shown["operators"]][:2] == ["op-first", "op-act"]
    assert shown["tasks"][1]["why"] == ["data", 0, 1000, -1]
    assert sum(shown["bottlenecks"]["shares"].values()) == document["summary"]["latency"]
    assert set(shown["bottlenecks"]["path"]) <= {task["id"] for task in document["tasks"]}
    assert list(shown["bottlenecks"]["idle"]) == sorted(document["queues"])


def test_every_id_that_the_scripts_look_up_is_on_the_page(example_bundle: Path) -> None:
    parsed = Page((example_bundle / "report.html").read_text())
    ids = {attributes["id"] for _, attributes in parsed.tags if "id" in attributes}
    assert set(re.findall(r'byId\("([^"]+)"\)', parsed.scripts[1])) <= ids
    assert {a["href"][1:] for t, a in parsed.tags if t == "a" and a.get("href")} <= ids  # type: ignore[index]


def test_scripts_never_write_markup(example_bundle: Path) -> None:
    script = Page((example_bundle / "report.html").read_text()).scripts[1]
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", script)


def test_hostile_names_stay_text(example: Compilation) -> None:
    document = build_document(example)
    document["model"]["name"] = document["operators"][0]["name"] = HOSTILE
    document["tasks"][0]["operator"] = HOSTILE
    parsed = Page(page(document))
    assert len(parsed.scripts) == 2
    assert "img" not in [tag for tag, _ in parsed.tags]
    shown = json.loads(parsed.scripts[0])
    assert shown["operators"][0]["name"] == HOSTILE


@given(
    st.recursive(st.none() | st.integers() | st.text(), lambda s: st.lists(s) | st.dictionaries(st.text(), s))
)
def test_json_in_a_script_element_survives(data: Any) -> None:
    text = script_json(data)
    assert not set("<>&\u2028\u2029").intersection(text)
    assert json.loads(text) == data


@given(st.lists(st.text()))
def test_anchors_are_unique_plain_and_stable(names: list[str]) -> None:
    anchors = operator_anchors(names)
    assert len(set(anchors)) == len(names)
    assert all(re.fullmatch(r"op-[A-Za-z0-9_.-]*", anchor) for anchor in anchors)


def test_a_model_without_work_has_a_page(tmp_path: Path) -> None:
    model = example_model()
    del model.graph.node[:]
    del model.graph.output[:]
    model.graph.output.append(model.graph.input[0])
    compilation = compile_by_hand(model, by_name({}))
    document = build_document(compilation)
    assert document["summary"]["frames_per_second"] == 0.0
    assert "NaN" not in page(document) and "Infinity" not in page(document).replace("seconds: Infinity", "")
    assert summary_json(document)["baselines"][0]["latency_ratio"] is None


def run_report(*arguments: str | Path, columns: int = 100) -> Any:
    environment = {"COLUMNS": str(columns)}
    return CliRunner().invoke(main, ["report", *map(str, arguments)], env=environment, catch_exceptions=False)


def test_the_summary_on_the_terminal(example_bundle: Path) -> None:
    done = run_report(example_bundle)
    assert done.exit_code == 0
    assert "example on npu+cim: 74.1 µs and 939 nJ per frame" in done.output
    assert re.search(r"npu only +40\.0 µs +0\.54x", done.output)
    assert re.search(r"cim +3 .* of frame|cim +3 ", done.output)
    assert "5 transfers move" in done.output
    assert re.search(r"cim_sram .* 1\.00 MiB", done.output)
    assert "\x1b" not in done.output


@pytest.mark.parametrize("columns", [20, 40, 80, 200])
def test_the_summary_fits_any_terminal(example_bundle: Path, columns: int) -> None:
    done = run_report(example_bundle, columns=columns)
    assert max(len(line) for line in done.output.splitlines()) <= columns


@pytest.mark.parametrize(
    "budget, text", [(1.0, "Budget met"), (50e-6, "Budget missed: 24.1 µs (48%) over 50.0 µs")]
)
def test_the_summary_says_whether_the_budget_is_met(tmp_path: Path, budget: float, text: str) -> None:
    compilation = compile_by_hand(example_model(), EXAMPLE_DEVICES, options=Options(budget_seconds=budget))
    assert text in run_report(written(compilation, tmp_path / "build")).output


def test_names_cannot_play_tricks_on_the_terminal(example: Compilation, tmp_path: Path) -> None:
    hostile = "[bold red]\x1b[2J\n"
    bundle = written(replace(example, baselines=(Baseline(hostile, 1.0, 1.0),)), tmp_path / "build")
    output = run_report(bundle).output
    assert "\x1b" not in output
    assert "[bold red]\\x1b[2J\\n only" in output


def test_the_summary_as_json(example_bundle: Path) -> None:
    summary = json.loads(run_report(example_bundle, "--json").output)
    assert summary["latency_seconds"] == pytest.approx(74.068e-6)
    assert summary["budget_met"] is None
    assert [d["operators"] for d in summary["devices"]] == [2, 3, 1]
    assert summary["transfers"]["count"] == 5
    assert [o["name"] for o in summary["most_expensive"]] == ["second", "first", "act", "cut", "shift"]
    assert summary["baselines"][0]["latency_ratio"] == pytest.approx(40 / 74.068)
    assert summary["memories"][0]["capacity"] == 2 * 1024**2


def test_the_report_is_written_elsewhere(example_bundle: Path, tmp_path: Path) -> None:
    done = run_report(example_bundle, "-o", tmp_path / "page.html")
    assert done.exit_code == 0
    assert (tmp_path / "page.html").read_bytes() == (example_bundle / "report.html").read_bytes()


def test_the_report_of_a_bundle_is_written_again(example: Compilation, tmp_path: Path) -> None:
    bundle = written(example, tmp_path / "build")
    manifest = (bundle / "manifest.json").read_bytes()
    (bundle / "report.html").write_text("damaged")
    assert run_report(bundle, "-o", bundle / "report.html").exit_code == 0
    assert (bundle / "manifest.json").read_bytes() == manifest
    assert "<title>example on npu+cim</title>" in (bundle / "report.html").read_text()


@pytest.mark.parametrize("output", ["build/schedule.json", "build/other.html", "missing/page.html", "."])
def test_impossible_places_for_a_report(example: Compilation, tmp_path: Path, output: str) -> None:
    bundle = written(example, tmp_path / "build")
    before = sorted(tmp_path.rglob("*"))
    done = run_report(bundle, "-o", tmp_path / output)
    assert done.exit_code == 2
    assert done.output.startswith("error: ") and done.output.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before


def test_a_damaged_bundle_gives_one_line(example: Compilation, tmp_path: Path) -> None:
    bundle = written(example, tmp_path / "build")
    document = json.loads((bundle / "schedule.json").read_text())
    del document["tasks"][0]["end"]
    (bundle / "schedule.json").write_text(json.dumps(document))
    done = run_report(bundle)
    assert done.exit_code == 2
    assert "tasks[0].end is missing; write the bundle again with h4hc compile" in done.output
    assert run_report(tmp_path / "nowhere").exit_code == 2


@pytest.mark.parametrize(
    "value, text",
    [
        (0, "0 s"),
        (1.234e-3, "1.23 ms"),
        (9.999e-4, "1.00 ms"),
        (999.6e-6, "1.00 ms"),
        (999.4e-6, "999 µs"),
        (20e-3, "20.0 ms"),
        (1, "1.00 s"),
        (4.2e-13, "0.42 ps"),
        (1.5e17, "150 Ps"),
    ],
)
def test_si_prefixes(value: float, text: str) -> None:
    assert si(value, "s") == text


@pytest.mark.parametrize(
    "count, text",
    [(0, "0 B"), (1023, "1023 B"), (1536, "1.50 KiB"), (2**20, "1.00 MiB"), (2**50, "1024 TiB")],
)
def test_binary_prefixes(count: int, text: str) -> None:
    assert size(count) == text


@given(st.floats(1e-14, 1e17))
def test_si_keeps_three_digits(value: float) -> None:
    number, unit = si(value, "s").split(" ")
    scale = {
        "p": 1e-12,
        "n": 1e-9,
        "µ": 1e-6,
        "m": 1e-3,
        "": 1,
        "k": 1e3,
        "M": 1e6,
        "G": 1e9,
        "T": 1e12,
        "P": 1e15,
    }
    assert float(number) * scale[unit[:-1]] == pytest.approx(value, rel=5.1e-3, abs=5.1e-15)
