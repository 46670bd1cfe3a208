"""What the rules of reach.py see: one ONNX node, the shapes around it, and what is asked of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from h4hc.verify.needs import Need, along_axis
from h4hc.verify.network import Network, Node

Shape = tuple[int, ...]
Needs = Mapping[int, Need]  # by input index; an input that is absent is needed in full


class UnknownShapeError(Exception):
    """A shape or value that a rule asks for is not in the model."""


@dataclass(frozen=True, slots=True)
class Sight:
    """A node with the shapes around it, and the output (index and need) that is asked about."""

    network: Network
    node: Node
    output: int
    need: Need

    def shape_in(self, index: int) -> Shape:
        """Shape of input `index`."""
        return self._shape(self.node.inputs[index])

    def shape_out(self) -> Shape:
        """Shape of the output that is asked about."""
        return self._shape(self.node.outputs[self.output])

    def _shape(self, name: str) -> Shape:
        shape = self.network.shape(name)
        if shape is None:
            raise UnknownShapeError(name)
        return shape

    def has_input(self, index: int) -> bool:
        """Whether input `index` is given."""
        return index < len(self.node.inputs) and bool(self.node.inputs[index])

    def integers(self, index: int, attribute: str = "") -> tuple[int, ...] | None:
        """The constant integers of input `index`, or of `attribute`; None if neither is given."""
        if self.has_input(index):
            values = self.network.integers(self.node.inputs[index])
            if values is None:
                raise UnknownShapeError(self.node.inputs[index])
            return values
        given = self.node.attribute(attribute) if attribute else None
        return None if given is None else tuple(given)

    def axis(self, default: int, rank: int) -> int:
        """The `axis` attribute, from the front."""
        axis = int(self.node.attribute("axis", default))
        return axis + rank if axis < 0 else axis

    def row(self) -> tuple[int, int]:
        """The axis of the output that is asked for, and how many of its indices."""
        return along_axis(self.need, self.shape_out())
