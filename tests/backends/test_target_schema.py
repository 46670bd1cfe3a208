"""The JSON Schema of target files."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from h4hc.backends import schema
from h4hc.backends.files import FOLDER, read_yaml

TARGETS = sorted((FOLDER / "targets").glob("*.yaml"))


def test_schema_file_is_fresh() -> None:
    text = schema.PATH.read_text(encoding="utf-8")
    assert text == schema.schema_text(), "stale: run python -m h4hc.backends.schema"
    Draft202012Validator.check_schema(schema.target_schema())


@pytest.mark.parametrize("path", TARGETS, ids=lambda path: path.stem)
def test_shipped_targets_validate(path: Path) -> None:
    errors = list(Draft202012Validator(schema.target_schema()).iter_errors(read_yaml(path)))
    assert errors == []


def test_schema_refuses_what_the_reader_refuses() -> None:
    validator = Draft202012Validator(schema.target_schema())
    good = read_yaml(FOLDER / "targets" / "npu+cim.yaml")
    for path, value in (
        (("handoff",), 1),
        (("handoff",), "1 parsec"),
        (("handof",), "1 us"),
        (("memories", 0, "kind"), "tape"),
        (("devices", 1, "parameters", "macros"), 0),
        (("devices", 1, "parameters", "macro"), 4),
    ):
        bad = copy.deepcopy(good)
        part = bad
        for key in path[:-1]:
            part = part[key]  # type: ignore[index]
        part[path[-1]] = value  # type: ignore[index]
        assert not validator.is_valid(bad), path
