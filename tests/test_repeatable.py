"""Property tests draw the same examples wherever the clone lies, and whatever was imported before."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import PROFILE


def drawn() -> list[tuple[int, float, str]]:
    """All examples of a property test."""
    found = []

    @settings(max_examples=300, database=None)
    @given(st.tuples(st.integers(), st.floats(allow_nan=False), st.text()))
    def examples(example: tuple[int, float, str]) -> None:
        found.append(example)

    examples()
    return found


@pytest.mark.skipif(PROFILE != "repeatable", reason="new examples are wanted")
def test_an_imported_module_changes_no_example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "h4hc_constants.py").write_text(f"VALUES = {[*range(70_000, 71_000)]}\n")
    before = drawn()
    monkeypatch.syspath_prepend(tmp_path)
    importlib.import_module("h4hc_constants")
    assert drawn() == before
