"""Writes docs/commands.md, the options of every command, from the commands themselves.

python -m tests.cli.reference > docs/commands.md
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import click

from h4hc.cli import main

ABOUT = """# Commands

Every command and its options, as `h4hc COMMAND --help` shows them. Made by `python -m tests.cli.reference > docs/commands.md`.
"""


def commands(
    command: click.Command = main, words: tuple[str, ...] = ()
) -> Iterator[tuple[str, click.Command]]:
    """Every command that does something, with its name (``bundle show``)."""
    if not isinstance(command, click.Group):
        yield " ".join(words), command
        return
    context = click.Context(command)
    for name in command.list_commands(context):
        found = command.get_command(context, name)
        assert found is not None
        yield from commands(found, (*words, name))


def options(command: click.Command) -> list[click.Option]:
    return [parameter for parameter in command.params if isinstance(parameter, click.Option)]


def names(option: click.Option) -> list[str]:
    return [*option.opts, *option.secondary_opts]


def reference() -> str:
    """The page."""
    return "\n".join([ABOUT, *(_section(name, command) for name, command in commands())])


def _section(name: str, command: click.Command) -> str:
    arguments = [
        p.make_metavar(click.Context(command)) for p in command.params if isinstance(p, click.Argument)
    ]
    rows = [f"| {_cell(option)} | {_meaning(option)} |" for option in options(command)]
    head = ["| option | meaning |", "| --- | --- |"] if rows else []
    parts = [
        f"## h4hc {' '.join((name, *arguments))}",
        _escaped(command.short_help or (command.help or "").split("\n")[0]),
    ]
    return "\n\n".join([*parts, *(["\n".join([*head, *rows])] if rows else [])]) + "\n"


def _cell(option: click.Option) -> str:
    value = "" if option.is_flag else f" {_values(option)}"
    return ", ".join(f"`{name}{value}`" for name in names(option)).replace("|", "\\|")


def _values(option: click.Option) -> str:
    return option.metavar or option.make_metavar(click.Context(main)).split(" RANGE")[0]


def _meaning(option: click.Option) -> str:
    told = option.show_default and (option.secondary_opts or not isinstance(option.default, bool | None))
    default = f" Default: {_default(option)}." if told else ""
    return _escaped(re.sub(r"\s*\[default: ([^]]*)\]", r" Default: \1.", option.help or "")) + default


def _default(option: click.Option) -> str:
    if option.secondary_opts:
        return f"`{(option.opts if option.default else option.secondary_opts)[0]}`"
    return f"`{option.default}`"


def _escaped(text: str) -> str:
    return text.strip().replace("|", "\\|").replace("*", "\\*")


if __name__ == "__main__":
    print(reference(), end="")
