"""The tables for C say in what order the fields of their rows stand."""

from __future__ import annotations

import re
from importlib import resources

import pytest

from h4hc.handoff.ctables import HEADER, PREFIX
from h4hc.handoff.emit import firmware_files
from h4hc.handoff.layout import INTEGERS, ROWS, VECTORS
from tests.handoff.compiled import document

FORMAT = resources.files("h4hc").joinpath("firmware/h4hc_format.h").read_text("utf-8")


@pytest.fixture(scope="module")
def tables() -> str:
    return firmware_files(document("example"))[HEADER].decode()


def declared(struct: str) -> list[str]:
    """The members of a struct of h4hc_format.h."""
    body = re.search(rf"typedef struct {struct} {{(.*?)}} {struct};", FORMAT, re.DOTALL)
    assert body
    return re.findall(r"^\s*\w+ (\w+)(?:\[\d+\])?;", body[1], re.MULTILINE)


def stated(table: str, tables: str) -> str:
    """The comment above a table."""
    found = re.search(rf"^/\* (.*) \*/\nstatic const \w+ {PREFIX}{table}\b", tables, re.MULTILINE)
    assert found
    return found[1]


@pytest.mark.parametrize("table", ["header", *(name for name in VECTORS if ROWS[name] is not int)])
def test_the_fields_are_those_of_the_struct(table: str, tables: str) -> None:
    struct = "h4hc_header" if table == "header" else f"h4hc_{ROWS[table].__name__.lower()}"
    assert stated(table, tables).split(", ") == declared(struct)


@pytest.mark.parametrize("table", INTEGERS)
def test_integers_have_a_meaning(table: str, tables: str) -> None:
    assert stated(table, tables) == INTEGERS[table]


def test_every_table_of_integers_is_described() -> None:
    assert INTEGERS.keys() == {name for name in VECTORS if ROWS[name] is int}
