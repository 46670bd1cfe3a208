"""`h4hc search pick`: from a study to a bundle."""

from __future__ import annotations

from pathlib import Path

import click

from h4hc.cli.durations import parse_duration
from h4hc.ir.compilation import Options, frame_period


@click.command(short_help="From a study to a verified bundle: choose, export, compile, verify.")
@click.argument("study", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, metavar="FOLDER",
              help="The bundle; the model is written beside it as FOLDER.onnx.")  # fmt: skip
@click.option("--latency", metavar="TIME", help="The most a frame may take, for example 20ms.")
@click.option("--energy", metavar="ENERGY", help="The most a frame may take, for example 500uJ.")
@click.option("-c", "--constraint", "constraints", multiple=True, metavar="LIMIT",
              help="A further limit, as in h4hc search run; may be given several times.")  # fmt: skip
@click.option(
    "--subnet", metavar="ID", help="This candidate (its id or the beginning of it) instead of the best."
)
@click.option("-t", "--target", metavar="NAME", help="Which of the study's targets, if it has several.")
@click.option("--effort", type=click.Choice(["fast", "balanced", "exact"]), default="balanced", show_default=True,
              help="How long to search for its schedule.")  # fmt: skip
@click.option("--frames", type=click.IntRange(1, 8), help="Frames in flight.  [default: the study's]")
@click.option("--fps", type=click.FloatRange(0.001, 1e6), metavar="RATE",
              help="Begin a frame every 1/RATE seconds.  [default: the study's]")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
@click.option("-q", "--quiet", is_flag=True, help="Print nothing but errors.")
def pick(
    study: Path,
    output: Path,
    latency: str | None,
    energy: str | None,
    constraints: tuple[str, ...],
    subnet: str | None,
    target: str | None,
    effort: str,
    frames: int | None,
    fps: float | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Choose the most accurate subnet of STUDY's front within the limits, and make the bundle for firmware of it.

    Its weights are those that it was scored with, batch norm recalibrated; the model is compared with PyTorch, compiled
    for the target of the study, and the bundle is verified. Exit code 1: no subnet meets the limits, the schedule
    misses the latency, or a check failed.
    """
    from h4hc.bundle.folder import check_replaceable
    from h4hc.cli.compile import finish
    from h4hc.compiler import Compiler
    from h4hc.frontend import load_model
    from h4hc.search.study.pick import pick as choose
    from h4hc.search.study.pick import write_pick
    from h4hc.search.study.study import read_study

    check_replaceable(output)
    limits = [f"{name}<={text}" for name, text in (("latency", latency), ("energy", energy)) if text]
    reading = read_study(study)
    chosen = choose(reading, [*limits, *constraints], target, subnet)

    def tell(line: str) -> None:
        if not quiet:
            click.echo(line, err=True)

    model = output.with_name(f"{output.name}.onnx")
    written, trained = write_pick(reading, chosen.evaluation, model, tell)
    if not trained:
        tell("The study was not scored with a supernet: the weights are random.")
    compile_ = reading.config.compile
    options = Options(
        objective=compile_.objective,
        precision=compile_.precision,
        effort=effort,
        frames=compile_.frames if frames is None else frames,
        interval_seconds=frame_period(compile_.fps if fps is None else fps),
        budget_seconds=None if latency is None else parse_duration(latency, "--latency"),
    )
    loaded = load_model(model, {})
    compilation = Compiler(chosen.target).compile(loaded.model, options, loaded.source)
    if not (quiet or as_json):
        score = chosen.evaluation.value("score")
        text = "" if score is None else f", {chosen.evaluation.score_kind or 'measured'} score {score:.4g}"
        click.echo(f"Subnet {chosen.evaluation.subnet}{text}; model: {written.file}")
    finish(compilation, output, model, as_json, quiet)
