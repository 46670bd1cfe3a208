"""Random scheduling problems, as hypothesis strategies."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st


@st.composite
def problems(
    draw: st.DrawFn, max_operators: int = 12, min_operators: int = 1, reach: int | None = None
) -> dict[str, Any]:
    """A random acyclic graph on NPU, CIM and host; the host shares the NPU's memory and runs everything.

    `reach`: an operator reads the one before it, and perhaps others among the last `reach` (None: any).
    """
    n = draw(st.integers(min_operators, max_operators))
    tensors = n + 1  # tensor 0 is the graph input, tensor v + 1 is made by operator v
    rows = draw(st.lists(st.sampled_from([1, 4, 7, 16]), min_size=n, max_size=n))
    data: dict[str, Any] = {
        "operators": n,
        "tensors": tensors,
        "devices": 3,
        "memories": 2,
        "links": 1,
        "io_memory": 0,
        "handoff": draw(st.integers(0, 20)),
        "rows": rows,
        "producer": [-1, *range(n)],
        "out_ptr": list(range(n + 1)),
        "out_tensor": [v + 1 for v in range(n)],
        "dev_memory": [0, 1, 0],
        "dev_overhead": draw(st.lists(st.integers(0, 5), min_size=3, max_size=3)),
        "dev_static": [0.5, 0.25, 0.125],
        "period": draw(st.sampled_from([0, 0, 90])),
        "dev_capacity": [0, draw(st.integers(0, 300)), 0],
        "link_of": [-1, 0, 0, -1],
        "link_channels": [draw(st.integers(1, 2))],
        "link_overhead": [draw(st.integers(0, 3))],
        "xfer_work": draw(st.lists(st.integers(1, 60), min_size=tensors, max_size=tensors)),
        "xfer_energy": draw(st.lists(st.integers(0, 60), min_size=tensors, max_size=tensors)),
    }
    _draw_inputs(draw, data, reach)
    _draw_modes(draw, data)
    data["alike"] = draw(st.lists(st.integers(0, n - 1), min_size=n, max_size=n))
    data["rank"] = draw(st.lists(st.integers(0, 5), min_size=n, max_size=n))
    read = set(data["in_tensor"])
    data["sink"] = [int(t not in read) for t in range(tensors)]
    return data


def _draw_inputs(draw: st.DrawFn, data: dict[str, Any], reach: int | None) -> None:
    readers: list[list[int]] = [[] for _ in range(data["tensors"])]
    keys = ("in_tensor", "in_rows", "in_window", "in_stride", "in_pad")
    data.update({key: [] for key in keys})
    data["in_ptr"] = [0]
    for v in range(data["operators"]):
        first = 0 if reach is None else max(0, v + 1 - reach)
        read = draw(st.sets(st.integers(first, v), min_size=1, max_size=3))
        for tensor in sorted(read if reach is None else read | {v}):
            streams = tensor > 0 and data["rows"][tensor - 1] > 1 and draw(st.booleans())
            window = draw(st.integers(1, 3))
            entry = (tensor, draw(st.sampled_from([4, 8, 16])) if streams else 0, window,
                     draw(st.integers(1, 2)), draw(st.integers(0, 1)))  # fmt: skip
            for key, value in zip(keys, entry, strict=True):
                data[key].append(value)
            readers[tensor].append(v)
        data["in_ptr"].append(len(data["in_tensor"]))
    data["cons_ptr"] = [0]
    data["cons_op"] = []
    for group in readers:
        data["cons_op"] += group
        data["cons_ptr"].append(len(data["cons_op"]))


def _draw_modes(draw: st.DrawFn, data: dict[str, Any]) -> None:
    data.update(mode_ptr=[0], mode_device=[], mode_work=[], mode_energy=[], mode_resident=[])

    def add(device: int, resident: int = 0) -> None:
        data["mode_device"].append(device)
        data["mode_work"].append(draw(st.integers(0, 200)))
        data["mode_energy"].append(draw(st.integers(0, 200)))
        data["mode_resident"].append(resident)

    for _ in range(data["operators"]):
        if draw(st.booleans()):
            add(0)
        if draw(st.booleans()):
            add(1, draw(st.integers(0, 120)))
            if draw(st.booleans()):
                add(1)
        add(2)
        data["mode_ptr"].append(len(data["mode_device"]))


@st.composite
def with_memories(draw: st.DrawFn, data: dict[str, Any]) -> dict[str, Any]:
    """`data` with bytes in memories that are too small."""
    tensors = data["tensors"]
    held = draw(st.lists(st.sampled_from([0, 16, 64, 640]), min_size=2 * tensors, max_size=2 * tensors))
    heir = [-1] * tensors
    for v in range(data["operators"]):
        if draw(st.booleans()):
            heir[v + 1] = draw(st.sampled_from(data["in_tensor"][data["in_ptr"][v] : data["in_ptr"][v + 1]]))
    limits = draw(st.lists(st.sampled_from([-1, 0, 100, 1000]), min_size=2, max_size=2))
    return {**data, "held": held, "heir": heir, "mem_limit": limits, "mem_price": [0.75, 3.0]}


@st.composite
def placements(draw: st.DrawFn, data: dict[str, Any]) -> tuple[list[int], list[int]]:
    """Random modes and tile counts for `data`."""
    pointers = data["mode_ptr"]
    modes = [draw(st.integers(0, pointers[v + 1] - pointers[v] - 1)) for v in range(data["operators"])]
    tiles = [draw(st.integers(1, min(rows, 16))) for rows in data["rows"]]
    return modes, tiles
