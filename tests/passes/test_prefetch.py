"""Weights that are fetched while earlier operators run."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import h4hc
from h4hc.cli.limits import limited
from h4hc.ir.compilation import Compilation
from h4hc.passes import core
from h4hc.passes.core import fetching
from h4hc.passes.fetched import postponed
from tests.models import EXAMPLE
from tests.verify.compiled import save_weighty

native = pytest.importorskip("h4hc.passes.core._native") if core.COMPILED else None

Data = dict[str, Any]


@st.composite
def lines(draw: st.DrawFn) -> Data:
    """Tasks on up to three queues, with weights behind up to two ports and in up to two memories."""
    count, queues = draw(st.integers(1, 12)), draw(st.integers(1, 3))
    small = st.integers(0, 30)
    data: Data = {"wait_ptr": [0], "wait_task": [], "wait_latency": [], "counts": []}
    tiles = [draw(st.integers(1, 4)) for _ in range(count)]
    for task in range(count):
        for source in draw(st.lists(st.integers(0, task - 1), max_size=2)) if task else []:
            data["wait_task"].append(source)
            data["wait_latency"].append(draw(st.integers(0, 5)))
            data["counts"] += sorted(
                draw(st.lists(st.integers(0, tiles[source]), min_size=tiles[task], max_size=tiles[task]))
            )
        data["wait_ptr"].append(len(data["wait_task"]))
    for pointers, ports in (("port_ptr", "port"), ("kept_ptr", "kept")):
        data[ports], data[pointers] = [], [0]
        for _ in range(count):
            data[ports] += sorted(draw(st.sets(st.integers(0, 1), max_size=1)))
            data[pointers].append(len(data[ports]))
    columns = {
        "queue": st.integers(0, queues - 1), "work": small, "fetch_port": st.integers(-1, 1),
        "fetch_ticks": st.integers(1, 40), "fetch_memory": st.integers(0, 1), "fetch_bytes": st.integers(1, 8),
        "fetch_work": small,
    }  # fmt: skip
    data |= {name: [draw(values) for _ in range(count)] for name, values in columns.items()}
    data["tiles"], data["room"] = tiles, [draw(st.integers(4, 20)) for _ in range(2)]
    data["load"] = [draw(st.integers(0, 12)) for _ in range(2 * count)]
    return data


def wanted(data: st.DataObject, line: Data) -> list[int] | None:
    choice = st.lists(st.integers(0, len(line["queue"]) - 1), unique=True)
    found: list[int] | None = data.draw(st.none() | choice)
    return found


@pytest.mark.skipif(native is None, reason="built without a C compiler")
@settings(max_examples=300, deadline=None)
@given(st.data())
def test_the_same_in_c_and_python(data: st.DataObject) -> None:
    line = data.draw(lines())
    chosen = wanted(data, line)
    assert native.Line(line).timed(chosen) == fetching.Line(line).timed(chosen)


def test_the_compiled_line_refuses_columns_that_do_not_fit() -> None:
    line = _chain(work=[5, 5], ticks=3)
    for name, values in (
        ("wait_task", [1]), ("wait_task", [-1]), ("counts", [2]), ("counts", []), ("tiles", [1, 17]),
        ("fetch_memory", [0, 1]), ("port", [-1]), ("queue", [0]), ("wait_ptr", [0, 1, 0]), ("load", [0]),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=r"line|expected"):
            core.Line(line | {name: values}) if native else pytest.skip("built without a C compiler")


def check(line: Data, timed: fetching.Timed) -> None:
    """A fetch has its port to itself, comes before its task, and behind the task that it is said to wait for."""
    starts, ends, fetches = timed
    fetched = {task for task, *_ in fetches}
    for number, (task, start, end, behind) in enumerate(fetches):
        assert end - start == line["fetch_ticks"][task]
        assert end <= starts[task]
        assert behind < 0 or ends[behind] <= start
        port = line["fetch_port"][task]
        for other, begin, finish, _ in fetches[number + 1 :]:
            assert line["fetch_port"][other] != port or end <= begin or finish <= start
        for other in range(len(starts)):
            column = "kept" if other in fetched else "port"
            used = line[column][line[f"{column}_ptr"][other] : line[f"{column}_ptr"][other + 1]]
            if port in used:
                assert ends[other] <= start or end <= starts[other]


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_fetches_have_their_port_to_themselves(data: st.DataObject) -> None:
    line = data.draw(lines())
    timed = core.Line(line).timed(wanted(data, line))
    check(line, timed)
    late = postponed(_sheet(line), timed)
    check(line, late)
    assert late[:2] == timed[:2]
    assert all(new[1] >= old[1] for old, new in zip(timed[2], late[2], strict=True))


@settings(max_examples=200, deadline=None)
@given(lines())
def test_weights_find_room_beside_what_runs(line: Data) -> None:
    count = len(line["queue"])
    _, ends, fetches = core.Line(line).timed(range(count))
    used = list(line["load"])
    for task, start, _, _ in fetches:
        for other in range(task + 1):
            if other == task or ends[other] > start:
                used[line["fetch_memory"][task] * count + other] += line["fetch_bytes"][task]
    for task, _, _, _ in fetches:
        memory = line["fetch_memory"][task]
        assert used[memory * count + task] <= line["room"][memory]


def _sheet(line: Data) -> Any:
    ports = [SimpleNamespace(port=port) for port in line["fetch_port"]]

    def ports_of(task: int, fetched: bool) -> list[int]:
        column = "kept" if fetched else "port"
        found: list[int] = line[column][line[f"{column}_ptr"][task] : line[f"{column}_ptr"][task + 1]]
        return found

    return SimpleNamespace(ports=("a", "b"), candidates=ports, ports_of=ports_of)


def _chain(work: list[int], ticks: int, room: int = 100) -> Data:
    """Tasks one behind the other on one device, which read their weights at the port; the last could have them fetched."""
    count = len(work)
    last = count - 1
    return {
        "queue": [0] * count, "work": work, "tiles": [1] * count, "fetch_port": [-1] * last + [0],
        "fetch_ticks": [0] * last + [ticks], "fetch_memory": [0] * count, "fetch_bytes": [0] * last + [10],
        "fetch_work": [0] * last + [2], "wait_ptr": [0, *range(count)], "wait_task": list(range(last)),
        "wait_latency": [0] * last, "counts": [1] * last, "port_ptr": [0, *[1] * last, 2], "port": [0, 0],
        "kept_ptr": [0, *[1] * count], "kept": [0], "load": [5] * count, "room": [room],
    }  # fmt: skip


def test_a_fetch_hides_behind_operators_that_do_not_use_the_port() -> None:
    line = _chain([10, 20, 9], ticks=7)  # the first reads weights, the second does not, the third is fetched
    assert fetching.Line(line).timed([2]) == ([0, 10, 30], [10, 30, 32], [(2, 10, 17, -1)])
    assert fetching.Line(line).timed([]) == ([0, 10, 30], [10, 30, 39], [])
    assert fetching.Line(line).timed(None)[1][-1] == 32


def test_a_fetch_waits_for_room() -> None:
    line = _chain([10, 20, 9], ticks=7, room=20) | {"load": [5, 11, 5]}
    assert fetching.Line(line).timed([2]) == ([0, 10, 37], [10, 30, 39], [(2, 30, 37, 1)])
    full = line | {"load": [5, 5, 11]}
    assert fetching.Line(full).timed([2])[2] == []


# --- compiled models ----------------------------------------------------------------------------------------------


@cache
def compiler(target: str, sram: str = "") -> h4hc.Compiler:
    found = h4hc.load_target(target)
    return h4hc.Compiler(limited(found, (f"sram={sram}",)) if sram else found)


def compiled(model: Path, target: str, sram: str = "", **options: Any) -> Compilation:
    loaded = h4hc.load_model(model)
    return compiler(target, sram).compile(loaded.model, h4hc.Options(**options), loaded.source)


def verified(result: Compilation, model: Path, folder: Path) -> Compilation:
    h4hc.write_bundle(result, folder)
    report = h4hc.verify_bundle(folder, model, seeds=1, isolate=False)
    assert [(check.code, check.detail) for check in report.checks if not check.passed] == []
    return result


@pytest.fixture(scope="module")
def weighty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_weighty(tmp_path_factory.mktemp("weighty"))


def latency(result: Compilation) -> int:
    assert result.schedule is not None
    return result.schedule.latency


def fetched(result: Compilation) -> tuple[str, ...]:
    assert result.placement is not None and result.graph is not None
    names = [
        o.name for o, m in zip(result.graph.operators, result.placement.modes, strict=True) if m == "prefetch"
    ]
    assert result.prefetching is None or sorted(names) == sorted(result.prefetching.operators)
    return tuple(names)


def test_large_weights_are_fetched_ahead(weighty: Path, tmp_path: Path) -> None:
    result = verified(compiled(weighty, "npu"), weighty, tmp_path / "bundle")
    without = verified(compiled(weighty, "npu", prefetch=False), weighty, tmp_path / "plain")
    assert fetched(result) and not fetched(without) and without.prefetching is None
    assert latency(result) < 0.9 * latency(without)
    assert result.prefetching is not None
    assert result.prefetching.latency == pytest.approx(latency(without) * 1e-9)
    assert result.baselines[0].latency == pytest.approx(latency(result) * 1e-9)


def test_fast_effort_fetches_nothing(weighty: Path) -> None:
    assert compiled(weighty, "npu", effort="fast").prefetching is None


@pytest.mark.parametrize("objective", ["energy", "edp"])
def test_other_objectives_do_not_get_worse(weighty: Path, tmp_path: Path, objective: str) -> None:
    result = verified(compiled(weighty, "npu", objective=objective), weighty, tmp_path / "bundle")
    without = compiled(weighty, "npu", objective=objective, prefetch=False)
    assert result.schedule is not None and without.schedule is not None
    one, other = result.schedule, without.schedule
    if objective == "energy":
        assert one.energy <= other.energy
    else:
        assert one.energy * one.latency <= other.energy * other.latency


def test_less_room_means_fewer_fetches(weighty: Path, tmp_path: Path) -> None:
    sizes, latencies = ("2MiB", "320KiB", "96KiB"), []
    for sram in sizes:
        result = verified(compiled(weighty, "npu", sram), weighty, tmp_path / sram)
        latencies.append(latency(result))
        assert latency(result) <= latency(compiled(weighty, "npu", sram, prefetch=False))
    assert latencies == sorted(latencies) and latencies[0] < latencies[-1]


@pytest.mark.parametrize("target", ["npu+cim", "npu+cim-sram", "npu+cim-u65"])
def test_two_accelerators_are_no_worse_than_one_that_fetches(target: str, tmp_path: Path) -> None:
    result = verified(compiled(EXAMPLE, target), EXAMPLE, tmp_path / "bundle")
    assert all(latency(result) <= round(baseline.latency * 1e9) for baseline in result.baselines)
    if target == "npu+cim":
        alone = compiled(EXAMPLE, "npu")
        baseline = next(baseline for baseline in result.baselines if baseline.name == "npu")
        assert round(baseline.latency * 1e9) == latency(alone)


def test_a_systolic_array_fetches_too(weighty: Path, tmp_path: Path) -> None:
    base = h4hc.load_target("npu")
    devices = tuple(
        replace_device(device, kind="systolic", preset="systolic-16x16") if device.kind == "npu" else device
        for device in base.devices
    )
    array = h4hc.Compiler(base.model_copy(update={"devices": devices}))
    loaded = h4hc.load_model(weighty)
    result = verified(
        array.compile(loaded.model, h4hc.Options(), loaded.source), weighty, tmp_path / "bundle"
    )
    without = array.compile(loaded.model, h4hc.Options(prefetch=False), loaded.source)
    assert fetched(result) and latency(result) < latency(without)


def replace_device(device: Any, **update: str) -> Any:
    return device.model_copy(update=update)


def test_exact_bounds_hold_beside_fetches(weighty: Path, tmp_path: Path) -> None:
    pytest.importorskip("ortools")
    result = verified(compiled(weighty, "npu", effort="exact", evaluations=200), weighty, tmp_path / "bundle")
    claims = {claim.kind: claim for claim in result.claims}
    assert fetched(result)
    assert claims["latency"].value <= latency(result) < claims["operator-latency"].value
    assert claims["initiation-interval"].status == "bound"


def test_a_parent_with_fetches_can_be_followed(weighty: Path, tmp_path: Path) -> None:
    parent = compiled(weighty, "npu")
    loaded = h4hc.load_model(weighty)
    options = h4hc.Options(baselines=False)
    child = compiler("npu").compile(loaded.model, options, loaded.source, parent=parent)
    assert latency(verified(child, weighty, tmp_path / "bundle")) == latency(parent)
    quick = h4hc.Options(effort="fast", baselines=False)
    child = compiler("npu").compile(loaded.model, quick, loaded.source, parent=parent)
    assert latency(child) * 1e-9 == pytest.approx(parent.prefetching.latency if parent.prefetching else 0)


def test_the_same_twice(weighty: Path) -> None:
    first, second = (compiled(weighty, "npu") for _ in range(2))
    assert first.schedule == second.schedule
    fresh = h4hc.Compiler(h4hc.load_target("npu"))
    loaded = h4hc.load_model(weighty)
    assert fresh.compile(loaded.model, h4hc.Options(), loaded.source).schedule == first.schedule
