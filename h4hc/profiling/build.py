"""A builder of small ONNX graphs, in float32 or as int8 between quantise and dequantise nodes."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto

OPSET = 18
IR_VERSION = 8
PRODUCER = "h4hc"
_SCALE = 0.0625  # of every int8 tensor: representable exactly, and wide enough for what the models compute


class NoModelError(ValueError):
    """A kernel that no single-operator model stands for; the message says why."""


class GraphBuilder:
    """Collects the nodes of one graph. Weights are random, drawn from a seed and the tensor's name."""

    def __init__(self, name: str, int8: bool, seed: int = 0) -> None:
        self.name = name
        self.int8 = int8
        self.seed = seed
        self.nodes: list[NodeProto] = []
        self.initializers: list[TensorProto] = []
        self.inputs: list[ValueInfoProto] = []
        self.outputs: list[ValueInfoProto] = []
        self._scales = False
        self._count = 0

    def input(self, shape: Sequence[int], stored: bool = False) -> str:
        """A graph input; int8 is dequantised behind it, unless it is wanted as it is stored."""
        from onnx import helper

        name = f"x{len(self.inputs)}"
        self.inputs.append(helper.make_tensor_value_info(name, self._element_type(), list(shape)))
        return self._dequantise(name) if self.int8 and not stored else name

    def weight(self, shape: Sequence[int], spread: float = 0.0, stored: bool = False) -> str:
        """A random constant; by default its spread keeps a product with it in range."""
        values = random_values(self.seed, f"w{len(self.initializers)}", tuple(shape))
        values *= spread or 1.0 / max(1.0, prod(shape[1:]) or 1) ** 0.5
        if not self.int8:
            return self._constant(values)
        import numpy as np

        peak = float(np.abs(values).max()) or 1.0
        quantised = np.clip(np.rint(values / peak * 127), -127, 127).astype(np.int8)
        name = self._constant(quantised)
        if stored:
            return name
        scale = self._constant(np.array(peak / 127, np.float32))
        return self.node("DequantizeLinear", [name, scale])

    def bias(self, shape: Sequence[int]) -> str:
        """A small random constant for the bias input of a product: int32 behind int8 operands."""
        values = 0.1 * random_values(self.seed, f"b{len(self.initializers)}", tuple(shape))
        if not self.int8:
            return self._constant(values)
        import numpy as np

        name = self._constant(np.rint(values * 1024).astype(np.int32))
        return self.node("DequantizeLinear", [name, self._constant(np.array(1 / 1024, np.float32))])

    def integers(self, values: Sequence[int]) -> str:
        """A constant of int64."""
        import numpy as np

        return self._constant(np.array(values, np.int64))

    def node(self, op: str, inputs: Sequence[str], **attributes: Any) -> str:
        """Add a node with one result and return it."""
        from onnx import helper

        name = f"n{self._count}"
        self._count += 1
        self.nodes.append(helper.make_node(op, list(inputs), [f"{name}_out"], name, **attributes))
        return f"{name}_out"

    def split(self, tensor: str, lengths: Sequence[int]) -> list[str]:
        """The parts of `tensor` along its axis 1."""
        from onnx import helper

        name = f"n{self._count}"
        self._count += 1
        parts = [f"{name}_out{i}" for i in range(len(lengths))]
        self.nodes.append(helper.make_node("Split", [tensor, self.integers(lengths)], parts, name, axis=1))
        return parts

    def requantise(self, tensor: str) -> str:
        """`tensor`, rounded to int8 in the int8 form."""
        return self._dequantise(self._quantise(tensor)) if self.int8 else tensor

    def output(self, tensor: str, shape: Sequence[int], stored: bool = False, wide: bool = False) -> None:
        """Make `tensor` a graph output; int8 is quantised before it unless `stored` so, or left `wide`."""
        from onnx import TensorProto, helper

        if self.int8 and not (stored or wide):
            tensor = self._quantise(tensor)
        element = TensorProto.FLOAT if wide else self._element_type()
        self.outputs.append(helper.make_tensor_value_info(tensor, element, list(shape)))

    def model(self) -> ModelProto:
        """The finished model."""
        from onnx import helper

        graph = helper.make_graph(self.nodes, self.name, self.inputs, self.outputs, self.initializers)
        return helper.make_model(
            graph,
            producer_name=PRODUCER,
            ir_version=IR_VERSION,
            opset_imports=[helper.make_opsetid("", OPSET)],
        )

    def _element_type(self) -> int:
        from onnx import TensorProto

        return int(TensorProto.INT8 if self.int8 else TensorProto.FLOAT)

    def _constant(self, values: np.ndarray[Any, Any]) -> str:
        from onnx import numpy_helper

        name = f"w{len(self.initializers)}"
        self.initializers.append(numpy_helper.from_array(values, name))
        return name

    def _quantise(self, tensor: str) -> str:
        return self.node("QuantizeLinear", [tensor, *self._activation_scale()])

    def _dequantise(self, tensor: str) -> str:
        return self.node("DequantizeLinear", [tensor, *self._activation_scale()])

    def _activation_scale(self) -> tuple[str, str]:
        import numpy as np
        from onnx import numpy_helper

        if not self._scales:
            self._scales = True
            self.initializers.append(numpy_helper.from_array(np.array(_SCALE, np.float32), "scale"))
            self.initializers.append(numpy_helper.from_array(np.array(0, np.int8), "zero"))
        return "scale", "zero"


def random_values(seed: int, name: str, shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
    """Standard normal float32 numbers that depend on nothing but the arguments."""
    import numpy as np

    generator = np.random.Generator(np.random.PCG64([seed, zlib.crc32(name.encode())]))
    return generator.standard_normal(shape, np.float32)
