"""`run_bundle`: frames through the workers, every output held against the original model."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from h4hc.errors import BundleError, ModelError
from h4hc.runtime.engine import Activity, Compute, Engine
from h4hc.runtime.pieces import Piece, Program, plan_pieces
from h4hc.verify.check import find_model
from h4hc.verify.document import Value
from h4hc.verify.excerpt import excerpt
from h4hc.verify.execute import differences, run_session, session_of
from h4hc.verify.feeds import ATTEMPTS, random_feed
from h4hc.verify.folder import Bundle, file_sha256, open_bundle
from h4hc.verify.pinning import has_half_precision

if TYPE_CHECKING:
    import numpy as np

    Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True, slots=True)
class Report:
    """What happened. Times are of this machine, in seconds; they say nothing about the target.

    `sequential`: the original model, frame after frame in one session. `pieces`: sessions and copies of a frame per
    queue, in `queues` with the time at work. `most_at_work`: the most workers that computed at once; `most_frames`:
    the most frames that had begun and not ended.
    """

    frames: int
    frames_in_flight: int
    problems: tuple[str, ...]
    seconds: float
    sequential: float
    queues: tuple[tuple[str, int, float], ...]
    most_at_work: int
    most_frames: int

    @property
    def passed(self) -> bool:
        return not self.problems

    def to_json(self) -> dict[str, Any]:
        found = asdict(self)
        found["queues"] = [
            {"queue": name, "pieces": pieces, "seconds": busy} for name, pieces, busy in self.queues
        ]
        return found | {"passed": self.passed}


@dataclass(slots=True)
class Original:
    """The model that the bundle was made from: inputs for every frame, and what it makes of them.

    `attempts`: how each frame's inputs are drawn (see `h4hc.verify.feeds`).
    """

    session: Any
    name: str
    inputs: Sequence[Value]
    outputs: Sequence[str]
    seed: int
    attempts: list[int]

    def feed(self, frame: int) -> Arrays:
        """The inputs of a frame."""
        return random_feed(self.inputs, self.seed + frame, self.attempts[frame])

    def results(self, feed: Arrays) -> Arrays:
        """The outputs for `feed`. Raises ModelError if the model refuses it."""
        found: Arrays = _open(lambda: run_session(self.session, feed, self.outputs), self.name)
        return found

    def tame(self) -> bool:
        """Replace inputs that the model refuses, and say if there were any. Raises ModelError if it takes none."""
        for frame in range(len(self.attempts)):
            while not self._takes(frame):
                self.attempts[frame] += 1
        return any(self.attempts)

    def _takes(self, frame: int) -> bool:
        try:
            self.results(self.feed(frame))
        except ModelError:
            if self.attempts[frame] + 1 == len(ATTEMPTS):
                raise
            return False
        return True


def run_bundle(
    folder: Path,
    model: Path | None = None,
    frames: int = 8,
    *,
    seed: int = 0,
    delay: float = 0.0,
    observe: Callable[[int], None] = lambda frame: None,
) -> Report:
    """Execute `frames` frames of random inputs, each other ones, and compare with the model, bit for bit.

    Inputs that the model refuses, such as indices out of range, are replaced by tamer ones.

    `observe` is called with the number of frames compared so far. Raises BundleError or ModelError if something
    cannot be loaded, CheckFailedError if the hand-overs of the schedule are wrong.
    """
    bundle = open_bundle(folder)
    path = _model(bundle, model)
    program = plan_pieces(bundle)
    pinned = has_half_precision(program.network)
    outputs = [value.name for value in bundle.document.outputs]
    session = _open(lambda: session_of(str(path), pinned), path.name)
    original = Original(session, path.name, bundle.document.inputs, outputs, seed, [0] * frames)
    compute = {name: [_compute(program, p, pinned) for p in queue] for name, queue in program.queues.items()}
    loose = _loose_outputs(program, pinned)

    def run() -> Report:
        return _run(Engine(program, compute, delay, seed), program, original, loose, observe)

    try:
        return run()
    except ModelError:
        if not original.tame():
            raise  # the model takes what a piece of it refuses
        return run()


def _run(
    engine: Engine, program: Program, original: Original, loose: Arrays, observe: Callable[[int], None]
) -> Report:
    """Run all frames, and compare each with the original model. `loose`: outputs that no piece computes."""
    frames = len(original.attempts)
    problems: list[str] = []
    sequential = 0.0

    def collect(frame: int, results: Arrays) -> None:
        nonlocal sequential
        inputs = original.feed(frame)
        begin = time.perf_counter()
        expected = original.results(inputs)
        sequential += time.perf_counter() - begin
        given = {name: inputs[name] for name in original.outputs if name in inputs}
        problems.extend(f"frame {frame}: {p}" for p in differences(expected, {**loose, **given, **results}))
        observe(frame + 1)

    seconds = engine.run(frames, original.feed, collect)
    return Report(
        frames, program.frames_in_flight, tuple(problems), seconds, sequential,
        tuple((name, *_work(activity, frames)) for name, activity in engine.activity.items()),
        engine.most_at_work, engine.most_frames,
    )  # fmt: skip


def _work(activity: Activity, frames: int) -> tuple[int, float]:
    return activity.pieces // frames, activity.busy


def _model(bundle: Bundle, given: Path | None) -> Path:
    path = find_model(bundle, given)
    if path is None:
        raise BundleError(
            f"{bundle.folder}: the model it was made from, {bundle.document.model_path!r}, is not beside it",
            code="model-missing",
            hint="name it with --model",
        )
    if file_sha256(path) != bundle.document.model_sha256:
        raise BundleError(
            f"{path}: is not the model that the bundle was made from (its SHA-256 differs)",
            code="model-differs",
            hint="name the right one with --model, or compile again",
        )
    return path


def _compute(program: Program, piece: Piece, pinned: bool) -> Compute:
    """How a piece is computed: a copy of every tensor, or a session."""
    if not piece.nodes:
        return lambda arrays: {target: arrays[source].copy() for source, target in piece.copies}
    nodes, writes = [node.proto for node in piece.nodes], list(piece.writes)
    model = excerpt(program.network, nodes, piece.reads, writes, pinned)
    session = _open(lambda: session_of(model, pinned=False), piece.label)

    def compute(arrays: Arrays) -> Arrays:
        found = _open(lambda: session.run(writes, dict(arrays)), piece.label) if writes else []
        return dict(zip(writes, found, strict=True))

    return compute


def _loose_outputs(program: Program, pinned: bool) -> Arrays:
    """Graph outputs that are constants."""
    names = [name for name in program.loose if name not in program.network.inputs]
    if not names:
        return {}
    model = excerpt(program.network, (), (), names, pinned)
    session = _open(lambda: session_of(model, pinned=False), "constant outputs")
    return dict(zip(names, session.run(names, {}), strict=True))


def _open(action: Callable[[], Any], what: str) -> Any:
    try:
        return action()
    except Exception as error:  # onnxruntime raises its own classes without a common base
        if isinstance(error, (BundleError, ModelError)):
            raise
        line = " ".join(str(error).split())[:200]
        raise ModelError(
            f"{what}: onnxruntime cannot run it: {line}",
            code="not-runnable",
            hint="does the original model run in onnxruntime?",
        ) from None
