"""The compiler: from an ONNX model to a schedule, one pass after the other.

    compilation = compile_model(load_model("subnet.onnx"), load_target("npu+cim"))

`Compiler.passes` is the pipeline. A pass is a frozen record with a `name`, the fields of `Compilation` it `needs` and
`provides`, and `run(compilation) -> compilation`. Other packages add passes through the entry-point group
`h4hc.passes`: an entry is a function that takes the list of passes and returns the list to run.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from h4hc.backends.base import Backend, load_backends
from h4hc.errors import OptionError
from h4hc.ir.compilation import EFFORTS, OBJECTIVES, PRECISIONS, WEIGHTS, Compilation, Options, Source
from h4hc.passes.allocate import Allocate
from h4hc.passes.annotate import Annotate
from h4hc.passes.constrain import Constrain
from h4hc.passes.fuse import Fuse
from h4hc.passes.partition import Partition
from h4hc.passes.pipeline import Pipeline
from h4hc.passes.prefetch import Prefetch
from h4hc.passes.schedule import MakeSchedule
from h4hc.passes.split import Split
from h4hc.passes.weigh import Weigh

if TYPE_CHECKING:
    from onnx import ModelProto

    from h4hc.ir.cost import Row
    from h4hc.ir.graph import Graph
    from h4hc.ir.target import Target
    from h4hc.ir.workload import Kernel

ENTRY_POINTS = "h4hc.passes"


class Pass(Protocol):
    """One step of the pipeline."""

    @property
    def name(self) -> str: ...
    @property
    def needs(self) -> tuple[str, ...]: ...
    @property
    def provides(self) -> tuple[str, ...]: ...
    def run(self, compilation: Compilation) -> Compilation: ...


class Compiler:
    """A target with its cost models, the costs asked so far and the pipeline: reuse one for many models."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self.backends: Mapping[str, Backend] = load_backends(target)
        costs: dict[Kernel, Row] = {}
        self.passes = extended(
            [
                Fuse(),
                Weigh(),
                Annotate(costs),
                Constrain(),
                Partition(),
                Split(),
                MakeSchedule(),
                Pipeline(),
                Prefetch(),
                Allocate(),
            ]
        )

    def compile(
        self,
        model: ModelProto,
        options: Options | None = None,
        source: Source | None = None,
        observe: Callable[[Pass, Compilation, float], bool] | None = None,
        parent: Compilation | None = None,
        graph: Graph | None = None,
    ) -> Compilation:
        """Compile a normalised model (see h4hc.frontend).

        `observe` is called after each pass with the pass, the compilation and the seconds of CPU time it took; it
        stops the pipeline by returning True. `parent` is a finished compilation of a similar model for this target: the
        search sets out from its placement and is short (see h4hc.passes.inherit). `graph`: the graph of `model`, if it is
        known already (see h4hc.search.pieces).
        Raises H4hcError subclasses for what the user can mend.
        """
        chosen = options or Options()
        check_options(chosen)
        compilation = Compilation(
            source=source or Source(model.graph.name or "model", "", ""),
            model=model,
            target=self.target,
            options=chosen,
            backends=self.backends,
            parent=parent,
            graph=graph,
        )
        for step in self.passes:
            start = time.process_time()
            compilation = step.run(compilation)
            if observe is not None and observe(step, compilation, time.process_time() - start):
                break
        return compilation


def check_options(options: Options) -> None:
    """Raise OptionError for a value that does not exist."""
    for what, value, known in (
        ("objective", options.objective, OBJECTIVES),
        ("effort", options.effort, EFFORTS),
        ("precision", options.precision, PRECISIONS),
        ("weights", options.weights, WEIGHTS),
    ):
        if value not in known:
            raise OptionError(
                f"{what} '{value}' is unknown", code="option", hint=f"choose from {', '.join(known)}"
            )
    if options.budget_seconds is not None and not options.budget_seconds > 0:
        raise OptionError(
            "the latency budget must be positive", code="option", hint="for example --budget 20ms"
        )
    if options.evaluations is not None and options.evaluations < 0:
        raise OptionError("the number of evaluations must not be negative", code="option")
    if options.frames is not None and options.frames < 1:
        raise OptionError("at least one frame is in flight", code="option", hint="for example --frames 2")
    if options.interval_seconds is not None and not options.interval_seconds > 0:
        raise OptionError("the frame period must be positive", code="option", hint="for example --fps 60")
    if options.time_limit is not None and not options.time_limit > 0:
        raise OptionError(
            "the time limit must be positive", code="option", hint="for example --time-limit 10s"
        )


def check_pipeline(passes: Sequence[Pass]) -> None:
    """Raise OptionError if a pass needs what no pass before it provides."""
    have = {"model"}
    for step in passes:
        missing = [field for field in step.needs if field not in have]
        if missing:
            raise OptionError(
                f"pass {step.name} needs {', '.join(missing)}, which no pass before it provides",
                code="pipeline",
            )
        have.update(step.provides)


def extended(pipeline: list[Pass]) -> tuple[Pass, ...]:
    """`pipeline` with what other packages add."""
    from importlib.metadata import entry_points

    for entry in sorted(entry_points(group=ENTRY_POINTS), key=lambda e: e.name):
        pipeline = list(entry.load()(pipeline))
    check_pipeline(pipeline)
    return tuple(
        replace(step, earlier=tuple(pipeline[:index])) if isinstance(step, Split) else step
        for index, step in enumerate(pipeline)
    )
