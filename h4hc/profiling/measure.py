"""Times the operators of a plan with onnxruntime on this machine, in one thread.

One row is the time that the operator adds to a session: T(1 + n copies) - T(1 copy), divided by n, less the tap
that reads each copy's result (see h4hc.profiling.repeat). The time of a session's call is in no row. Operators are
measured in batches whose members take turns, so that noise of the machine meets all alike and none finds its
weights in the cache because it has just run. A sample during which the thread was off the processor counts only
where there are few others, as the time on the processor.
"""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from h4hc.backends.profiles.kernels import kernel_of
from h4hc.backends.profiles.table import Measurement
from h4hc.profiling.repeat import Ending, is_map, repeated, taps
from h4hc.profiling.session import RuntimeFailureError, Session, check_result

if TYPE_CHECKING:
    from onnx import ModelProto

BATCH = 24  # operators that take turns
LEAST_ROUNDS, MOST_ROUNDS = 9, 80
PRECISION = 0.015  # aimed at: standard error of the median, relative
RESOLUTION = 5e-8  # seconds; a finer error is not aimed at, a shorter time not reported
_TAPPED: tuple[Ending, ...] = ("plain", "blocked")
_TAP_COPIES = 8
_SMALL_RESULT = 256 << 10  # bytes; more copies of a larger result would push each other out of the cache
_LARGE_WEIGHTS = 32 << 20  # bytes; one copy of such an operator is enough of a load
_MAD = 1.4826  # standard deviation of a normal distribution over its median absolute deviation

Entry = Mapping[str, Any]  # a kernel of the manifest


@dataclass(slots=True)
class Probe:
    """Two sessions that differ by `copies` copies of what is measured, and the differences seen."""

    low: Session
    high: Session
    copies: int
    ending: Ending = "direct"
    results: tuple[bool, ...] = ()  # of each copy: whether it is a map
    samples: list[float] = field(default_factory=list)
    disturbed: list[float] = field(default_factory=list)

    def sample(self) -> None:
        """Take one difference; if something interrupted it, of time on the processor."""
        low, high = self.low.timed(), self.high.timed()
        if low.calm and high.calm:
            self.samples.append((high.wall - low.wall) / self.copies)
        else:
            self.disturbed.append((high.busy - low.busy) / self.copies)

    def values(self) -> list[float]:
        """The samples that count: those that were interrupted only if there are few others."""
        return self.samples if len(self.samples) >= LEAST_ROUNDS else self.samples + self.disturbed

    def spread(self) -> float:
        """Standard deviation of a sample, robustly."""
        values = self.values()
        middle = median(values)
        return _MAD * median(abs(value - middle) for value in values)

    def error(self) -> float:
        """Standard error of the median."""
        return float(1.2533 * self.spread() / len(self.values()) ** 0.5)

    def settled(self) -> bool:
        """Whether more samples would hardly change the median."""
        if len(self.samples) < LEAST_ROUNDS:
            return False
        return self.error() <= max(PRECISION * abs(median(self.values())), RESOLUTION)


def measure(
    folder: Path,
    entries: Sequence[Entry],
    keep: Callable[[list[Measurement]], None],
    limit: float | None = None,
    each_round: Callable[[], None] = lambda: None,
) -> bool:
    """Measure the kernels `entries` of the plan in `folder`; `keep` gets the rows of each finished batch.

    Returns whether all were measured within `limit` seconds. `each_round` is called whenever all operators of a
    batch have had their turn.
    """
    start = time.monotonic()
    batches = [entries[i : i + BATCH] for i in range(0, len(entries), BATCH)]
    with quiet():
        for index, batch in enumerate(batches):
            spent = time.monotonic() - start
            share = None if limit is None else (limit - spent) / (len(batches) - index)
            if share is not None and share <= 0:
                return False
            keep(_measure_batch(folder, batch, share, each_round))
    return True


@contextmanager
def quiet() -> Iterator[None]:
    """This process on one processor and without garbage collection, where the system allows it."""
    collecting = gc.isenabled()
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None
    gc.disable()
    if allowed is not None:
        os.sched_setaffinity(0, {max(allowed)})
    try:
        yield
    finally:
        if allowed is not None:
            os.sched_setaffinity(0, allowed)
        if collecting:
            gc.enable()


def call_seconds() -> float:
    """What calling a session costs that holds next to nothing: time outside every operator."""
    with quiet():
        session = Session(taps(_nothing([1]), 1, "plain"))
        return median(session.timed().wall for _ in range(101))


