"""``h4hc profile plan`` and ``h4hc profile run``: what to measure, and measuring it on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from h4hc.cli.durations import parse_duration
from h4hc.cli.progress import counting
from h4hc.errors import OptionError

if TYPE_CHECKING:
    from h4hc.ir.cost import CostModel
    from h4hc.profiling.run import Outcome

_FORMS = ("int8", "model")
_DEVICES = ("ort-cpu",)


@click.command(short_help="Write the single-operator models that a device must measure.")
@click.argument("models", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), default=Path("plan"), show_default=True,
              help="Folder of the plan, new or empty.")  # fmt: skip
@click.option("--precision", type=click.Choice(_FORMS), default="int8", show_default=True,
              help="Operators as the int8 they are deployed as, or as stored in the model.")  # fmt: skip
@click.option(
    "-t", "--target", metavar="TARGET", help="Leave out what a device of this target refuses to run."
)
@click.option("--on", "device", metavar="DEVICE", help="Its device, if it has several.")
@click.option("--shape", "shapes", multiple=True, metavar="NAME=1x3x224x224",
              help="Shape of an input with dynamic dimensions.")  # fmt: skip
def plan(
    models: tuple[Path, ...],
    output: Path,
    precision: str,
    target: str | None,
    device: str | None,
    shapes: tuple[str, ...],
) -> None:
    """Write one ONNX model per distinct operator of MODELS, with a manifest and a table to fill in.

    Operators are those that the compiler makes: a convolution with its bias and activation is one.
    """
    from h4hc.cli.compile import parse_shape
    from h4hc.frontend import load_model
    from h4hc.profiling.plan import plan_models, write_plan

    name, backend = _device(target, device)
    given = dict(parse_shape(text) for text in shapes)
    loaded = [load_model(model, given) for model in models]
    form: Any = precision
    manifest = write_plan(plan_models(loaded, form, backend, name), output)
    kernels = manifest["kernels"]
    uses = sum(len(entry["needed_by"]) for entry in kernels)
    click.echo(
        f"{len(kernels)} operators to measure cover {uses} of {len(models)} model{'s'[: len(models) > 1]}"
    )
    for title, entries in (
        ("left out", manifest["left_out"]),
        ("refused by the device", manifest["refused"]),
    ):
        for reason in dict.fromkeys(entry["reason"] for entry in entries):
            count = sum(entry["reason"] == reason for entry in entries)
            click.echo(f"{title}: {count} ({reason})")
    click.echo(f"Plan: {output}   Manifest: {output / 'manifest.json'}   Table: {output / 'template.csv'}")


def _device(target: str | None, device: str | None) -> tuple[str, CostModel | None]:
    if target is None:
        if device is not None:
            raise OptionError("--on needs --target", code="option", hint="name the target it belongs to")
        return "", None
    from h4hc.backends import load_backends, load_target

    backends = load_backends(load_target(target))
    if device is None and len(backends) == 1:
        device = next(iter(backends))
    if device not in backends:
        what = f"there is no device {device}" if device else "several devices"
        raise OptionError(
            f"target {target}: {what}", code="option", hint=f"choose with --on from {', '.join(backends)}"
        )
    return device, backends[device]


@click.command(short_help="Measure planned models on this machine.")
@click.argument("folder", metavar="PLAN", type=click.Path(path_type=Path))
@click.option("-d", "--device", type=click.Choice(_DEVICES), required=True,
              help="ort-cpu: onnxruntime on one core of this machine.")  # fmt: skip
@click.option("-o", "--output", type=click.Path(path_type=Path), default=Path("profile.csv"), show_default=True,
              help="The profile; one that a stopped run left behind is continued.")  # fmt: skip
@click.option("--time-limit", "limit", metavar="TIME", help="Stop after this time, for example 90s or 10min.")
@click.option("-q", "--quiet", is_flag=True, help="Print nothing but errors.")
def run(folder: Path, device: str, output: Path, limit: str | None, quiet: bool) -> None:
    """Measure every model of the plan in the folder PLAN with onnxruntime, one thread on one core.

    Rows are written as they are finished: stop it whenever you like, and run it again to go on.
    """
    from h4hc.profiling.run import load_plan, run_plan

    seconds = None if limit is None else parse_duration(limit, "--time-limit", example="10min")
    loaded = load_plan(folder)
    if quiet:
        run_plan(loaded, output, seconds)
        return
    # A thread that redraws would take time from what is measured.
    with counting("operators", len(loaded.kernels), live=False) as show:
        outcome = run_plan(loaded, output, seconds, lambda count: show(advance=count, refresh=True))
    _tell(outcome, output)


def _tell(outcome: Outcome, output: Path) -> None:
    text = f"{outcome.measured} operators measured"
    if outcome.kept:
        text += f", {outcome.kept} were there"
    if outcome.failed:
        text += f", {outcome.failed} failed (see their comments)"
    click.echo(text)
    if outcome.missing:
        click.echo(f"{outcome.missing} are missing: run it again to go on")
    click.echo(f"Profile: {output}")
