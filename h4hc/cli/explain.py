"""`h4hc explain`: what operators cost on every device, what decides it, and where the numbers come from."""

from __future__ import annotations

import json
from pathlib import Path

import click

from h4hc.errors import OptionError
from h4hc.ir.compilation import PRECISIONS, WEIGHTS, Options

TOP = 20


@click.command(short_help="Show what one operator costs on every device, and why.")
@click.argument("model", type=click.Path(path_type=Path))
@click.option("-t", "--target", help="Built-in target, or a YAML file.  [default: npu+cim]")
@click.option(
    "--op", "name", metavar="NAME", help="An operator or node, by its name or a part that no other has."
)
@click.option("--device", metavar="NAME", help="Only this device.")
@click.option("--top", type=click.IntRange(min=1), default=TOP, show_default=True,
              help="Without --op: how many operators to list.")  # fmt: skip
@click.option(
    "--sources", is_flag=True, help="All parameters with their sources, not only the deciding ones."
)
@click.option("--precision", type=click.Choice(PRECISIONS), help="As for compile.  [default: int8]")
@click.option("--weights", type=click.Choice(WEIGHTS), help="As for compile.  [default: stored]")
@click.option("--shape", "shapes", multiple=True, metavar="NAME=1x3x224x224",
              help="Shape of an input with dynamic dimensions.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print JSON (SI units) for programs.")
def command(  # the parameters are the command's options
    model: Path,
    target: str | None,
    name: str | None,
    device: str | None,
    top: int,
    sources: bool,
    precision: str | None,
    weights: str | None,
    shapes: tuple[str, ...],
    as_json: bool,
) -> None:
    """Explain the cost of an operator of MODEL (an ONNX file, or the folder of a bundle).

    Without --op, list the operators that take longest. For a bundle, target and options are those it
    was compiled with, and the device that was chosen is marked.
    """
    from h4hc.cli import explanation
    from h4hc.cli.compile import parse_shape
    from h4hc.cli.explain_text import list_text, operator_text

    if model.is_dir():
        if target or precision or weights or shapes:
            raise OptionError(
                f"{model} is a bundle, which has its own target and options",
                code="option",
                hint="give the ONNX file to explain it for another target",
            )
        subject = explanation.subject_of_bundle(model)
    else:
        options = Options(
            precision=precision or "int8",
            weights=weights or "stored",
            shapes=dict(parse_shape(text) for text in shapes),
        )
        subject = explanation.subject_of_model(model, target or "npu+cim", options)
    explanation.check_device(subject, device)
    devices = subject.devices if device is None else [device]
    if name is None:
        rows = explanation.list_operators(subject, devices, top)
        total = len(subject.operators)
        listed = {"model": subject.model, "target": subject.target["name"], "operators": rows, "total": total}
        _print(listed, as_json, list_text)
        return
    operator = explanation.find_operator(subject, name)
    _print(explanation.explain_operator(subject, operator, devices, sources), as_json, operator_text)


def _print(record: dict[str, object], as_json: bool, text: object) -> None:
    if as_json:
        click.echo(json.dumps(record, indent=2, sort_keys=True, ensure_ascii=False))
    elif callable(text):
        click.echo(text(record))
