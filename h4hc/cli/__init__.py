"""The command line. Each command lives in its own module and is imported only when it is used."""

from __future__ import annotations

import errno
import signal
import sys
import threading
from types import FrameType
from typing import Any, NoReturn

import click

from h4hc.cli.lazy import LazyCommands
from h4hc.errors import H4hcError, one_line

# name -> (module, attribute, one-line help)
COMMANDS = {
    "compile": ("h4hc.cli.compile", "command", "Compile an ONNX model for a target and write the bundle."),
    "verify": ("h4hc.cli.verify", "command", "Check a bundle independently of the compiler."),
    "run": (
        "h4hc.cli.run",
        "command",
        "Execute a bundle on this machine, device by device, and check its outputs.",
    ),
    "report": ("h4hc.cli.report", "command", "Summarise a bundle, or write its HTML report again."),
    "bundle": ("h4hc.cli.bundle", "command", "Look into bundles, compare them, convert what firmware reads."),
    "explain": ("h4hc.cli.explain", "command", "Show what one operator costs on every device, and why."),
    "explore": ("h4hc.cli.explore", "command", "Compile a model for many variants of a target."),
    "profile": (
        "h4hc.cli.profile",
        "command",
        "Measured costs: plan, run, import, calibrate and show profiles.",
    ),
    "train": ("h4hc.cli.train", "command", "Train a supernet by a recipe."),
    "search": ("h4hc.cli.search", "command", "Search for subnets with the compiler in the loop."),
    "export": ("h4hc.cli.export", "command", "Export subnets of a supernet or a space as ONNX files."),
    "targets": ("h4hc.cli.targets", "command", "List, show and validate targets."),
}


# Characters of an error that are shown: enough for any message of ours, not for what a file may put into one.
_SHOWN = 600


class MainGroup(LazyCommands):
    """All commands; what goes wrong in them is told on one line."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except click.exceptions.NoArgsIsHelpError:
            raise
        except click.UsageError as error:
            used = error.ctx or ctx
            _fail(ctx, f"{error.format_message()}; see {used.command_path} --help", error.exit_code)
        except H4hcError as error:
            if ctx.params.get("debug"):
                raise
            _fail(ctx, str(error), error.exit_code)
        except OSError as error:
            if ctx.params.get("debug") or error.errno == errno.EPIPE:
                raise
            _fail(
                ctx, f"{error.filename or 'input or output'}: {error.strerror or error}", H4hcError.exit_code
            )
        except MemoryError:
            if ctx.params.get("debug"):
                raise
            _fail(ctx, "the model takes more memory than there is; compile it in parts", H4hcError.exit_code)


def _fail(ctx: click.Context, message: str, exit_code: int) -> NoReturn:
    """Say on one line of bearable length what is wrong, and leave."""
    text = one_line(message)
    if len(text) > _SHOWN:
        text = f"{text[: _SHOWN - 200]} ... {text[-195:]}"
    click.echo(f"error: {text}", err=True)
    ctx.exit(exit_code)


def _terminated(number: int, _frame: FrameType | None) -> NoReturn:
    """Leave by way of an exception, so that half-written folders are removed."""
    raise SystemExit(128 + number)


@click.command(cls=MainGroup, table=COMMANDS, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="h4hc", prog_name="h4hc")
@click.option("--debug", is_flag=True, help="Show Python tracebacks.")
def main(debug: bool) -> None:
    """Compile neural networks for an NPU and a compute-in-memory accelerator side by side."""
    if not debug:
        sys.tracebacklimit = 0
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _terminated)
