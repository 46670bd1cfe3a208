"""What to measure: one single-operator model per distinct kernel, with a manifest and a table to fill in.

The folder of a plan holds ``manifest.json``, ``template.csv`` (a profile whose times are empty) and the models in
``operators/``. Names of kernels come from what they compute, so that two plans name the same kernel alike.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from h4hc.backends.profiles.kernels import canonical, row_of
from h4hc.errors import H4hcError, one_line
from h4hc.ir.cost import CostModel, Refusal
from h4hc.ir.workload import Elementwise, Kernel, Move, kernel_class
from h4hc.profiling.build import NoModelError
from h4hc.profiling.models import Form, kernel_model

if TYPE_CHECKING:
    from onnx import ModelProto

    from h4hc.frontend import Loaded
    from h4hc.ir.graph import Graph, Operator
    from h4hc.profiling.extract import Extractor

VERSION = "1.0"
MANIFEST = "manifest.json"
TABLE = "template.csv"
FOLDER = "operators"
LONGEST_NAME = 500
_FUSED_INTO_TABLES = ("bias", "batch_norm", "relu", "lut")


@dataclass(slots=True)
class Demand:
    """A kernel to measure: the (model, operator) pairs that need it, and an operator to take it from."""

    kernel: Kernel
    users: list[tuple[str, str]] = field(default_factory=list)
    origin: tuple[Extractor, Operator] | None = None

    @property
    def identifier(self) -> str:
        """The same for the same kernel in every plan."""
        text = json.dumps(row_of(self.kernel), sort_keys=True)
        name = kernel_class(self.kernel).replace(" ", "-")
        return f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:10]}"


@dataclass(frozen=True, slots=True)
class Plan:
    """`demands` in the order in which kernels are met. `device` is what they are planned for, if anything."""

    form: Form
    demands: tuple[Demand, ...]
    models: tuple[Mapping[str, Any], ...] = ()
    device: str = ""
    refused: tuple[Mapping[str, Any], ...] = ()  # what the device does not run, with the reason


def plan_kernels(kernels: Iterable[Kernel], form: Form = "int8") -> Plan:
    """A plan of the distinct kernels among `kernels`, for example those of all subnets of a search space."""
    demands: dict[Kernel, Demand] = {}
    for kernel in kernels:
        if not _free(kernel):
            demands.setdefault(canonical(kernel), Demand(canonical(kernel)))
    return Plan(form, tuple(demands.values()))


def plan_models(
    models: Iterable[Loaded], form: Form = "int8", device: CostModel | None = None, device_name: str = ""
) -> Plan:
    """A plan of what `models` need; given a `device`, of what it can run of them."""
    from h4hc.profiling.extract import Extractor

    demands: dict[Kernel, Demand] = {}
    entries, refused = [], []
    for loaded in models:
        graph = lowered(loaded.model, form)
        extractor = Extractor(loaded.model, graph)
        name = _shown(loaded.source.name)
        entries.append({"name": name, "sha256": loaded.source.sha256, "operators": len(graph.operators)})
        for operator in graph.operators:
            kernel = canonical(operator.kernel)
            if _free(kernel):
                continue
            answer = device.costs(kernel) if device is not None else None
            if isinstance(answer, Refusal):
                refused.append({"model": name, "operator": _shown(operator.name), "reason": answer.reason})
                continue
            demand = demands.setdefault(kernel, Demand(kernel, origin=(extractor, operator)))
            demand.users.append((name, _shown(operator.name)))
    return Plan(form, tuple(demands.values()), tuple(entries), device_name, tuple(refused))


def lowered(model: ModelProto, form: Form) -> Graph:
    """The operators of a normalised model, as they are compiled for `form`."""
    from h4hc.frontend.nodes import NodeGraph
    from h4hc.passes.fuse import build_graph

    return build_graph(NodeGraph(model), form)


def _shown(name: str) -> str:
    """`name` as a cell of a profile may hold it: on one line, of bearable length."""
    return one_line(name)[:LONGEST_NAME]


def _free(kernel: Kernel) -> bool:
    return isinstance(kernel.workload, Move) and kernel.workload.kind == "view"


def build(demand: Demand, form: Form) -> ModelProto:
    """The single-operator model of a demand: the operator itself where it stands for itself, else a stand-in.

    Raises NoModelError if neither lowers to the kernel again.
    """
    reason = ""
    for candidate in _candidates(demand, form):
        try:
            model = candidate()
        except NoModelError as error:
            reason = str(error)
            continue
        if _stands_for(model, demand.kernel, form):
            return model
        reason = "it does not compile to the same kernel on its own"
    raise NoModelError(reason)


def _candidates(demand: Demand, form: Form) -> list[Callable[[], ModelProto]]:
    """Ways to make the model of a demand, the best first. A float operator is none of an int8 kernel."""
    found: list[Callable[[], ModelProto]] = [partial(kernel_model, demand.kernel, form)]
    if demand.origin is not None:
        extractor, operator = demand.origin
        if form == "model" or extractor.is_quantised(operator):
            found.insert(0, partial(extractor.extract, operator))
    return found


def _stands_for(model: ModelProto, kernel: Kernel, form: Form) -> bool:
    from h4hc.frontend import normalise

    try:
        operators = lowered(normalise(model), form).operators
    except H4hcError:
        return False
    return len(operators) == 1 and _same(operators[0].kernel, kernel)


def _same(found: Kernel, wanted: Kernel) -> bool:
    """Whether two kernels are one; a function of one tensor is one table, however many steps spell it."""
    return _as_table(canonical(found)) == _as_table(canonical(wanted))


def _as_table(kernel: Kernel) -> Kernel:
    work = kernel.workload
    if not isinstance(work, Elementwise) or work.inputs > 1 or work.kind not in ("relu", "lut"):
        return kernel
    rest = list(kernel.epilogue)
    while rest and rest[0] in _FUSED_INTO_TABLES:
        rest.pop(0)
    kind = work.kind if kernel.epilogue == tuple(rest) else "lut"
    return kernel._replace(workload=Elementwise(work.elements, 1, kind), epilogue=tuple(rest))


def write_plan(plan: Plan, folder: Path) -> dict[str, Any]:
    """Write the plan into `folder`, which must be new or empty; returns the manifest."""
    from h4hc.bundle.folder import replace_folder

    written: dict[str, Any] = {}

    def fill(target: Path) -> None:
        (target / FOLDER).mkdir()
        kernels, left_out = [], []
        for demand in plan.demands:
            try:
                model = build(demand, plan.form)
            except NoModelError as error:
                left_out.append(_described(demand) | {"reason": str(error)})
                continue
            data = model.SerializeToString(deterministic=True)
            file = f"{FOLDER}/{demand.identifier}.onnx"
            (target / file).write_bytes(data)
            kernels.append(_described(demand) | {"file": file, "sha256": hashlib.sha256(data).hexdigest()})
        written.update(
            h4hc_plan=VERSION, precision=plan.form, device=plan.device, models=list(plan.models),
            kernels=kernels, left_out=left_out, refused=list(plan.refused),
        )  # fmt: skip
        text = json.dumps(written, indent=1, sort_keys=True, ensure_ascii=False)
        (target / MANIFEST).write_text(text + "\n", encoding="utf-8")
        (target / TABLE).write_text(_table(plan, {entry["id"] for entry in kernels}), encoding="utf-8")

    replace_folder(folder, fill)
    return written


def _described(demand: Demand) -> dict[str, Any]:
    kernel = demand.kernel
    return {
        "id": demand.identifier,
        "class": kernel_class(kernel),
        "kernel": row_of(kernel),
        "macs": kernel.workload.macs,
        "input_bytes": kernel.input_bytes,
        "weight_bytes": kernel.weight_bytes,
        "output_bytes": kernel.output_bytes,
        "needed_by": [{"model": model, "operator": operator} for model, operator in demand.users],
    }


def _table(plan: Plan, planned: set[str]) -> str:
    """The profile to fill in."""
    from h4hc.backends.profiles.table import Measurement, Profile
    from h4hc.backends.profiles.writer import profile_text

    rows = tuple(
        Measurement(
            demand.kernel, 0.0, status="", identifier=demand.identifier, weight_bytes=demand.kernel.weight_bytes,
            model=demand.users[0][0] if demand.users else "", node=demand.users[0][1] if demand.users else "",
        )
        for demand in plan.demands
        if demand.identifier in planned
    )  # fmt: skip
    note = "fill in device, compiler, clock_hz, and cycles_total or time_us and status (ok or failed) of each row"
    return profile_text(Profile(device=plan.device, compiler="", rows=rows, note=note))
