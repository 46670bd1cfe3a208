"""Where the time of a frame goes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import h4hc
from h4hc.bundle import load_document
from h4hc.bundle.bottlenecks import Step, bottlenecks
from tests.models import EXAMPLE


def task(id_: int, resource: str, work: int, *waits: tuple[int, list[int], int], tiles: int = 1) -> Any:
    kind = "transfer" if "." in resource else "compute"
    entries = [{"task": t, "counts": c, "latency": lat, "reason": "data"} for t, c, lat in waits]
    return {"id": id_, "resource": resource, "kind": kind, "work": work, "tiles": tiles, "waits": entries,
            "start": 0, "end": 0, "stage": 0}  # fmt: skip


def document(latency: int, *tasks: Any) -> Any:
    queues: dict[str, list[int]] = {}
    for item in tasks:
        queues.setdefault(item["resource"], []).append(item["id"])
    return {
        "tasks": list(tasks),
        "queues": queues,
        "summary": {"latency": latency, "initiation_interval": latency, "frames_in_flight": 1},
        "devices": [{"name": "npu", "tile_overhead": 2}, {"name": "cim", "tile_overhead": 3}],
        "links": [{"name": "axi", "tile_overhead": 1}],
    }


def test_a_chain_over_two_devices() -> None:
    """npu 10, transfer 4, hand-off 1, cim 20: all of it is critical."""
    found = bottlenecks(
        document(35, task(0, "npu", 10), task(1, "axi.0", 4, (0, [1], 0)), task(2, "cim", 20, (1, [1], 1)))
    )
    assert found.path == (Step(0, 0, 0, 10, 0), Step(1, 0, 0, 4, 0), Step(2, 0, 0, 20, 1))
    assert found.shares == {"npu": 10, "axi": 4, "cim": 20, "hand-off": 1}
    idle = {entry.resource: (entry.busy, entry.causes) for entry in found.idle}
    assert idle == {
        "npu": (10, {"end": 25}),
        "axi.0": (4, {"npu": 10, "end": 21}),
        "cim": (20, {"axi": 14, "hand-off": 1}),
    }
    assert found.layer_by_layer == 35


def test_two_tiles_overlap() -> None:
    """npu 2 x 6, cim 2 x 10, tile by tile: 6 + 20; layer by layer 10 + 17 without the tiles' overhead."""
    found = bottlenecks(
        document(26, task(0, "npu", 12, tiles=2), task(1, "cim", 20, (0, [1, 2], 0), tiles=2))
    )
    assert found.path == (Step(0, 0, 0, 6, 0), Step(1, 0, 1, 20, 0))
    assert found.layer_by_layer == 10 + 17
    assert {e.resource: e.causes for e in found.idle} == {"npu": {"end": 14}, "cim": {"npu": 6}}


@pytest.mark.parametrize("target", ["npu", "npu+cim", "npu+cim-sram"])
def test_the_path_makes_up_the_latency(target: str, tmp_path: Path) -> None:
    compiler, loaded = h4hc.Compiler(h4hc.load_target(target)), h4hc.load_model(EXAMPLE)
    h4hc.write_bundle(compiler.compile(loaded.model, h4hc.Options(effort="fast"), loaded.source), tmp_path)
    written = load_document(tmp_path)
    found, latency = bottlenecks(written), written["summary"]["latency"]
    assert sum(step.work + step.latency for step in found.path) == latency
    assert sum(found.shares.values()) == latency
    for entry in found.idle:
        assert entry.busy + sum(entry.causes.values()) == latency
    assert found.layer_by_layer >= latency * (1 if target == "npu" else 1.1)


@pytest.mark.parametrize(
    "options", [{"frames": 3}, {"objective": "throughput"}, {"interval_seconds": 1 / 600}]
)
def test_several_frames_in_flight(options: dict[str, Any], tmp_path: Path) -> None:
    """Work and causes make up the interval, and there are more causes than one."""
    compiler, loaded = h4hc.Compiler(h4hc.load_target("npu+cim")), h4hc.load_model(EXAMPLE)
    chosen = h4hc.Options(effort="fast", **options)
    h4hc.write_bundle(compiler.compile(loaded.model, chosen, loaded.source), tmp_path)
    written = load_document(tmp_path)
    assert written["summary"]["frames_in_flight"] > 1
    found = bottlenecks(written)
    for entry in found.idle:
        assert entry.busy + sum(entry.causes.values()) == written["summary"]["initiation_interval"]
        assert min(entry.causes.values(), default=1) > 0
    assert {cause for entry in found.idle for cause in entry.causes} >= {"axi", "npu", "hand-off"}


def test_two_frames_on_two_devices() -> None:
    """npu 10 and cim 30 with a hand-off of 5: at an interval of 30 cim is always busy, and npu has nothing to do for 20."""
    first, second = task(0, "npu", 10), task(1, "cim", 30, (0, [1], 5))
    given = document(45, first | {"end": 10}, second | {"start": 15, "end": 45})
    for waiting in second["waits"]:
        waiting["lag"] = 0
    given["summary"] |= {"initiation_interval": 30, "frames_in_flight": 2}
    idle = {entry.resource: (entry.busy, entry.causes) for entry in bottlenecks(given).idle}
    assert idle == {"npu": (10, {"balance": 20}), "cim": (30, {})}
    given["summary"]["initiation_interval"] = 40
    idle = {entry.resource: (entry.busy, entry.causes) for entry in bottlenecks(given).idle}
    assert idle == {"npu": (10, {"balance": 30}), "cim": (30, {"hand-off": 5, "npu": 5})}
