"""`--pin`, `--forbid` and `--assign`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from h4hc.cli import main
from tests.models import EXAMPLE


def compiled(folder: Path, *arguments: str) -> Result:
    fixed = ["compile", str(EXAMPLE), "--effort", "fast", "-q", "-o", str(folder)]
    return CliRunner().invoke(main, [*fixed, *arguments])


def devices(folder: Path) -> dict[str, str]:
    document = json.loads((folder / "schedule.json").read_text())
    return {o["name"]: o["device"] for o in document["operators"]}


def test_pins_and_bans_reach_the_bundle(tmp_path: Path) -> None:
    assert compiled(tmp_path / "free").exit_code == 0
    free = devices(tmp_path / "free")
    moved = next(name for name, device in free.items() if device == "cim")
    assert compiled(tmp_path / "pinned", "--pin", f"{moved}=npu").exit_code == 0
    assert devices(tmp_path / "pinned")[moved] == "npu"
    assert compiled(tmp_path / "banned", "--forbid", "*=cim").exit_code == 0
    assert "cim" not in devices(tmp_path / "banned").values()
    manifest = json.loads((tmp_path / "banned" / "manifest.json").read_text())
    assert manifest["options"]["constraints"] == ["--forbid *=cim"]


def test_a_placement_is_repeated_and_changed_in_one_place(tmp_path: Path) -> None:
    assert compiled(tmp_path / "free").exit_code == 0
    free = devices(tmp_path / "free")
    assert compiled(tmp_path / "again", "--assign", str(tmp_path / "free")).exit_code == 0
    assert devices(tmp_path / "again") == free
    moved = next(name for name, device in free.items() if device == "cim")
    file = tmp_path / "assign.json"
    file.write_text(json.dumps(free))
    assert compiled(tmp_path / "file", "--assign", str(file), "--pin", f"{moved}=npu").exit_code == 0
    assert devices(tmp_path / "file") == free | {moved: "npu"}


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("{", "is not valid JSON"),
        ("[]", "does not hold a mapping"),
        ("{}", "does not hold a mapping"),
        ('{"a": 1}', "has no text as its device"),
        ('{"a": ""}', "is no constraint"),
        ('{"nowhere": "npu"}', "no operator or node is called that"),
    ],
)
def test_bad_assignments(tmp_path: Path, content: str, expected: str) -> None:
    file = tmp_path / "assign.json"
    file.write_text(content)
    result = compiled(tmp_path / "out", "--assign", str(file))
    assert result.exit_code == 2
    assert expected in result.output
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("text", ["", "conv", "=npu", "conv=", "conv=:resident"])
def test_bad_pins(tmp_path: Path, text: str) -> None:
    result = compiled(tmp_path / "out", "--pin", text)
    assert result.exit_code == 2
    assert "is no constraint" in result.output


def test_an_absent_assignment_is_said(tmp_path: Path) -> None:
    result = compiled(tmp_path / "out", "--assign", str(tmp_path / "nothing.json"))
    assert result.exit_code == 2
    assert "nothing.json: cannot be read" in result.output
