"""What if the hardware were another: one model, compiled for every combination of values of some knobs.

    spec = TargetSpec.load("npu+cim")
    points = explore(spec, combinations({"cim.compute_units": [1, 2, 4, 8]}), loaded, Options())

The first point is always the target as it is, for comparison.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from math import prod
from typing import TYPE_CHECKING, Any

from h4hc.backends.base import load_backends
from h4hc.compiler import Compiler
from h4hc.errors import InfeasibleError, OptionError
from h4hc.ir.schedule import TICK_SECONDS

if TYPE_CHECKING:
    from h4hc.backends.knobs import TargetSpec, Value
    from h4hc.frontend import Loaded
    from h4hc.ir.compilation import Compilation, Options
    from h4hc.ir.target import Target

MOST_POINTS = 4096
Values = dict[str, "Value"]


@dataclass(frozen=True, slots=True)
class Point:
    """What the model costs on one target.

    `values`: the knobs that were turned (none: the target as it is). Latency and interval in seconds, energy in joules,
    `area_mm2` as far as the cost models know it. `busy`: the share of the latency that each device works. `peaks`:
    bytes of activations per memory. `problem`: why there is no schedule (then all figures are zero).
    `on_front`: no other point is better in one of latency and energy and not worse in the other.
    """

    values: Values
    latency: float = 0.0
    interval: float = 0.0
    energy: float = 0.0
    area_mm2: float | None = None
    operators: Mapping[str, int] | None = None
    busy: Mapping[str, float] | None = None
    peaks: Mapping[str, int] | None = None
    problem: str = ""
    on_front: bool = False

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def combinations(sweeps: Mapping[str, Sequence[Value]]) -> list[Values]:
    """Every combination of the values, the last knob fastest. Raises OptionError if there are too many."""
    count = prod(len(values) for values in sweeps.values())
    if count > MOST_POINTS:
        raise OptionError(
            f"the sweeps have {count} combinations, more than {MOST_POINTS}",
            code="option",
            hint="sweep fewer values at a time",
        )
    return [dict(zip(sweeps, values, strict=True)) for values in product(*sweeps.values())]


def explore(
    spec: TargetSpec,
    tried: Iterable[Values],
    loaded: Loaded,
    options: Options,
    observe: Callable[[Point], None] = lambda point: None,
) -> list[Point]:
    """The points of the target as it is and of `tried`, in this order, each combination once.

    Targets that do not make sense raise TargetError before anything is compiled; a model that does not fit a target
    is a point with a `problem`.
    """
    given: list[Values] = [{}, *tried]
    wanted = list({repr(values): values for values in given}.values())
    targets = [spec.build(values) for values in wanted]
    points = []
    for values, target in zip(wanted, targets, strict=True):
        points.append(_point(values, target, loaded, options))
        observe(points[-1])
    return with_front(points)


def with_front(points: Sequence[Point]) -> list[Point]:
    """The points, each with `on_front` set."""
    return [replace(point, on_front=not point.problem and not _dominated(point, points)) for point in points]


def _dominated(point: Point, points: Iterable[Point]) -> bool:
    return any(
        not other.problem
        and all(a <= b for a, b in zip(_values(other), _values(point), strict=True))
        and _values(other) != _values(point)
        for other in points
    )


def _values(point: Point) -> tuple[float, float, float]:
    return point.latency, point.interval, point.energy


def _point(values: Values, target: Target, loaded: Loaded, options: Options) -> Point:
    try:
        compilation = Compiler(target).compile(loaded.model, options, loaded.source)
    except InfeasibleError as error:
        return Point(values, problem=str(error))
    return measured(values, compilation)


def measured(values: Values, compilation: Compilation) -> Point:
    """The point of a finished compilation."""
    schedule, placement = compilation.schedule, compilation.placement
    if schedule is None or placement is None:
        raise ValueError("the pipeline made no schedule")
    names = [device.name for device in compilation.target.devices]
    work = dict.fromkeys(names, 0)
    for task in schedule.tasks:
        if task.resource in work:
            work[task.resource] += task.work
    areas = [backend.area_mm2 for backend in load_backends(compilation.target).values()]
    known = [area for area in areas if area is not None]
    return Point(
        values=values,
        latency=schedule.latency * TICK_SECONDS,
        interval=schedule.initiation_interval * TICK_SECONDS,
        energy=schedule.energy * 1e-12,
        area_mm2=sum(known) if known else None,
        operators={name: placement.devices.count(name) for name in names},
        busy={name: ticks / (schedule.initiation_interval or 1) for name, ticks in work.items()},
        peaks={memory.memory: memory.peak for memory in schedule.memories},
    )
