"""`h4hc search report`: the page of a study."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from h4hc.search.study.report.figures import correlation_ratio, page_data, volume_curve
from h4hc.search.study.study import Reading, read_study
from tests.search.study.toys import h4hc, searched


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return searched(tmp_path_factory.mktemp("report") / "two.db", "-t", "npu", "-t", "npu+cim")


@pytest.fixture(scope="module")
def reading(study: Path) -> Reading:
    return read_study(study)


def embedded(page: str) -> Any:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    return json.loads(found[1])


def test_the_page(study: Path, reading: Reading, tmp_path: Path) -> None:
    done = h4hc("report", study, "-o", tmp_path / "r.html")
    assert done.exit_code == 0, done.output
    page = (tmp_path / "r.html").read_text()
    assert not re.search(r"(src|href)=\"(?!#)", page), "the page loads nothing"
    assert "{{" not in page
    data = embedded(page)
    assert [p["number"] for p in data["points"] if p["front"]] == sorted(e.number for e in reading.front())
    names = [m["name"] for m in data["measures"]]
    assert {"score", "latency@npu", "latency@npu+cim", "macs"} <= set(names)
    first = reading.front()[0]
    shown = next(p for p in data["points"] if p["number"] == first.number)
    assert shown["values"][names.index("latency@npu")] == first.measures["latency@npu"]
    assert set(data["fronts"]) == {"npu", "npu+cim"}
    assert h4hc("report", study, "-o", tmp_path / "again.html").exit_code == 0
    assert (tmp_path / "again.html").read_text() == page


def test_its_place_by_default(study: Path) -> None:
    assert h4hc("report", study).exit_code == 0
    assert study.with_suffix(".html").is_file()


def test_fronts_of_single_targets(reading: Reading) -> None:
    """No candidate beats one on a target's front in score and that target's latency."""
    by_number = {e.number: e for e in reading.evaluations}
    for target, numbers in page_data(reading)["fronts"].items():
        assert numbers
        for number in numbers:
            e = by_number[number]
            assert not [
                o for o in reading.evaluations
                if o.status == "ok" and (o.score or 0) > (e.score or 0)
                and o.measures[f"latency@{target}"] < e.measures[f"latency@{target}"]
            ]  # fmt: skip


def test_hypervolume_only_grows(reading: Reading) -> None:
    volumes = [volume for _, volume in volume_curve(reading)]
    assert volumes == sorted(volumes)
    assert volumes[-1] > volumes[0] >= 0


def test_pictures(study: Path, tmp_path: Path) -> None:
    for name in ("p.png", "p.svg"):
        assert h4hc("report", study, "-o", tmp_path / "r.html", "--png", tmp_path / name).exit_code == 0
    first = (tmp_path / "p.svg").read_bytes()
    assert b"<svg" in first
    assert (tmp_path / "p.png").read_bytes()[:4] == b"\x89PNG"
    h4hc("report", study, "-o", tmp_path / "r.html", "--png", tmp_path / "p.svg")
    assert (tmp_path / "p.svg").read_bytes() == first


def test_mistakes(study: Path, tmp_path: Path) -> None:
    assert "use .png or .svg" in h4hc("report", study, "--png", tmp_path / "p.gif").output
    assert h4hc("report", tmp_path / "none.db").exit_code == 2
    assert h4hc("report", study, "-o", tmp_path / "no" / "r.html").exit_code == 2


def test_correlation_ratio() -> None:
    assert correlation_ratio([0, 0, 1, 1], [1.0, 1.0, 5.0, 5.0]) == 1
    assert correlation_ratio([0, 1, 0, 1], [1.0, 1.0, 5.0, 5.0]) == 0
    assert correlation_ratio([0, 0, 0], [1.0, 2.0, 3.0]) == 0
    assert correlation_ratio([], []) == correlation_ratio([0, 1], [2.0, 2.0]) == 0
    # by hand: means 2 and 6 around 4; between 2 * 4 + 2 * 4 = 16, total 9 + 1 + 1 + 9 = 20
    assert correlation_ratio([0, 0, 1, 1], [1.0, 3.0, 5.0, 7.0]) == pytest.approx(0.8)


@given(st.lists(st.tuples(st.integers(0, 3), st.floats(-1e6, 1e6)), max_size=30))
def test_correlation_ratio_is_a_share(pairs: list[tuple[int, float]]) -> None:
    assert 0 <= correlation_ratio([g for g, _ in pairs], [v for _, v in pairs]) <= 1
