"""`h4hc search run` and `resume`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from h4hc.cli.search_progress import reporting

if TYPE_CHECKING:
    from h4hc.search.study.run import Session

_WORKERS = click.option(
    "-w", "--workers", default="auto", show_default=True, metavar="WHO",
    help="serial, a number of processes, auto (one per core), ray, or ray://HOST:PORT.",
)  # fmt: skip
_GPUS = click.option(
    "--gpus", type=click.IntRange(0, 1024), default=0, metavar="N",
    help="With Ray: N actors with a GPU each measure accuracy.",
)  # fmt: skip
_DEVICE = click.option(
    "--device",
    default=None,
    help="Where accuracy is measured: cpu, cuda or cuda:N.  [default: cpu, with --gpus cuda]",
)
_JOURNAL = click.option(
    "--optuna-journal", "journal", type=click.Path(path_type=Path), metavar="FILE",
    help="At the end, write the study for Optuna's dashboard too.",
)  # fmt: skip
_JSON = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
_QUIET = click.option("-q", "--quiet", is_flag=True, help="Print nothing but errors.")


@click.command(short_help="Begin a search.")
@click.argument("study", required=False, type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), default=Path("build/study.db"), show_default=True,
              help="File of the study; it must not exist.")  # fmt: skip
@click.option("--space", help="Search space: a shipped one, or a YAML file.")
@click.option("--supernet", metavar="MODULE:FACTORY", help="A supernet of your own, instead of a space.")
@click.option("-a", "--accuracy", metavar="SOURCE",
              help="supernet:FOLDER, predictor:FILE, proxy:NAME or table:FILE.")  # fmt: skip
@click.option("-t", "--target", "targets", multiple=True, metavar="TARGET",
              help="Built-in target, or a YAML file; several are compiled for at once.  [default: npu+cim]")  # fmt: skip
@click.option("--objectives", metavar="A,B,...",
              help="What to optimise, for example accuracy,latency,energy.  [default: accuracy,latency]")  # fmt: skip
@click.option("-c", "--constraint", "constraints", multiple=True, metavar="LIMIT",
              help="For example latency<=20ms, sram<=2MiB or accuracy>=0.75; may be given several times.")  # fmt: skip
@click.option("-e", "--engine", help="nsga2, bayes, evolution or random.  [default: nsga2]")
@click.option("--population", type=click.IntRange(2, 100_000), metavar="N",
              help="Candidates per generation.  [default: from the engine and the budget]")  # fmt: skip
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), help="Seed of all that is random.  [default: 0]")
@click.option("-b", "--budget", metavar="N|TIME", help="Evaluations, or a time such as 10m.  [default: 500]")
@click.option("--start", type=click.Path(path_type=Path), metavar="FILE",
              help="Candidates to try first: a population that h4hc search export wrote.")  # fmt: skip
@click.option("--compile-objective", type=click.Choice(["latency", "energy", "edp", "throughput"]),
              help="What each candidate is compiled for.  [default: latency]")  # fmt: skip
@click.option("--compile-effort", type=click.Choice(["fast", "balanced"]),
              help="How hard the compiler tries.  [default: fast]")  # fmt: skip
@click.option("--compile-frames", type=click.IntRange(1, 8), metavar="N",
              help="Let up to N frames be in flight.")  # fmt: skip
@click.option("--compile-fps", type=click.FloatRange(0.001, 1e6), metavar="RATE",
              help="Rate of the camera: candidates must keep up, and their energy counts static power until the "
              "next frame.")  # fmt: skip
@click.option(
    "--compile-prefetch",
    is_flag=True,
    help="Let the compiler fetch weights ahead, at balanced effort: slower, lower latencies.",
)
@click.option(
    "--show", "show_config", is_flag=True, help="Print the configuration, with all defaults, and exit."
)
@_WORKERS
@_GPUS
@_DEVICE
@_JOURNAL
@_JSON
@_QUIET
def run(  # the parameters are the command's options
    study: Path | None,
    output: Path,
    space: str | None,
    supernet: str | None,
    accuracy: str | None,
    targets: tuple[str, ...],
    objectives: str | None,
    constraints: tuple[str, ...],
    engine: str | None,
    population: int | None,
    seed: int | None,
    budget: str | None,
    start: Path | None,
    compile_objective: str | None,
    compile_effort: str | None,
    compile_frames: int | None,
    compile_fps: float | None,
    compile_prefetch: bool,
    show_config: bool,
    workers: str,
    gpus: int,
    device: str | None,
    journal: Path | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Search by STUDY, a YAML file, by options, or by both: options change what the file says.

    Interrupted at any moment, it goes on with h4hc search resume.
    """
    from h4hc.search.study.config import parse_config, read_config
    from h4hc.search.study.run import run_study

    given = {
        "space": space,
        "supernet": supernet,
        "accuracy": accuracy,
        "targets": list(targets) or None,
        "objectives": _listed(objectives),
        "constraints": list(constraints) or None,
        "engine": engine,
        "population": population,
        "seed": seed,
        "budget": budget,
        "start": None if start is None else str(start),
    }
    changes: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
    compiling = {
        "objective": compile_objective,
        "effort": compile_effort,
        "frames": compile_frames,
        "fps": compile_fps,
        "prefetch": compile_prefetch or None,
    }
    compiling = {key: value for key, value in compiling.items() if value is not None}
    if study is None and not changes:
        raise click.UsageError(
            "Missing what to search: a study file, or options such as --space and --accuracy."
        )
    config = parse_config(changes, "options") if study is None else read_config(study, changes)
    if compiling:
        config = parse_config(
            {**config.document(), "compile": {**config.compile.model_dump(), **compiling}}, "options"
        )
    if show_config:
        click.echo(json.dumps(config.resolved().document(), indent=2))
        return
    output.parent.mkdir(parents=True, exist_ok=True)
    with _session(workers, gpus, device, config.budget, quiet or as_json, output) as session:
        reason = run_study(config, output, session)
    _finish(output, reason, journal, as_json, quiet)


