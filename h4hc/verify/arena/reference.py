"""What onnxruntime computes: the model's results, every tensor on the way, and each operator by itself.

The tensors on the way come from one run of partitioned.onnx with all of them as outputs. An operator by itself is a
model of its nodes, with the tensors that it reads from others as inputs. Graph optimisation off, one thread (see
h4hc.verify.execute).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from h4hc.errors import BundleError
from h4hc.verify.excerpt import excerpt
from h4hc.verify.execute import Request, differences, reference, run_session, session_of
from h4hc.verify.network import Network, Node
from h4hc.verify.plan import Plan

if TYPE_CHECKING:
    import numpy as np
    from onnx import ModelProto, NodeProto

    from h4hc.verify.execute import Arrays

    Array = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True)
class Frame:
    """The model's results for one input, and the value of every tensor that has a buffer."""

    results: Arrays
    values: Mapping[str, Array]


class Reference:
    """Runs onnxruntime for a bundle. Sessions are kept."""

    def __init__(self, plan: Plan, request: Request) -> None:
        self._plan = plan
        self._request = request
        self._sessions: dict[str, Any] = {}

    def frames(self, count: int) -> list[Frame] | str:
        """`count` different frames, or why there are none. Raises BundleError if partitioned.onnx gives other results."""
        request = self._request
        sources = self._sources()
        given = {*self._plan.network.inputs, *self._plan.network.initializers}
        names = sorted({source for source in sources.values() if source not in given})
        tapped = _tapped(request.partitioned, names, request.pinned)
        path = request.model or request.partitioned
        try:
            original = session_of(path, request.pinned)
            session = session_of(tapped.SerializeToString(), pinned=False)
        except Exception as error:  # onnxruntime raises its own classes without a common base
            return f"onnxruntime cannot load the model: {' '.join(str(error).split())[:200]}"
        found = []
        for seed in range(count):
            run = reference(original, request, seed)
            if isinstance(run, str):
                return run
            feed, results = run
            outputs = tuple(dict.fromkeys((*request.outputs, *names)))
            values = run_session(session, feed, outputs)
            problems = differences(results, {name: values[name] for name in request.outputs})
            if problems:
                raise BundleError(
                    f"partitioned.onnx does not give the model's bits: {problems[0]}", code="replay"
                )
            known = {name: values[source] for name, source in sources.items() if source in values}
            known |= {name: feed[source] for name, source in sources.items() if source in feed}
            found.append(Frame(results, known))
        return found

    def _sources(self) -> dict[str, str]:
        """Tensors of the schedule and operands of operators -> the tensors of partitioned.onnx that hold their values."""
        plan = self._plan
        names = {buffer.tensor for buffer in plan.document.buffers if buffer.tensor}
        names |= {name for reads in plan.external_reads.values() for name in reads}
        names |= {name for writes in plan.external_writes.values() for name in writes}
        return {name: plan.network.source(name) for name in sorted(names)}

    def compute(self, operator: str, inputs: Mapping[str, Array]) -> Arrays:
        """What the nodes of `operator` compute from `inputs`, by tensor."""
        plan = self._plan
        outputs = [name for name in plan.external_writes[operator] if name]
        if operator not in self._sessions:
            model = operator_model(plan, operator, outputs, self._request.pinned)
            self._sessions[operator] = session_of(model, pinned=False)
        return run_session(self._sessions[operator], inputs, outputs)


def _tapped(path: str, names: Sequence[str], pinned: bool) -> ModelProto:
    """The model at `path` with the tensors `names` as further outputs."""
    import onnx

    from h4hc.verify.pinning import pinned_model

    model = pinned_model(path) if pinned else onnx.load(path)
    known = {info.name for info in model.graph.output}
    infos = {info.name: info for info in model.graph.value_info}
    for name in names:
        if name not in known:
            model.graph.output.append(infos.get(name) or onnx.ValueInfoProto(name=name))
    return model


def operator_model(plan: Plan, operator: str, outputs: Sequence[str], pinned: bool) -> bytes:
    """The nodes of `operator` as a model: reads the tensors that others compute, writes `outputs`."""
    nodes = [_local(plan.network, node) for node in plan.groups[operator]]
    return excerpt(plan.network, nodes, plan.external_reads[operator], outputs, pinned)


def _local(network: Network, node: Node) -> NodeProto:
    """Copies of run-time tensors are read where they come from; constants keep the name of their copy."""
    from onnx import NodeProto

    copy = NodeProto()
    copy.CopyFrom(node.proto)
    copy.input[:] = [
        name if not name or name in network.constants else network.source(name) for name in node.inputs
    ]
    return copy
