"""The checker, from top to bottom: read the bundle, then one check after the other.

A check that needs what an earlier check found broken is skipped and says so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from h4hc.errors import BundleError
from h4hc.verify.crossings import annotated, transfer_nodes
from h4hc.verify.fetches import fetches
from h4hc.verify.folder import Bundle, Chain, open_bundle, read_model
from h4hc.verify.frames import flat
from h4hc.verify.functional import TIMEOUT, skipped
from h4hc.verify.functional import functional as functional_checks
from h4hc.verify.integrity import hashes
from h4hc.verify.memory import allocation, ordered_reuse, pinned
from h4hc.verify.network import Network
from h4hc.verify.plan import Plan
from h4hc.verify.precedence import buffers_used, data_waits, streams, tensor_table, transfers
from h4hc.verify.queues import coverage, exclusivity, order, placement, residency
from h4hc.verify.references import references, target_tables
from h4hc.verify.replay import jitter_replays, nominal_replay
from h4hc.verify.report import Check, Report, Tally
from h4hc.verify.sameness import same_computation
from h4hc.verify.sharing import shared
from h4hc.verify.structure import check_chain, interface, nodes_once
from h4hc.verify.totals import interval, totals
from h4hc.verify.waits import deadlock, well_formed
from h4hc.verify.weights import ABSENT, macro_places, read_index, stored_tensors

if TYPE_CHECKING:
    from onnx import ModelProto

    from h4hc.verify.document import Document

# code -> what holds if the check passes
NAMES = {
    "V01": "files and model have the recorded hashes",
    "V22": "names and indices exist, identifiers are unique",
    "V24": "device, link and memory tables agree with the target",
    "S01": "inputs and outputs are the model's",
    "S02": "every node belongs to exactly one operator",
    "S03": "partitioned.onnx is the model's computation",
    "S04": "every change of device goes through a Transfer",
    "S06": "annotations of partitioned.onnx agree with the schedule",
    "S05": "subgraphs/ holds every node once, in a runnable order",
    "W01": "weights/ holds every stored tensor where it is read, bit for bit",
    "W02": "tiles in macros have cells of their own, as many as the schedule says",
    "V02": "every operator has exactly one task",
    "V03": "devices accept their operators, work and energy follow from the cost",
    "V04": "a device or channel works on one task at a time",
    "V05": "queues hold every task once, in order of start",
    "V07": "transfers move whole tensors over the right link, once",
    "V08": "streams claim no more than the ONNX nodes allow",
    "V09": "tensor shapes, types, sizes and views are the model's",
    "V10": "buffers fit, are aligned and never overlap while live",
    "V25": "buffers share addresses only as parts, or where one is written over the other",
    "V13": "resident weights fit",
    "V14": "waits are well formed",
    "V15": "no deadlock: queue order and waits have no circle",
    "V23": "tasks use the buffers of their operator's tensors",
    "V20": "replay of the queues gives the planned times",
    "V06": "every tile starts after the rows it reads are written",
    "V11": "memory is reused only behind its last user, whatever the timing",
    "V26": "weights are fetched as their cost says, and have the port of their memory to themselves",
    "J20": "replays with jitter show no hazard",
    "V18": "initiation interval is possible",
    "V19": "stated totals equal the recomputed ones",
    "V21": "inputs are there from the start, outputs to the end",
}


def verify_bundle(
    folder: str | Path,
    model_path: str | Path | None = None,
    *,
    functional: bool = True,
    seeds: int = 2,
    isolate: bool = True,
    timeout: float = TIMEOUT,
    timings: int = 0,
    frames: int = 0,
) -> Report:
    """Check the bundle in `folder` against its model, sharing no code with the compiler.

    `model_path`: the model that was compiled; None looks for its file name beside the bundle and in the
    working folder. `functional`: also run everything in onnxruntime on `seeds` random inputs, in a child
    process if `isolate` (for at most `timeout` seconds). `timings`: also run the executor with this many random
    timings (0: do not), for `frames` frames (0: as many as it takes for every buffer to be used again).
    Raises `BundleError` if the bundle cannot be read.
    """
    bundle = open_bundle(Path(folder))
    model = find_model(bundle, model_path)
    original = _load_original(model) if model is not None else None
    network = Network(bundle.partitioned)
    models = {segment.path: read_model(bundle.folder, segment.path) for segment in bundle.chain.segments}
    checks = [_check("V01", hashes(bundle, model))]
    checks += check_structure(bundle.document, network, bundle.chain, models, original)
    checks += check_schedule(bundle.document, network)
    checks += _check_weights(bundle, network)
    checks += (
        functional_checks(bundle, model, seeds, isolate=isolate, timeout=timeout)
        if functional
        else skipped("not asked for")
    )
    if timings:
        from h4hc.verify.arena.replay import replay_checks

        checks += replay_checks(bundle, model, timings, frames, isolate=isolate, timeout=timeout)
    return Report(tuple(checks))


def _check_weights(bundle: Bundle, network: Network) -> list[Check]:
    """W01 and W02: the images for the hardware."""
    index = read_index(bundle)
    reason = ABSENT if index is None else "V22 failed" if references(bundle.document).problems else ""
    if index is None or reason:
        return [_skip(code, reason) for code in ("W01", "W02")]
    plan = Plan(bundle.document, network)
    return [_check("W01", stored_tensors(plan, bundle, index)), _check("W02", macro_places(plan, index))]


def check_structure(
    document: Document,
    network: Network,
    chain: Chain,
    models: Mapping[str, ModelProto],
    original: ModelProto | None,
) -> list[Check]:
    """S01 to S06: partitioned.onnx (`network`) and the files of the chain (`models`, by path)."""
    checks = [_check("S01", interface(document, network, original))]
    if references(document).problems:
        return checks + [_skip(code, "V22 failed") for code in ("S02", "S03", "S04", "S06", "S05")]
    plan = Plan(document, network)
    checks.append(_check("S02", nodes_once(plan)))
    if original is None:
        checks.append(_skip("S03", "the model was not found"))
    else:
        checks.append(_check("S03", same_computation(original, network)))
    checks.append(_check("S04", transfer_nodes(plan)))
    checks.append(_check("S06", annotated(plan)))
    checks.append(_check("S05", check_chain(plan, chain, models)))
    return checks


def check_schedule(document: Document, network: Network) -> list[Check]:
    """V02 to V26: every invariant of the schedule, recomputed from the document and the graph."""
    first = _check("V22", references(document))
    if first.passed is False:
        rest = [code for code in NAMES if code.startswith(("V", "J")) and code not in ("V01", "V22")]
        return [first, *(_skip(code, "V22 failed") for code in rest)]
    plan = Plan(document, network)
    run = flat(plan)
    checks = [first, _check("V24", target_tables(document))]
    checks += [_check("V04", exclusivity(run)), _check("V05", order(run)), _check("V10", allocation(run))]
    checks.append(_check("V25", shared(run)))
    static: tuple[tuple[str, Callable[[Plan], Tally]], ...] = (
        ("V02", coverage),
        ("V03", placement),
        ("V07", transfers),
        ("V08", streams),
        ("V09", tensor_table),
        ("V13", residency),
        ("V18", interval),
        ("V19", totals),
        ("V21", pinned),
        ("V23", buffers_used),
        ("V14", well_formed),
    )
    checks += [_check(code, rule(plan)) for code, rule in static]
    return checks + _check_execution(plan, run, checks)


def _check_execution(one: Plan, plan: Plan, so_far: list[Check]) -> list[Check]:
    """The checks that run the queues of `plan`, which is `one` with its frames in flight laid out."""
    dependent = ("V15", "V20", "V06", "V11", "V26", "J20")
    failed = {check.code for check in so_far if check.passed is False}
    broken = sorted(failed & {"V05", "V14"})
    if broken:
        return [_skip(code, f"{broken[0]} failed") for code in dependent]
    tally, clocks = deadlock(plan)
    checks = [_check("V15", tally)]
    if clocks is None:
        return checks + [_skip(code, "V15 failed") for code in dependent[1:]]
    replay, times = nominal_replay(plan)
    checks.append(_check("V20", replay))
    checks.append(_check("V06", data_waits(plan, clocks, times)))
    checks.append(_check("V11", ordered_reuse(plan, clocks)))
    checks.append(_check("V26", fetches(one, plan, clocks)))
    checks.append(_check("J20", jitter_replays(plan)))
    return checks


def _check(code: str, tally: Tally) -> Check:
    return tally.check(code, NAMES[code])


def _skip(code: str, reason: str) -> Check:
    return Tally(skipped=reason).check(code, NAMES[code])


def find_model(bundle: Bundle, given: str | Path | None) -> Path | None:
    """The model file: as given, or the recorded file name beside the bundle or in the working folder."""
    if given is not None:
        path = Path(given)
        if not path.is_file():
            raise BundleError(f"{path}: no such model file", code="model-missing", hint="check --model")
        return path
    name = bundle.document.model_path
    if not name or Path(name).name != name or name in (".", ".."):
        return None
    candidates = (bundle.folder.resolve().parent / name, Path(name))
    return next((path for path in candidates if path.is_file()), None)


def _load_original(path: Path) -> ModelProto:
    """The model without external data."""
    return read_model(path.resolve().parent, path.resolve().name)
