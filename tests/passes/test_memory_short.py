"""Memories that are too small: spill, then change the schedule, then say what is missing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import h4hc
from h4hc.errors import InfeasibleError
from h4hc.ir.compilation import Compilation
from h4hc.ir.target import Target
from h4hc.verify import verify_bundle
from tests.models import EXAMPLE, unpack

FAST = h4hc.Options(effort="fast", baselines=False)


def shrunk(target: str, size: int, *, spill: bool = True) -> Target:
    """`target` with SRAMs of at most `size` bytes, and with nothing behind them unless `spill`."""
    found = h4hc.load_target(target)
    memories = tuple(
        memory.model_copy(update={"bytes": min(memory.bytes, size)}) if memory.kind == "sram" else memory
        for memory in found.memories
    )
    devices = tuple(
        device if spill else device.model_copy(update={"spill": None}) for device in found.devices
    )
    return found.model_copy(update={"memories": memories, "devices": devices})


def compiled(path: Path, target: Target, options: h4hc.Options = FAST) -> Compilation:
    loaded = h4hc.load_model(path)
    return h4hc.Compiler(target).compile(loaded.model, options, loaded.source)


@pytest.mark.parametrize("target", ["npu", "npu+cim"])
@pytest.mark.parametrize("name", ["", "efficientvit_m0"])
def test_smaller_memories_only_make_it_slower(name: str, target: str, tmp_path: Path) -> None:
    path = unpack(name, tmp_path) if name else EXAMPLE
    before = 0
    for size in (1024, 256, 64):
        result = compiled(path, shrunk(target, size * 1024))
        schedule = result.schedule
        assert schedule is not None
        assert all(use.weights + use.peak <= use.capacity for use in schedule.memories)
        assert schedule.latency >= before * 0.97
        before = schedule.latency
        h4hc.write_bundle(result, tmp_path / str(size))
        report = verify_bundle(tmp_path / str(size), path, functional=False)
        assert [check.code for check in report.checks if check.passed is False] == []


def test_without_a_memory_behind_the_schedule_changes(tmp_path: Path) -> None:
    """On NPU and CIM together the CIM's memory overflows; operators move until it does not."""
    path = unpack("mobilenetv2_100", tmp_path)
    free = compiled(path, h4hc.load_target("npu+cim"))
    assert free.placement is not None
    assert free.placement.spilled
    result = compiled(path, shrunk("npu+cim", 2 * 1024 * 1024, spill=False))
    assert result.placement is not None
    assert not result.placement.spilled
    assert result.schedule is not None
    assert all(use.peak <= use.capacity for use in result.schedule.memories)


def test_what_is_missing_is_said_in_numbers() -> None:
    with pytest.raises(InfeasibleError, match="the most frugal schedule") as caught:
        compiled(EXAMPLE, shrunk("npu", 256 * 1024, spill=False))
    shortage = caught.value.shortage
    assert shortage is not None
    assert (shortage.what, shortage.available, shortage.unit) == ("memory sram", 256 * 1024, "bytes")
    assert shortage.needed > shortage.available
    assert shortage.change[0] == "sram.bytes"


def test_what_the_message_asks_for_is_enough() -> None:
    with pytest.raises(InfeasibleError) as caught:
        compiled(EXAMPLE, shrunk("npu", 256 * 1024, spill=False))
    assert caught.value.shortage is not None
    needed = int(caught.value.shortage.needed)
    assert compiled(EXAMPLE, shrunk("npu", needed, spill=False)).schedule is not None


def branched(branches: int = 4) -> onnx.ModelProto:
    """Parallel branches that are wide in the middle, and there run on the host if the CIM is the only accelerator."""
    wide, narrow, sums, weights = [], [], [], []
    for number in range(branches):
        shapes = {f"v{number}": (64, 8, 3, 3), f"w{number}": (8, 64, 1, 1)}
        weights += [
            numpy_helper.from_array(np.ones(shape, np.float32), name) for name, shape in shapes.items()
        ]
        wide.append(helper.make_node("Conv", ["x", f"v{number}"], [f"a{number}"], pads=[1, 1, 1, 1]))
        narrow.append(helper.make_node("Softmax", [f"a{number}"], [f"b{number}"]))
        narrow.append(helper.make_node("Conv", [f"b{number}", f"w{number}"], [f"c{number}"]))
    total = "c0"
    for number in range(1, branches):
        sums.append(helper.make_node("Add", [total, f"c{number}"], [f"s{number}"]))
        total = f"s{number}"
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 8, 64, 64]) for name in ("x", total)]
    graph = helper.make_graph([*wide, *narrow, *sums], "branches", ends[:1], ends[1:], weights)
    return h4hc.normalise(
        helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 20)])
    )


def test_baselines_are_those_of_the_order_that_fits() -> None:
    """One branch after the other, as little memory demands, takes longer than the list scheduler's order."""
    model, target = branched(), shrunk("npu+cim", 768 * 1024, spill=False)
    both = h4hc.Compiler(target).compile(model, h4hc.Options(effort="fast"))
    alone = h4hc.Compiler(target.restrict(["cim", "host"])).compile(model, FAST)
    assert alone.schedule is not None
    latencies = {baseline.name: round(baseline.latency * 1e9) for baseline in both.baselines}
    assert latencies["cim"] == alone.schedule.latency
