"""The record that the passes fill in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from h4hc.ir.schedule import TICK_SECONDS

if (
    TYPE_CHECKING
):  # what only annotations name: the command line needs the options for its help, without pydantic
    from onnx import ModelProto

    from h4hc.errors import InfeasibleError
    from h4hc.ir.claim import Claim
    from h4hc.ir.cost import CostModel, CostTable
    from h4hc.ir.graph import Graph
    from h4hc.ir.placement import Placement
    from h4hc.ir.prefetching import Prefetching
    from h4hc.ir.schedule import Schedule
    from h4hc.ir.splitting import Splitting
    from h4hc.ir.system import Simulated
    from h4hc.ir.target import Target


OBJECTIVES = ("latency", "energy", "edp", "throughput")
EFFORTS = ("fast", "balanced", "exact")
PRECISIONS = ("int8", "model")
WEIGHTS = ("typical", "stored")
RATE_FRAMES = 4  # that a fixed rate may keep in flight if the options do not say
THROUGHPUT_FRAMES = 2  # the same of the objective throughput


def frame_period(fps: float | None) -> float | None:
    """Seconds between frames at a rate of `fps` a second; None without one."""
    return None if fps is None else 1 / fps


@dataclass(frozen=True, slots=True)
class Constraint:
    """What a user fixes about a placement.

    `operators` is the name of an operator or of one of its nodes, or a pattern; `pin` says whether they must or must
    not run on `device`, in `mode` (empty: any).
    """

    operators: str
    device: str
    pin: bool = True
    mode: str = ""

    def __str__(self) -> str:
        mode = f":{self.mode}" if self.mode else ""
        return f"--{'pin' if self.pin else 'forbid'} {self.operators}={self.device}{mode}"


@dataclass(frozen=True, slots=True)
class Options:
    """What a user chooses for one compilation.

    `budget_seconds`: the latency that the schedule must meet (None: no budget). `precision`:
    ``int8`` plans float tensors as the int8 tensors they are deployed as; ``model`` plans them as
    stored. `weights`: whether compressed weights are sized by a ``typical`` ratio (for weights that are not
    trained yet, and faster) or by the entropy of the ``stored`` ones. `evaluations`: schedules the local
    search may evaluate (None: from `effort`), so that a result does not depend on the machine's speed.
    `baselines`: also schedule the model on each accelerator alone, to report against. `time_limit`: seconds that
    exact effort may take (None: only `evaluations` limit it); a result that was cut short says so. `constraints`: where
    operators must or must not run. `frames`: how many may be in flight at a time (None: 4 at a fixed rate, 2 for
    throughput, else 1; see `window`). `interval_seconds`: a fixed frame
    period (None: as short as `frames` allow). `split`: two devices may compute one operator, except at fast effort.
    `prefetch`: weights may be fetched while earlier operators compute, except at fast effort.
    """

    objective: str = "latency"
    budget_seconds: float | None = None
    effort: str = "balanced"
    precision: str = "int8"
    weights: str = "typical"
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    evaluations: int | None = None
    baselines: bool = True
    constraints: tuple[Constraint, ...] = ()
    time_limit: float | None = None
    frames: int | None = None
    interval_seconds: float | None = None
    split: bool = True
    prefetch: bool = True

    @property
    def fetches(self) -> bool:
        """Whether weights may be fetched ahead."""
        return self.prefetch and self.effort != "fast"

    @property
    def window(self) -> int:
        """How many frames may be in flight at a time."""
        if self.frames is not None:
            return self.frames
        if self.interval_seconds is not None:
            return RATE_FRAMES
        return THROUGHPUT_FRAMES if self.objective == "throughput" else 1

    @property
    def budget_ticks(self) -> int:
        """The latency budget in whole ticks; 0: there is none."""
        return int(self.budget_seconds / TICK_SECONDS) if self.budget_seconds else 0

    @property
    def period_ticks(self) -> int:
        """The fixed frame period in whole ticks; 0: there is none."""
        return round(self.interval_seconds / TICK_SECONDS) if self.interval_seconds else 0

    def spacing(self, alone: int) -> int:
        """Ticks from frame to frame, for which static power is charged: the fixed period, else those of frames `alone`."""
        return self.period_ticks or alone

    def excess(self, latency: float) -> float:
        """Ticks by which a latency in ticks exceeds the budget."""
        return max(0.0, latency - self.budget_seconds / TICK_SECONDS) if self.budget_seconds else 0.0


@dataclass(frozen=True, slots=True)
class Alternative:
    """A placement other than the chosen one, and its simulation."""

    placement: Placement
    simulated: Simulated


@dataclass(frozen=True, slots=True)
class Baseline:
    """What the same model costs with one accelerator (and the host) alone: seconds and joules.

    `interval`: between frames, with as many in flight as there may be, if the memories have room for them (0: the latency).
    """

    name: str
    latency: float
    energy: float
    interval: float = 0.0


@dataclass(frozen=True, slots=True)
class Source:
    """The model as the user gave it. `path` is empty for a model passed in memory."""

    name: str
    path: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Compilation:
    """One model on its way through the pipeline. A field is None until the pass that provides it has run.

    `model` is the normalised ONNX model (see `h4hc.frontend.normalise`), `backends` the cost model of
    each device by name, `choices` the costs less what the options rule out, `simulated` the placement in
    integers with its trace, which the scheduling passes share, `splitting` the operators that two devices
    compute together (None: none, and `model` is as it was given), `alternatives` placements that may do better once
    frames overlap, `parent` a finished compilation of a similar model, whose placement the search sets out from, `rivals` (with
    names) compilations that may do better once weights are fetched, `prefetching` the weights that are (None: none),
    `refusal` the error unless weights that are fetched make the schedule fast enough for the frame rate.
    """

    source: Source
    model: ModelProto
    target: Target
    options: Options
    backends: Mapping[str, CostModel]
    graph: Graph | None = None
    costs: CostTable | None = None
    choices: CostTable | None = None
    placement: Placement | None = None
    simulated: Simulated | None = None
    schedule: Schedule | None = None
    baselines: tuple[Baseline, ...] = ()
    claims: tuple[Claim, ...] = ()
    splitting: Splitting | None = None
    alternatives: tuple[Alternative, ...] = ()
    parent: Compilation | None = None
    rivals: tuple[tuple[str, Compilation], ...] = ()
    prefetching: Prefetching | None = None
    refusal: InfeasibleError | None = None