def _measure_batch(
    folder: Path, batch: Sequence[Entry], seconds: float | None, each_round: Callable[[], None]
) -> list[Measurement]:
    deadline = None if seconds is None else time.monotonic() + seconds
    probes: dict[str, Probe] = {}
    failures: dict[str, str] = {}
    for entry in batch:
        try:
            probes[entry["id"]] = _probe(folder, entry)
        except RuntimeFailureError as error:
            failures[entry["id"]] = str(error)
    tap_probes = {ending: _tap_probe(ending) for ending in _TAPPED}
    turns = [*probes.values(), *tap_probes.values()]
    for count in range(MOST_ROUNDS):
        for probe in turns:
            probe.sample()
        each_round()
        late = deadline is not None and time.monotonic() > deadline
        if count + 1 >= LEAST_ROUNDS and (late or all(probe.settled() for probe in turns)):
            break
    tap_seconds = {ending: median(probe.values()) for ending, probe in tap_probes.items()}
    return [
        _failed(entry, failures[entry["id"]])
        if entry["id"] in failures
        else _row(entry, probes[entry["id"]], tap_seconds)
        for entry in batch
    ]


def _probe(folder: Path, entry: Entry) -> Probe:
    """The sessions of one operator, warmed up; raises RuntimeFailureError if onnxruntime cannot run it properly."""
    import onnx

    model = onnx.load_model_from_string((folder / entry["file"]).read_bytes())
    check_result(model)
    maps = tuple(is_map(value) for value in model.graph.output)
    if entry["weight_bytes"] > _LARGE_WEIGHTS:
        return _warm(Probe(Session(taps(model, 1, "plain")), Session(repeated(model, 1, "plain")), 1))
    endings: list[Ending] = ["plain"]
    if any(maps):
        endings.append("blocked")
    if entry["output_bytes"] <= _SMALL_RESULT:
        endings.append("direct")
    return min((_slope_probe(model, maps, ending) for ending in endings), key=_first_look)


def _slope_probe(model: ModelProto, maps: tuple[bool, ...], ending: Ending) -> Probe:
    low = Session(repeated(model, 1, ending))
    low.timed()
    seconds = min(low.timed().wall for _ in range(3))
    copies = 8 if seconds < 5e-5 else 4 if seconds < 5e-3 else 1
    return _warm(Probe(low, Session(repeated(model, copies + 1, ending)), copies, ending, maps))


def _first_look(probe: Probe) -> float:
    """Seconds of a copy, roughly. Behind an ending that does not suit it, each copy includes a conversion."""
    low = min(probe.low.timed().wall for _ in range(5))
    high = min(probe.high.timed().wall for _ in range(5))
    return (high - low) / probe.copies


def _tap_probe(ending: Ending) -> Probe:
    """Measures what a tap costs."""
    model = _nothing([1, 64, 16, 16] if ending == "blocked" else [64, 64])
    few, many = taps(model, 1, ending), taps(model, 1 + _TAP_COPIES, ending)
    return _warm(Probe(Session(few), Session(many), _TAP_COPIES))


def _nothing(shape: list[int]) -> ModelProto:
    """A model without nodes whose result is of `shape`."""
    from onnx import TensorProto, helper

    value = helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)
    graph = helper.make_graph([], "nothing", [], [value])
    return helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 18)])


def _warm(probe: Probe) -> Probe:
    for session in (probe.low, probe.high):
        session.timed()
        session.timed()
    return probe


def _row(entry: Entry, probe: Probe, tap_seconds: Mapping[Ending, float]) -> Measurement:
    """The row of a measured kernel; a difference that is not above its own error is given as that error."""
    tapped = 0.0
    if probe.ending != "direct":
        blocked = probe.ending == "blocked"
        tapped = sum(
            tap_seconds["blocked" if blocked and is_a_map else "plain"] for is_a_map in probe.results
        )
    values = probe.values()
    seconds = max(median(values) - tapped, probe.error(), RESOLUTION)
    comment = f"median of {len(values)} samples of {probe.copies} more copies, {probe.ending}"
    if tapped:
        comment += f", less {tapped * 1e6:.2f} us of taps"
    if len(probe.samples) < LEAST_ROUNDS:
        comment += ", interrupted ones among them"
    return _measurement(
        entry, seconds=_rounded(seconds), seconds_std=_rounded(probe.spread()), comment=comment
    )


def _failed(entry: Entry, reason: str) -> Measurement:
    return _measurement(entry, seconds=0.0, status="failed", comment=reason[:500])


def _measurement(entry: Entry, **values: Any) -> Measurement:
    needed = entry["needed_by"][0] if entry["needed_by"] else {"model": "", "operator": ""}
    return Measurement(
        kernel_of(entry["kernel"]), identifier=entry["id"], model=needed["model"], node=needed["operator"],
        weight_bytes=entry["weight_bytes"], **values,
    )  # fmt: skip


def _rounded(seconds: float) -> float:
    """To nanoseconds: no clock here is finer."""
    return round(seconds * 1e9) / 1e9
