"""R01 and R02 from the outside: a child process builds the executor, computes the values and replays."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from h4hc.errors import BundleError
from h4hc.verify.execute import Request, limit_memory
from h4hc.verify.folder import PARTITIONED, Bundle, inner_path, open_bundle, read_bytes
from h4hc.verify.functional import run_module
from h4hc.verify.network import Network
from h4hc.verify.pinning import has_half_precision
from h4hc.verify.plan import Plan
from h4hc.verify.report import Check, Tally

if TYPE_CHECKING:
    from h4hc.verify.arena.executor import Executor
    from h4hc.verify.arena.machine import Images
    from h4hc.verify.arena.reference import Reference
    from h4hc.verify.arena.tables import Tables

BINARY = "schedule.h4hs"
MAX_BINARY = 2**30
NAMES = {
    "R01": "schedule.h4hs is accepted and says what schedule.json says",
    "R02": "run by the executor in arenas, the schedule gives the model's bits, whatever the timing",
}


@dataclass(frozen=True, slots=True)
class Job:
    """What to replay: folder, model (empty: not found), `seeds` timings, `frames` frames (0: enough for every reuse)."""

    folder: str
    model: str
    seeds: int
    frames: int


def replay_checks(
    bundle: Bundle, model: Path | None, seeds: int, frames: int, *, isolate: bool, timeout: float
) -> list[Check]:
    """R01 and R02. Raises BundleError if there is no compiler."""
    from h4hc.verify.arena.executor import compiler

    compiler()
    job = Job(str(bundle.folder.resolve()), "" if model is None else str(model.resolve()), seeds, frames)
    tallies = _isolated(job, timeout) if isolate else replay(job)
    return [tally.check(code, name) for tally, (code, name) in zip(tallies, NAMES.items(), strict=True)]


def replay(job: Job) -> tuple[Tally, Tally]:
    """The verdicts on the binary, and on the replays of the job's frames under its timings."""
    from h4hc.verify.arena.executor import Executor, built
    from h4hc.verify.arena.order import waits_enforced
    from h4hc.verify.arena.tables import read_tables, same_schedule

    bundle = open_bundle(Path(job.folder))
    first, second = Tally(), Tally()
    with built() as library:
        try:
            executor = Executor(library, read_bytes(bundle.folder, BINARY, MAX_BINARY))
        except BundleError as error:
            first.expect(False, str(error))
            return first, Tally(skipped="R01 failed")
        try:
            tables = read_tables(executor)
            first = same_schedule(tables, bundle.document)
            if not first.problems:
                first = merged(first, waits_enforced(tables, bundle.document))
            if first.problems:
                return first, Tally(skipped="R01 failed")
            _replay_all(bundle, job, executor, tables, second)
        finally:
            executor.close()
    return first, second


def merged(first: Tally, second: Tally) -> Tally:
    """Both together."""
    return Tally(first.count + second.count, [*first.problems, *second.problems])


def _replay_all(bundle: Bundle, job: Job, executor: Executor, tables: Tables, tally: Tally) -> None:
    from h4hc.verify.arena.machine import Images
    from h4hc.verify.arena.reference import Reference
    from h4hc.verify.arena.slots import scale_of

    plan = Plan(bundle.document, Network(bundle.partitioned))
    reference = Reference(plan, request_of(bundle, job, plan))
    try:
        frames = reference.frames(job.frames or _enough(tables))
    except BundleError as error:
        tally.problems.append(str(error))
        return
    if isinstance(frames, str):
        tally.skipped = frames
        return
    tensors = bundle.document.tensors
    names = sorted({buffer.tensor for buffer in bundle.document.buffers if buffer.tensor})
    try:
        scale = scale_of((frames[0].values[name], tensors[name].bytes) for name in names)
    except ValueError as error:
        tally.skipped = f"the replay cannot hold the model's values: {error}"
        return
    stage = Stage(plan, executor, tables, Images(plan, tables, frames, scale), reference)
    for seed in range(job.seeds + 1):
        problem = stage.play(seed, tally)
        if problem:
            # Once more, the same way, with notes of who writes what: they say what was found instead.
            tally.problems.append(stage.play(seed, tally, trace=True) or problem)
            return


def _enough(tables: Tables) -> int:
    """Frames after which every copy of every buffer has been used again."""
    copies = max((buffer.copies for buffer in tables.buffers), default=1)
    return 2 if tables.frames_in_flight == 1 else 2 * copies + tables.last_stage + 1


@dataclass(frozen=True, slots=True)
class Stage:
    """Everything that stays the same from one timing to the next."""

    plan: Plan
    executor: Executor
    tables: Tables
    images: Images
    reference: Reference

    def play(self, seed: int, tally: Tally, trace: bool = False) -> str:
        """One replay; the first difference, or nothing. Operators are computed anew under the planned timing only."""
        from h4hc.verify.arena.drive import drive
        from h4hc.verify.arena.machine import Machine, ReplayError

        reference = None if seed else self.reference
        machine = Machine(self.plan, self.executor, self.tables, self.images, reference, trace)
        try:
            drive(self.plan, self.executor, self.tables, machine, len(self.images.frames), seed)
        except ReplayError as error:
            return f"{f'timing {seed}' if seed else 'planned timing'}: {error}"
        finally:
            tally.count += machine.commands
        return ""


def request_of(bundle: Bundle, job: Job, plan: Plan) -> Request:
    """What onnxruntime is to run."""
    return Request(
        model=job.model,
        partitioned=str(inner_path(bundle.folder, PARTITIONED).resolve()),
        steps=(),
        inputs=bundle.document.inputs,
        outputs=tuple(value.name for value in bundle.document.outputs),
        seeds=1,
        pinned=has_half_precision(plan.network),
    )


def _isolated(job: Job, timeout: float) -> tuple[Tally, Tally]:
    """Replay in a child process: a crash of onnxruntime or of the executor is a failed check, no more."""
    try:
        done = run_module("h4hc.verify.arena.replay", json.dumps(asdict(job)), timeout)
    except subprocess.TimeoutExpired:
        return Tally(), Tally(problems=[f"the replay did not finish within {timeout:.0f} s"])
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        name = signal.Signals(-done.returncode).name if done.returncode < 0 else f"status {done.returncode}"
        return Tally(), Tally(problems=[f"the replay ended with {name}: {last[:200]}"])
    answer = json.loads(done.stdout.strip().splitlines()[-1])
    first, second = (Tally(count, problems, skipped) for count, problems, skipped in answer)
    return first, second


def main() -> None:
    """Answer the job on standard input."""
    limit_memory()
    tallies = replay(Job(**json.loads(sys.stdin.read())))
    sys.stdout.write(json.dumps([[t.count, t.problems, t.skipped] for t in tallies]) + "\n")


if __name__ == "__main__":
    main()
