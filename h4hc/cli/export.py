"""`h4hc export`: subnets of a trained supernet, or of a space, as ONNX files."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from h4hc.errors import OptionError

if TYPE_CHECKING:
    from h4hc.search.space import Space
    from h4hc.search.subnet import Subnet


@click.command(short_help="Export subnets as ONNX files, with or without weights.")
@click.argument("source")
@click.option("-s", "--subnet", "texts", multiple=True, required=True, metavar="SUBNET",
              help="smallest, largest, the JSON of a subnet, its genes as 0,2,1, or a JSON file of one or several; "
              "FILE#2 is the third of them. Several: one file each.")  # fmt: skip
@click.option("-o", "--output", type=click.Path(path_type=Path), metavar="FILE|FOLDER",
              help="subnet.onnx; or a new folder, for several subnets or --external.")  # fmt: skip
@click.option(
    "--weightless",
    is_flag=True,
    help="Shapes without weights, for h4hc.normalise(model, weightless=True) in Python.",
)
@click.option("--random-weights", is_flag=True, help="Weights from --seed instead of a training.")
@click.option(
    "--external", is_flag=True, help="Keep weights in one file beside the models; equal ones are shared."
)
@click.option("--data", metavar="KIND[:PATH]",
              help="Calibrate batch norm on these data instead of those of the training.")  # fmt: skip
@click.option("--calibration", type=click.IntRange(2), metavar="N",
              help="Training samples for the statistics of batch norm.  [default: as in the training]")  # fmt: skip
@click.option(
    "--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True, help="Of random weights."
)
@click.option("--check/--no-check", default=True, show_default=True,
              help="Compare onnxruntime with PyTorch before anything is written.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print what was written as JSON.")
@click.option("-q", "--quiet", is_flag=True, help="Print nothing but errors.")
def command(  # the parameters are the command's options
    source: str,
    texts: tuple[str, ...],
    output: Path | None,
    weightless: bool,
    random_weights: bool,
    external: bool,
    data: str | None,
    calibration: int | None,
    seed: int,
    check: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Export subnets of SOURCE: the output folder of h4hc train, one of its checkpoints, or a search space.

    Weights are those of the training, with batch norm calibrated for each subnet on training samples and folded. From
    a space alone, models are --weightless or have --random-weights.
    """
    if weightless and (random_weights or external):
        raise OptionError(
            "--weightless excludes --random-weights and --external", code="option", hint="choose one"
        )
    trained = Path(source).is_dir()
    if not trained and not weightless and not random_weights:
        raise OptionError(f"{source} is no folder of a training, so there are no weights", code="no-weights",
                          hint="export with --weightless or --random-weights")  # fmt: skip
    if (data or calibration) and (weightless or random_weights):
        raise OptionError(
            "--data and --calibration are for trained weights", code="option", hint="leave them out"
        )
    if weightless and not trained:
        from h4hc.search.space import load_space

        space: Space = load_space(source)
        network: Callable[[Subnet], Any] = _no_network
    else:
        _check_torch()
        space, network = _networks(source, trained, weightless, random_weights, data, calibration, seed)
    _export(space, texts, network, output, external, check, as_json, quiet)


def _no_network(_: Subnet) -> None:
    return None


def _networks(
    source: str,
    trained: bool,
    weightless: bool,
    random: bool,
    data: str | None,
    calibration: int | None,
    seed: int,
) -> tuple[Space, Callable[[Subnet], Any]]:
    """The space, and what gives the network of a subnet."""
    from h4hc.search.export import random_network
    from h4hc.search.space import load_space

    if not trained:
        space = load_space(source)
        return space, lambda subnet: random_network(space, subnet, seed)
    from h4hc.search.training.trained import calibrated_networks, load_trained

    found = load_trained(Path(source), lambda line: click.echo(line, err=True))
    space = found.network.space
    if weightless:
        return space, _no_network
    if random:
        return space, lambda subnet: random_network(space, subnet, seed)
    return space, calibrated_networks(found, _data(found.recipe.data, data), calibration)


def _data(config: Any, text: str | None) -> Any:
    """The data of the training, or others of the same kind of samples."""
    if text is None:
        return config
    from h4hc.search.training.recipes import parse_data

    kind, _, path = text.partition(":")
    return parse_data({**config.model_dump(mode="json"), "kind": kind, "path": path or None}, "--data")


def _export(
    space: Space,
    texts: tuple[str, ...],
    network: Callable[[Subnet], Any],
    output: Path | None,
    external: bool,
    check: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    from h4hc.search.selection import select_subnets

    subnets = list(dict.fromkeys(subnet for text in texts for subnet in select_subnets(space, text)))
    single = len(subnets) == 1 and not external
    path = output or Path("subnet.onnx" if single else "build/export")
    if single == (path.suffix != ".onnx"):
        what = (
            "one subnet is written to a file" if single else "several subnets, or --external, need a folder"
        )
        raise OptionError(f"{path}: {what}", code="option",
                          hint="-o subnet.onnx" if single else "-o build/export")  # fmt: skip
    from h4hc.search.export import describe, write_model, write_set

    if single:
        written = [write_model(path, space, subnets[0], network(subnets[0]), check)]
    else:
        written = write_set(path, space, subnets, network, external=external, check=check)
    if as_json:
        click.echo(json.dumps([describe(one, space) for one in written], indent=2, sort_keys=True))
    elif not quiet:
        for one in written:
            agreement = "" if one.deviation is None else f", {one.deviation:.1e} from PyTorch"
            click.echo(
                f"{one.file}: {space.macs(one.subnet) / 1e6:,.2f} MMAC, {space.parameters(one.subnet):,} weights{agreement}"
            )


def _check_torch() -> None:
    for package in ("torch", "safetensors"):
        if find_spec(package) is None:
            raise OptionError(f"exporting weights needs {package}, which is not installed", code="missing-package",
                              hint="pip install 'h4hc[search]', or export with --weightless")  # fmt: skip
