"""The command line. Each command lives in its own module and is imported only when it is used."""

from __future__ import annotations

import importlib
import sys
from typing import Any

import click

from h4hc.errors import H4hcError

# name -> (module, one-line help); the help stands here so that `h4hc --help` imports no command.
COMMANDS = {
    "compile": ("h4hc.cli.compile", "Compile an ONNX model for a target and write the bundle."),
    "verify": ("h4hc.cli.verify", "Check a bundle independently of the compiler."),
    "report": ("h4hc.cli.report", "Summarise a bundle, or write its HTML report again."),
    "targets": ("h4hc.cli.targets", "List, show and validate targets."),
}


class LazyGroup(click.Group):
    """A group whose commands are imported on first use."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(COMMANDS[cmd_name][0])
        command = module.command
        if not isinstance(command, click.Command):
            raise TypeError(f"{module.__name__}.command is not a click command")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except H4hcError as error:
            if ctx.params.get("debug"):
                raise
            click.echo(f"error: {error}", err=True)
            ctx.exit(error.exit_code)


@click.command(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="h4hc", prog_name="h4hc")
@click.option("--debug", is_flag=True, help="Show Python tracebacks.")
def main(debug: bool) -> None:
    """Compile neural networks for an NPU and a compute-in-memory accelerator side by side."""
    if not debug:
        sys.tracebacklimit = 0
