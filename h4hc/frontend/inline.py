"""Replace calls of model-local functions by their bodies.

Functions may call functions, so a small file can stand for an exponential number of nodes: the
number after expansion is computed first, and recursion refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from onnx import AttributeProto, FunctionProto, ModelProto, NodeProto

from h4hc.errors import ModelError
from h4hc.frontend.check import check_name, check_node_names
from h4hc.frontend.limits import Limits
from h4hc.frontend.protos import label, quoted
from h4hc.frontend.schema import signature

Key = tuple[str, str, str]
_PREFIX_LENGTH = 200
_NAME_BYTES = 256


def inline_functions(model: ModelProto, opset: int, limits: Limits) -> list[NodeProto]:
    """The nodes of the graph, with calls of model-local functions expanded.

    Nodes and tensors from a body are named ``<call node>/<name in the body>``.
    """
    if not model.functions:
        return list(model.graph.node)
    functions = _functions(model, limits)
    sizes = _expanded_sizes(functions)
    called = [sizes[_key(node)] for node in model.graph.node if _key(node) in sizes]
    nodes, size = sum(n for n, _ in called), sum(b for _, b in called)
    if len(model.graph.node) + nodes > limits.nodes or size > limits.function_bytes:
        raise ModelError(
            f"the functions expand to more than {limits.nodes} nodes or {limits.function_bytes} bytes",
            code="function-size",
        )
    for function in functions.values():
        _check_opset(function, opset)
    return _Expander(model, functions).run()


def _key(item: NodeProto) -> Key:
    return item.domain, item.op_type, item.overload


def _functions(model: ModelProto, limits: Limits) -> dict[Key, FunctionProto]:
    functions: dict[Key, FunctionProto] = {}
    for function in model.functions:
        name = check_name(function.name, "function", limits)
        key = (
            check_name(function.domain, "domain", limits),
            name,
            check_name(function.overload, "overload", limits),
        )
        if key[0] in {"", "ai.onnx"}:
            raise ModelError(f"function {quoted(name)} redefines a standard operator", code="function")
        if key in functions:
            raise ModelError(f"function {quoted(name)} is defined twice", code="function")
        for tensor in (*function.input, *function.output, *function.attribute):
            check_name(tensor, "function parameter", limits)
        check_node_names(function.node, limits)
        functions[key] = function
    return functions


def _expanded_sizes(functions: Mapping[Key, FunctionProto]) -> dict[Key, tuple[int, int]]:
    """Nodes, and bytes of them, that a call of each function expands to. Iterative depth-first walk."""
    sizes: dict[Key, tuple[int, int]] = {}
    active: dict[Key, None] = {}
    for root in functions:
        stack = [root]
        while stack:
            key = stack[-1]
            if key in sizes:
                stack.pop()
                continue
            callees = dict.fromkeys(_key(node) for node in functions[key].node)
            waiting = [c for c in callees if c in functions and c not in sizes]
            if any(c in active for c in waiting) or key in waiting:
                raise ModelError(f"function {quoted(key[1])} calls itself", code="function-recursion")
            if waiting:
                active[key] = None
                stack.append(waiting[0])
                continue
            sizes[key] = _size(functions[key], sizes)
            active.pop(key, None)
            stack.pop()
    return sizes


def _size(function: FunctionProto, sizes: Mapping[Key, tuple[int, int]]) -> tuple[int, int]:
    """Nodes and bytes of one call, those of its callees being known (astronomic at times)."""
    # An output that is an input of the function costs an Identity.
    nodes, size = len(function.output), len(function.output) * 2 * _NAME_BYTES
    for node in function.node:
        inner = sizes.get(_key(node))
        if inner is None:
            ports = 1 + len(node.input) + len(node.output)
            inner = 1, node.ByteSize() + ports * _NAME_BYTES
        nodes, size = nodes + inner[0], size + inner[1]
    return nodes, size


def _check_opset(function: FunctionProto, opset: int) -> None:
    """Refuse a body written for another operator set, unless its operators mean the same in both."""
    versions = [o.version for o in function.opset_import if o.domain in {"", "ai.onnx"}]
    if len(versions) > 1:
        raise ModelError(
            f"function {quoted(function.name)} imports the standard operator set twice", code="opset"
        )
    stated = versions[0] if versions else opset
    if stated == opset:
        return
    for node in function.node:
        if node.domain in {"", "ai.onnx"}:
            theirs, ours = signature(node.op_type, stated), signature(node.op_type, opset)
            if theirs is None or ours is None or theirs.since != ours.since:
                raise ModelError(
                    f"function {quoted(function.name)} uses {quoted(node.op_type)} of operator set {stated}, "
                    f"the model operator set {opset}",
                    code="opset",
                    hint="export with a single operator set",
                )


@dataclass(slots=True)
class _Scope:
    """One call: what the names and attributes of the body stand for."""

    prefix: str
    tensors: dict[str, str]
    attributes: dict[str, AttributeProto]


class _Expander:
    """Expands calls depth first, in order, without recursion."""

    def __init__(self, model: ModelProto, functions: Mapping[Key, FunctionProto]) -> None:
        graph = model.graph
        self.functions = functions
        self.nodes = graph.node
        self.taken = {v.name for v in (*graph.input, *graph.output)} | {t.name for t in graph.initializer}
        for node in graph.node:
            self.taken.update(node.output)
        self.prefixes: dict[str, int] = {}

    def run(self) -> list[NodeProto]:
        result: list[NodeProto] = []
        stack: list[tuple[Iterator[NodeProto], _Scope | None]] = [(iter(self.nodes), None)]
        while stack:
            body, scope = stack[-1]
            node = next(body, None)
            if node is None:
                stack.pop()
                continue
            placed = node if scope is None else self._place(node, scope)
            function = self.functions.get(_key(placed))
            if function is None:
                result.append(placed)
                continue
            inner = self._enter(placed, function)
            result.extend(_pass_through(placed, function))
            stack.append((iter(function.node), inner))
        return result

    def _enter(self, call: NodeProto, function: FunctionProto) -> _Scope:
        if len(call.input) > len(function.input) or len(call.output) > len(function.output):
            raise ModelError(
                f"{label(call)} passes more than function {quoted(function.name)} takes", code="function"
            )
        tensors = dict.fromkeys(function.input, "")
        tensors.update(zip(function.input, call.input, strict=False))
        for inside, outside in zip(function.output, call.output, strict=False):
            if outside and inside not in function.input:
                tensors[inside] = outside
        attributes = {item.name: item for item in (*function.attribute_proto, *call.attribute)}
        return _Scope(self._prefix(call.name or function.name, function.name), tensors, attributes)

    def _prefix(self, wanted: str, short: str) -> str:
        base = wanted if len(wanted) <= _PREFIX_LENGTH else short[:_PREFIX_LENGTH]
        count = self.prefixes[base] = self.prefixes.get(base, 0) + 1
        return base if count == 1 else f"{base}~{count}"

    def _place(self, node: NodeProto, scope: _Scope) -> NodeProto:
        """A copy of `node` in the caller's terms."""
        placed = NodeProto()
        placed.CopyFrom(node)
        placed.name = f"{scope.prefix}/{node.name or node.op_type}"
        placed.input[:] = [self._rename(name, scope) for name in node.input]
        placed.output[:] = [self._rename(name, scope) for name in node.output]
        if any(item.ref_attr_name for item in node.attribute):
            del placed.attribute[:]
            placed.attribute.extend(_bind(node, scope))
        return placed

    def _rename(self, name: str, scope: _Scope) -> str:
        if not name:
            return ""
        if name not in scope.tensors:
            base = fresh = f"{scope.prefix}/{name}"
            count = 0
            while fresh in self.taken:
                count += 1
                fresh = f"{base}~{count}"
            self.taken.add(fresh)
            scope.tensors[name] = fresh
        return scope.tensors[name]


def _bind(node: NodeProto, scope: _Scope) -> Iterator[AttributeProto]:
    """The attributes of `node`, references replaced by what the call gives; absent ones left out."""
    for item in node.attribute:
        if not item.ref_attr_name:
            yield item
        elif item.ref_attr_name in scope.attributes:
            bound = AttributeProto()
            bound.CopyFrom(scope.attributes[item.ref_attr_name])
            bound.name = item.name
            yield bound


def _pass_through(call: NodeProto, function: FunctionProto) -> Iterator[NodeProto]:
    """An Identity for each output of the function that is one of its inputs."""
    inputs = dict(zip(function.input, call.input, strict=False))
    for inside, outside in zip(function.output, call.output, strict=False):
        if outside and inputs.get(inside):
            yield NodeProto(
                op_type="Identity", name=f"{call.name}/{inside}", input=[inputs[inside]], output=[outside]
            )
