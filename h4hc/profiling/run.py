"""Runs a plan on this machine and keeps the profile on disk up to date, so that a stopped run can go on."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from h4hc.backends.profiles.kernels import kernel_of
from h4hc.backends.profiles.table import Measurement, Profile, read_profile, write_profile
from h4hc.errors import ProfileError
from h4hc.profiling.plan import LONGEST_NAME, MANIFEST, VERSION

DEVICES = ("ort-cpu",)
_LONGEST_MANIFEST = 256 << 20
_METHOD = "time that one more copy of the operator adds to a session, one thread on one processor"


@dataclass(frozen=True, slots=True)
class StoredPlan:
    """A plan on disk: `kernels` are the entries of its manifest, whose files are as they were written."""

    folder: Path
    kernels: tuple[Mapping[str, Any], ...]
    sha256: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run achieved: rows that it measured, rows that were there, kernels that are missing still."""

    measured: int
    kept: int
    failed: int
    missing: int


def load_plan(folder: Path) -> StoredPlan:
    """The plan in `folder`; raises ProfileError if it is incomplete or has been changed."""
    path = folder / MANIFEST
    try:
        if path.stat().st_size > _LONGEST_MANIFEST:
            raise _bad(path, "is too large")
        data = path.read_bytes()
    except OSError as error:
        raise ProfileError(
            f"{path}: cannot be read: {error.strerror}",
            code="no-plan",
            hint="write one with h4hc profile plan",
        ) from None
    try:
        manifest = json.loads(data)
    except (ValueError, RecursionError):
        raise _bad(path, "is not JSON") from None
    if not isinstance(manifest, dict) or not isinstance(manifest.get("kernels"), list):
        raise _bad(path, "has no list of kernels")
    if manifest.get("h4hc_plan") != VERSION:
        raise _bad(path, f"is not of version {VERSION}")
    for index, entry in enumerate(manifest["kernels"]):
        _check_entry(entry, f"{path}: kernels[{index}]", folder)
    if not manifest["kernels"]:
        raise _bad(path, "asks for nothing")
    return StoredPlan(folder, tuple(manifest["kernels"]), hashlib.sha256(data).hexdigest())


def _check_entry(entry: Any, where: str, folder: Path) -> None:
    fields = {"id": str, "file": str, "sha256": str, "kernel": dict, "needed_by": list, "weight_bytes": int,
              "output_bytes": int}  # fmt: skip
    if not isinstance(entry, dict):
        raise _bad(where, "is not an object")
    for name, kind in fields.items():
        if not isinstance(entry.get(name), kind):
            raise _bad(where, f"{name} is missing or of the wrong type")
    for user in entry["needed_by"]:
        if not isinstance(user, dict) or not all(isinstance(user.get(k), str) for k in ("model", "operator")):
            raise _bad(where, "needed_by is not a list of models and operators")
    names = (entry["id"], *(user[key] for user in entry["needed_by"] for key in ("model", "operator")))
    if not all(name.isprintable() and len(name) <= LONGEST_NAME for name in names):
        raise _bad(where, "a name is too long or holds control characters")
    try:
        kernel_of(entry["kernel"])
    except (ValueError, TypeError, OverflowError) as error:
        raise _bad(where, f"kernel: {error}") from None
    parts = PurePosixPath(entry["file"]).parts
    if not parts or ".." in parts or PurePosixPath(entry["file"]).is_absolute() or "\0" in entry["file"]:
        raise _bad(where, "file lies outside the plan")
    file = folder / entry["file"]
    try:
        digest = _digest(file)
    except OSError as error:
        raise ProfileError(
            f"{file}: cannot be read: {error.strerror}", code="bad-plan", hint="write the plan again"
        ) from None
    if digest != entry["sha256"]:
        raise ProfileError(
            f"{file}: is not the file that was planned (its hash differs)", code="bad-plan",
            hint="write the plan again",
        )  # fmt: skip


def _digest(file: Path) -> str:
    if not file.is_file():  # opening a FIFO would wait for a writer
        raise FileNotFoundError(2, "there is no such file", str(file))
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _bad(where: object, problem: str) -> ProfileError:
    return ProfileError(f"{where}: {problem}", code="bad-plan", hint="write the plan again")


def run_plan(
    plan: StoredPlan,
    output: Path,
    limit: float | None = None,
    progress: Callable[[int], None] = lambda count: None,
    each_round: Callable[[], None] = lambda: None,
) -> Outcome:
    """Measure what `output` does not hold yet, for at most `limit` seconds; `progress` is told of rows kept.

    `output` is replaced, as a whole, after each batch of operators.
    """
    from h4hc.profiling.measure import measure

    profile = _begun(plan, output)
    done = {row.identifier: row for row in profile.rows if row.status == "ok"}
    todo = [entry for entry in plan.kernels if entry["id"] not in done]
    fresh: list[Measurement] = []
    kept = len(plan.kernels) - len(todo)
    progress(kept)

    def keep(rows: list[Measurement]) -> None:
        fresh.extend(rows)
        done.update((row.identifier, row) for row in rows)
        ordered = tuple(done[entry["id"]] for entry in plan.kernels if entry["id"] in done)
        write_profile(replace(profile, rows=ordered), output)
        progress(len(rows))

    _check_writable(output)
    measure(plan.folder, todo, keep, limit, each_round)
    failed = sum(row.status != "ok" for row in fresh)
    return Outcome(len(fresh) - failed, kept, failed, len(todo) - len(fresh))


def _begun(plan: StoredPlan, output: Path) -> Profile:
    """The profile that is to be continued, or a new one."""
    profile = _empty_profile(plan)
    if not os.path.lexists(output):
        return profile
    found = read_profile(output)
    for name in ("device", "accelerator", "compiler", "config", "sources"):
        if getattr(found, name) != getattr(profile, name):
            raise ProfileError(
                f"{output}: holds a profile of another {'plan' if name == 'sources' else name}",
                code="other-profile",
                hint="name another file with -o",
            )
    return found


def _empty_profile(plan: StoredPlan) -> Profile:
    from h4hc.profiling.measure import call_seconds
    from h4hc.profiling.session import compiler, processor

    return Profile(
        device=DEVICES[0],
        accelerator=processor(),
        config="threads=1",
        compiler=compiler(),
        runtime="CPUExecutionProvider",
        method=_METHOD,
        date=time.strftime("%Y-%m-%d"),
        cold_cache=False,
        rows=(),
        sources=(f"plan {plan.sha256}",),
        note=f"a call of a session that holds nothing takes {call_seconds() * 1e6:.1f} us, which no row contains",
    )


def _check_writable(output: Path) -> None:
    """Before an hour of measuring, not after it."""
    folder = output.parent
    if not folder.is_dir():
        raise ProfileError(f"{output}: there is no folder {folder}", code="output-unwritable")
    if not os.access(folder, os.W_OK):
        raise ProfileError(f"{output}: the folder {folder} cannot be written", code="output-unwritable")
