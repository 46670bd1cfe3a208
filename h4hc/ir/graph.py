"""The graph that passes work on: operators over tensors, in topological order, without weight data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from h4hc.ir.workload import Kernel


@dataclass(frozen=True, slots=True)
class Tensor:
    """A value of the graph. `dtype` is NumPy's name (``float32``, ``int64``, ``bool``).

    `constant` means that the value is known at compile time: an initializer, or computed from
    initializers alone. The data stays in the ONNX model.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    constant: bool = False

    @property
    def elements(self) -> int:
        count = 1
        for extent in self.shape:
            count *= extent
        return count


class Streamed(NamedTuple):
    """How an operator consumes an input row by row while its producer still runs.

    Output rows [0, r) need input rows [0, (r - 1)·stride - pad + window), clipped to the input.
    A row is one index of the streamed axis; `rows` is that axis's length in this input, and
    `prefix` the product of the extents before it: the row-major position of the axis, which
    a reshape does not change, so producer and consumer stream along the same axis exactly if
    their prefixes agree.
    """

    prefix: int
    rows: int
    window: int = 1
    stride: int = 1
    pad: int = 0


@dataclass(frozen=True, slots=True)
class Operator:
    """One kernel: an anchor with its epilogue, standing for one or more ONNX nodes.

    `name` is unique in its graph (the anchor node's name), `kind` the anchor's ONNX operator
    type or a fused pattern's name (``LayerNormalization``, ``Softmax``). `inputs` are the
    run-time tensors it reads, without duplicates; `constants` the constant ones; `outputs` the
    tensors that others read, including views of them. `streams` runs parallel to `inputs`;
    None means that the whole input is needed first. `rows` is the length of the streamed axis
    of the output and `prefix` its position; `rows` = 1 where the output appears at the end only.
    `nodes` are the names of the ONNX nodes, in topological order. `overwrites`: inputs of which it reads an element
    no later than it writes the element at the same place of its output: that may lie in the place of such an input.
    """

    name: str
    kind: str
    kernel: Kernel
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    constants: tuple[str, ...]
    nodes: tuple[str, ...]
    streams: tuple[Streamed | None, ...] = ()
    rows: int = 1
    prefix: int = 1
    overwrites: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Part:
    """A root tensor that lies inside the buffer of the root `whole`, behind `elements` of its elements.

    `operator`, which joins or divides, moves nothing; it is the one that reads one of the two and writes the other.
    """

    operator: str
    whole: str
    elements: int


@dataclass(frozen=True, slots=True)
class Graph:
    """Operators in topological order.

    `roots` maps a tensor that is only a view of another (reshape, squeeze, identity) to the
    tensor that owns the storage; a tensor absent from it owns its own. `parts`: roots that lie inside others.
    """

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    tensors: Mapping[str, Tensor]
    operators: tuple[Operator, ...]
    roots: Mapping[str, str]
    parts: Mapping[str, Part] = field(default_factory=dict)

    def root(self, tensor: str) -> str:
        """The tensor whose storage `tensor` shares (itself, unless it is a view)."""
        return self.roots.get(tensor, tensor)