@click.command(short_help="Go on with a search.")
@click.argument("study", type=click.Path(path_type=Path))
@click.option("-b", "--budget", metavar="N|TIME", help="A new budget; it counts what was spent before.")
@_WORKERS
@_GPUS
@_DEVICE
@_JOURNAL
@_JSON
@_QUIET
def resume(
    study: Path,
    budget: str | None,
    workers: str,
    gpus: int,
    device: str | None,
    journal: Path | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Go on with the search in the file STUDY, as if it had never stopped."""
    from h4hc.search.study.run import resume_study
    from h4hc.search.study.study import read_study

    shown = budget or read_study(study).config.budget
    with _session(workers, gpus, device, shown, quiet or as_json, study) as session:
        reason = resume_study(study, session, budget)
    _finish(study, reason, journal, as_json, quiet)


def _listed(text: str | None) -> list[str] | None:
    return None if text is None else [part.strip() for part in text.split(",") if part.strip()]


@contextmanager
def _session(
    workers: str, gpus: int, device: str | None, budget: str, quiet: bool, study: Path
) -> Iterator[Session]:
    """A session that reports on the terminal; an interrupt leaves with a hint how to go on."""
    from h4hc.search.study.run import Session

    try:
        with reporting(budget, quiet) as (report, tell):
            yield Session(workers, gpus, device or ("cuda" if gpus else "cpu"), report, tell)
    except KeyboardInterrupt:
        click.echo(f"stopped; go on with h4hc search resume {study}", err=True)
        raise SystemExit(130) from None


def _finish(path: Path, reason: str, journal: Path | None, as_json: bool, quiet: bool) -> None:
    """Say what came of it."""
    from h4hc.cli.search_show import print_result, result_json
    from h4hc.search.study.study import read_study

    reading = read_study(path)
    if journal is not None:
        from h4hc.search.study.mirror import mirror

        mirror(reading, journal)
    if as_json:
        click.echo(json.dumps(result_json(reading) | {"ended": reason}, indent=2, sort_keys=True))
    elif not quiet:
        print_result(reading, reason)
