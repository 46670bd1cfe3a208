"""What the documents say about commands and options is so."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from h4hc.cli import main
from tests.cli.reference import commands, names, options, reference

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "commands.md"
COMMANDS = dict(commands())
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z0-9-]*")
GROUPS = {name.split()[0] for name in COMMANDS if " " in name}


def known(name: str) -> set[str]:
    """The options of a command; those of `h4hc` itself may stand in front."""
    return {word for option in options(COMMANDS[name]) for word in names(option)} | {
        "--help",
        "--debug",
        "--version",
    }


def documents() -> list[Path]:
    return [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def called(text: str) -> Iterator[tuple[str, list[str]]]:
    """The commands in `text`, with the options behind each."""
    for call in re.findall(r"\bh4hc ([a-z][^`#\n]*)", text):
        words = call.split()
        name = " ".join(words[: 2 if words[0] in GROUPS else 1])
        name = "search run" if words[0] == "search" and name not in COMMANDS else name
        if name in COMMANDS:
            yield name, OPTION.findall(call)


def other_programs() -> str:
    """What the scripts of the repository are called with, and the tools that documents tell to run."""
    scripts = [*(ROOT / "benchmarks").rglob("*.py"), *(ROOT / "examples").rglob("*.py")]
    return (
        "\n".join(path.read_text("utf-8") for path in scripts)
        + "torchrun --nproc-per-node; vela --verbose-performance"
    )


def test_the_page_of_all_commands_is_what_the_commands_say() -> None:
    assert PAGE.read_text("utf-8") == reference(), "run: python -m tests.cli.reference > docs/commands.md"


@pytest.mark.parametrize("path", documents(), ids=lambda path: path.name)
def test_options_in_documents_exist(path: Path) -> None:
    text = path.read_text("utf-8")
    wrong = [
        f"h4hc {name} {option}" for name, used in called(text) for option in used if option not in known(name)
    ]
    assert not wrong
    everywhere = set().union(*map(known, COMMANDS))
    elsewhere = other_programs()
    assert not {
        option for option in OPTION.findall(text) if option not in everywhere and option not in elsewhere
    }


def test_the_check_of_documents_sees_what_does_not_exist() -> None:
    text = "`h4hc compile m.onnx --objectiv energy` and `h4hc bundle show b --strip` # --json"
    assert list(called(text)) == [("compile", ["--objectiv"]), ("bundle show", ["--strip"])]
    assert "--objectiv" not in known("compile")
    assert "--strip" not in known("bundle show")


def test_the_sample_of_the_readme_is_what_is_printed(tmp_path: Path) -> None:
    """If the compiler finds another schedule, put its summary there."""
    model = ROOT / "examples" / "hybrid_subnet.onnx"
    arguments = [
        "compile",
        str(model),
        "--target",
        "npu+cim",
        "--budget",
        "20ms",
        "-o",
        str(tmp_path / "build"),
    ]
    done = CliRunner().invoke(main, arguments, env={"COLUMNS": "80"}, catch_exceptions=False)
    summary = done.output.partition("\nBundle:")[0].strip()
    assert f"```\n{summary}\n```" in (ROOT / "README.md").read_text("utf-8")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_says_what_it_does(name: str) -> None:
    unsaid = [
        option.opts
        for option in options(COMMANDS[name])
        if not (option.help or "").rstrip().endswith((".", "]"))
    ]
    assert not unsaid
    shown = CliRunner().invoke(main, [*name.split(), "--help"])
    assert shown.exit_code == 0
