"""Study files."""

from __future__ import annotations

from pathlib import Path

import pytest

from h4hc.errors import OptionError, StudyError
from h4hc.search.study.config import parse_budget, parse_config, read_config


@pytest.mark.parametrize(
    ("text", "evaluations", "seconds"),
    [
        ("500", 500, None),
        (" 1 ", 1, None),
        ("10m", None, 600),
        ("90s", None, 90),
        ("1.5h", None, 5400),
        ("2 min", None, 120),
    ],
)
def test_budgets(text: str, evaluations: int | None, seconds: float | None) -> None:
    budget = parse_budget(text)
    assert (budget.evaluations, budget.seconds) == (evaluations, seconds)


@pytest.mark.parametrize(
    "text", ["", "0", "-5", "1.5", "10x", "m", "1e9", "9999999999", "0s", "many", "10 000"]
)
def test_budgets_that_make_no_sense(text: str) -> None:
    with pytest.raises(OptionError, match="is no budget"):
        parse_budget(text)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"objectve": ["latency"]}, "objectve: unknown key; did you mean objectives?"),
        ({"compile": {"efort": "fast"}}, "compile.efort: unknown key; did you mean effort?"),
        ({"budget": "soon"}, "budget: 'soon' is no budget"),
        ({"budget": True}, "budget"),
        ({"population": 1}, "population"),
        ({"seed": -1}, "seed"),
        ({"objectives": []}, "objectives"),
        ({"objectives": 3}, "objectives"),
        ({"schema": 2}, "schema"),
    ],
)
def test_mistakes_are_told_in_one_line(change: dict[str, object], message: str) -> None:
    with pytest.raises(StudyError) as caught:
        parse_config({"schema": 1, "space": "h4h-tiny", **change}, "study.yaml")
    assert message in str(caught.value)
    assert str(caught.value).startswith("study.yaml: ")
    assert "\n" not in str(caught.value)


def test_options_that_are_not_set_do_not_count() -> None:
    """A study that was begun before there was a frame rate goes on."""
    plain = parse_config({"schema": 1, "space": "h4h-tiny"}, "a")
    assert plain.digest == "319942d860e478e6426dfec0c30bab7c96aba16cf4dc141b176bf683cae38d88"
    assert parse_config({**plain.document(), "budget": "7"}, "b").digest == plain.digest
    assert parse_config({**plain.document(), "compile": {"fps": 60}}, "c").digest != plain.digest


def test_files_are_found_beside_the_study(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("x")
    (tmp_path / "accuracies.csv").write_text("x")
    (tmp_path / "study.yaml").write_text(
        "schema: 1\nspace: mine.yaml\naccuracy: table:accuracies.csv\ntargets: [npu+cim, mine.yaml]\nbudget: 10\n"
    )
    config = read_config(tmp_path / "study.yaml", {"seed": 3})
    assert config.space == str(tmp_path / "mine.yaml")
    assert config.accuracy == f"table:{tmp_path / 'accuracies.csv'}"
    assert config.targets == ("npu+cim", str(tmp_path / "mine.yaml"))
    assert (config.budget, config.seed) == ("10", 3)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="cannot be read"):
        read_config(tmp_path / "study.yaml")


def test_the_budget_is_no_part_of_the_digest() -> None:
    one, other = (parse_config({"space": "h4h-tiny", "budget": b}, "") for b in (10, "2h"))
    assert one.digest == other.digest
    assert one.digest != parse_config({"space": "h4h-tiny", "seed": 1}, "").digest


@pytest.mark.parametrize(
    ("engine", "budget", "population"),
    [("nsga2", 500, 50), ("nsga2", 100, 10), ("nsga2", 5000, 100), ("nsga2", "10m", 100), ("bayes", 500, 10)],
)
def test_the_population_follows_from_the_budget(engine: str, budget: object, population: int) -> None:
    config = parse_config({"space": "h4h-tiny", "engine": engine, "budget": budget}, "")
    assert config.resolved().population == population
    assert config.model_copy(update={"population": 7}).resolved().population == 7
