"""Tables and paragraphs fit the terminal."""

from __future__ import annotations

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from h4hc.cli.layout import Column, Fit, cells, paragraph, shortened, table

WORDS = st.text(
    st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp", "Zs", "Mn", "Me", "Cf"]), max_size=40
)


def lines(*arguments: object) -> list[str]:
    return click.unstyle(table(*arguments)).split("\n")  # type: ignore[arg-type]


def test_numbers_stand_to_the_right_and_lines_end_without_blanks() -> None:
    columns = [Column("name", Fit.TEXT), Column("ms"), Column("", Fit.TEXT)]
    assert lines(columns, [("a", "1.81", "chosen"), ("bb", "24.6", "")], 80) == [
        "name    ms",
        "a     1.81  chosen",
        "bb    24.6",
    ]


def test_a_row_may_end_early() -> None:
    assert lines([Column("a", Fit.TEXT), Column("b")], [("x",), ("y", "1")], 80) == ["a  b", "x", "y  1"]


def test_a_table_without_rows_has_its_headings() -> None:
    assert lines([Column("name", Fit.NAME), Column("ms")], [], 80) == ["name  ms"]


def test_long_names_give_way_before_columns_do_and_columns_before_numbers() -> None:
    columns = [Column("operator", Fit.NAME), Column("type", Fit.TEXT, spare=True), Column("time")]
    rows = [("stage3.vit.0.attention.softmax", "GlobalAveragePool", "1.00 ms")]
    assert lines(columns, rows, 60)[1] == "stage3.vit.0.attention.softmax  GlobalAveragePool  1.00 ms"
    assert lines(columns, rows, 50)[1] == "stage3.v…ntion.softmax  GlobalAveragePool  1.00 ms"
    assert lines(columns, rows, 40)[1] == "stage3.vit.0.attention.softmax  1.00 ms"
    assert lines(columns, rows, 22)[1] == "stage…softmax  1.00 ms"


def test_a_list_loses_its_last_items() -> None:
    columns = [Column("device", Fit.TEXT), Column("idle for", Fit.LIST)]
    rows = [("host", "next frame 89%, axi 6%, npu 4%")]
    assert lines(columns, rows, 30)[1] == "host    next frame 89%, axi 6%"
    assert lines(columns, rows, 24)[1] == "host    next frame 89%"


def test_prose_is_broken_into_lines_of_its_column() -> None:
    columns = [Column("target", Fit.TEXT), Column("description", Fit.PROSE)]
    assert lines(columns, [("npu", "An NPU with a host in 22 nm")], 26) == [
        "target  description",
        "npu     An NPU with a",
        "        host in 22 nm",
    ]


def test_colours_take_no_room() -> None:
    coloured = click.style("passed", fg="green")
    assert lines([Column("", Fit.TEXT), Column("n")], [(coloured, "1"), ("failed", "12")], 20)[1:] == [
        "passed   1",
        "failed  12",
    ]


def test_names_that_differ_in_the_middle_still_differ() -> None:
    names = [f"stage3.vit.{number}.attention.softmax" for number in range(3)]
    short = shortened(names, 20)
    assert len(set(short)) == 3
    assert all("…" in name and cells(name) <= 20 for name in short)
    assert shortened(["short", names[0]], 20)[0] == "short"


def test_a_paragraph_has_no_lonely_word_and_keeps_units_with_their_numbers() -> None:
    text = "edgenext_xx_small on npu+cim: 8.07 ms and 586 µJ per frame, 124 frames/s, 255 MMAC"
    assert paragraph(text, 80).splitlines() == [
        "edgenext_xx_small on npu+cim: 8.07 ms and",
        "586 µJ per frame, 124 frames/s, 255 MMAC",
    ]
    assert paragraph("Critical path: npu 48%, cim 5%.", 23).splitlines() == [
        "Critical path:",
        "npu 48%, cim 5%.",
    ]
    assert paragraph("", 80) == ""


@given(st.lists(st.tuples(WORDS, WORDS, WORDS, WORDS), max_size=5), st.integers(10, 120))
def test_no_line_is_wider_than_the_terminal(rows: list[tuple[str, ...]], width: int) -> None:
    columns = [Column("name", Fit.NAME), Column("list", Fit.LIST), Column("spare", spare=True), Column("n")]
    printed = lines(columns, rows, width)
    assert len(printed) == 1 + len(rows)
    assert all(cells(line) <= width for line in printed)


@given(st.text(st.characters(codec="ascii", categories=["L", "N", "Zs"]), max_size=200), st.integers(20, 100))
def test_a_paragraph_keeps_every_word(text: str, width: int) -> None:
    assert "".join(paragraph(text, width).split()) == "".join(text.split())


@pytest.mark.parametrize(
    ("text", "width"), [("abc", 3), ("é", 1), ("e\u0301", 1), ("模型", 4), ("\x1b[1mab\x1b[0m", 2)]
)
def test_the_columns_of_a_text(text: str, width: int) -> None:
    assert cells(text) == width
