"""The functional check from the outside: finds the model, runs the comparison in a child process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from h4hc.verify.execute import Request, Step, Verdict, compare, encode_request
from h4hc.verify.folder import PARTITIONED, Bundle, inner_path
from h4hc.verify.network import Network
from h4hc.verify.pinning import has_half_precision
from h4hc.verify.report import Check, Tally

TIMEOUT = 900.0  # seconds
NAMES = (
    ("F01", "partitioned.onnx gives the model's bits"),
    ("F02", "the chain of subgraphs gives the same bits"),
)


def skipped(reason: str) -> list[Check]:
    """Both checks, not run."""
    return [Tally(skipped=reason).check(code, name) for code, name in NAMES]


def functional(
    bundle: Bundle, model: Path | None, seeds: int, *, isolate: bool, timeout: float
) -> list[Check]:
    """F01 and F02 on `seeds` random inputs; without the model, only the chain against partitioned.onnx."""
    request = _request(bundle, model, seeds)
    verdicts = _isolated(request, timeout) if isolate else compare(request)
    tallies = [Tally(v.compared, list(v.problems), v.skipped) for v in verdicts]
    return [tally.check(code, name) for tally, (code, name) in zip(tallies, NAMES, strict=True)]


def _request(bundle: Bundle, model: Path | None, seeds: int) -> Request:
    folder = bundle.folder
    return Request(
        model=str(model.resolve()) if model is not None else "",
        partitioned=str(inner_path(folder, PARTITIONED).resolve()),
        steps=tuple(
            Step(str(inner_path(folder, segment.path).resolve()), segment.inputs, segment.outputs)
            for segment in bundle.chain.segments
        ),
        inputs=bundle.document.inputs,
        outputs=tuple(value.name for value in bundle.document.outputs),
        seeds=seeds,
        pinned=has_half_precision(Network(bundle.partitioned)),
    )


def _isolated(request: Request, timeout: float) -> tuple[Verdict, ...]:
    """Run the comparison in a child process: a crash of onnxruntime is a failed check, no more."""
    try:
        done = run_module("h4hc.verify.execute", encode_request(request), timeout)
    except subprocess.TimeoutExpired:
        return _broken(f"onnxruntime did not finish within {timeout:.0f} s")
    if done.returncode < 0:
        name = signal.Signals(-done.returncode).name
        return _broken(f"onnxruntime was killed by {name}")
    if done.returncode > 0:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        return _broken(f"the child process ended with status {done.returncode}: {last[:200]}")
    answer = json.loads(done.stdout.strip().splitlines()[-1])
    return tuple(Verdict(compared, tuple(problems), reason) for compared, problems, reason in answer)


def _broken(problem: str) -> tuple[Verdict, ...]:
    return tuple(Verdict(0, (problem,)) for _ in NAMES)


def run_module(module: str, request: str, timeout: float) -> subprocess.CompletedProcess[str]:
    """Run a module of this package in a child process, with `request` on its standard input."""
    return subprocess.run(
        [sys.executable, "-P", "-m", module],
        input=request,
        capture_output=True,
        text=True,
        timeout=timeout,
        env=_environment(),
        check=False,
    )


def _environment() -> dict[str, str]:
    """This environment, with the package that runs now found first."""
    package = str(Path(__file__).resolve().parents[2])
    known = os.environ.get("PYTHONPATH")
    return os.environ | {"PYTHONPATH": os.pathsep.join([package, known] if known else [package])}
