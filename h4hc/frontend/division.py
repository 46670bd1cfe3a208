"""Refuse integer divisions that kill the process that computes them.

Division by zero, and of the least number by -1, raise a processor trap in native code. Small
constants are caught when they are folded; this also looks at divisors that are stored or filled,
but too large to fold.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from onnx import TensorProto

from h4hc.frontend.fold import check_divisor
from h4hc.frontend.protos import FLOATS, Node, TensorType, attribute, tensor_array
from h4hc.frontend.tensors import has_data

Array = np.ndarray[Any, Any]
_COPIES = frozenset({"Expand", "Flatten", "Identity", "Reshape", "Squeeze", "Tile", "Transpose", "Unsqueeze"})


class Divisions:
    """Watches the integer divisions of a graph, node after node in topological order."""

    def __init__(
        self,
        types: Mapping[str, TensorType],
        stored: Mapping[str, TensorProto],
        value: Callable[[str], Array | None],
    ) -> None:
        self.types = types
        self.stored = stored
        self.value = value
        self.filled: dict[str, Array] = {}

    def check(self, node: Node) -> None:
        """Refuse `node` if it is a division that must fail."""
        if self.types[node.inputs[0]].code in FLOATS:
            return
        divisor = self._value(node.inputs[1])
        if divisor is not None:
            check_divisor(node, self._value(node.inputs[0]), divisor)

    def note(self, node: Node) -> None:
        """Remember the elements of an integer tensor that repeats few of them."""
        kind = self.types.get(node.outputs[0])
        if kind is None or kind.code in FLOATS:
            return
        if node.op == "ConstantOfShape":
            fill = attribute(node.proto, "value")
            if fill is not None:
                self.filled[node.outputs[0]] = tensor_array(fill)
        elif node.op in _COPIES:
            value = self._value(node.inputs[0])
            if value is not None:
                self.filled[node.outputs[0]] = value

    def _value(self, name: str) -> Array | None:
        """Elements of a tensor, each at least once, in no particular shape."""
        known = self.value(name)
        if known is None and name in self.filled:
            known = self.filled[name]
        if known is None and name in self.stored and has_data(self.stored[name], self.types[name]):
            known = tensor_array(self.stored[name])
        return known


WATCHED = _COPIES | {"ConstantOfShape"}
