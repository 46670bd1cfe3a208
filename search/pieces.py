"""The compiler's graph of a subnet, put together from pieces seen before.

Fusing looks no further than the blocks next to a block: between two blocks lies one tensor, and every block computes
something that the next one cannot take in. So the operators of a block follow from the block, the tensor that it reads
and the position along which that arrives, and what the next block does with its result before it computes something.
Blocks recur from subnet to subnet. The result equals that of `h4hc.passes.fuse` on the whole model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from h4hc.frontend.nodes import NodeGraph
from h4hc.frontend.streams import Position
from h4hc.ir.graph import Graph, Operator, Tensor
from h4hc.passes.fuse import build_graph
from h4hc.passes.places import Room, arranged
from h4hc.search.emit import OUTPUT, emit_part

if TYPE_CHECKING:
    from h4hc.search.program import Program, Section, Value
    from h4hc.search.space import Space

_REMEMBERED = 50_000
# Kinds of operations that become operators of their own, with what follows them.
_COMPUTING = frozenset(["conv", "linear", "classifier", "matmul"])
_ROOM = Room(1, 0)  # nothing is joined or divided in place, so that the target makes no difference


class Piece(NamedTuple):
    """What a block contributes.

    `tensors`: those that its operators read and write, `viewed` those that some of these are views of.
    `position`: how the data leave it. `section` keeps alive what the key names.
    """

    operators: tuple[Operator, ...]
    tensors: Mapping[str, Tensor]
    roots: Mapping[str, str]
    viewed: Mapping[str, Tensor]
    position: Position | None
    section: Section


class Pieces:
    """The pieces of one space, for one precision. Not for other processes: they are known by identity."""

    def __init__(self, space: Space, precision: str) -> None:
        self._space = space
        self._precision = precision
        self._known: dict[tuple[object, ...], Piece] = {}
        self._used: dict[tuple[int, str], tuple[Section, tuple[object, ...]]] = {}

    def graph(self, program: Program, name: str) -> Graph:
        """The graph of the model that `emit` makes of `program`; `name` is the model's."""
        source = program.source
        output = Tensor(OUTPUT, (1, self._space.classes), "float32")
        tensors = {source.name: Tensor(source.name, (1, *source.shape), "float32"), OUTPUT: output}
        operators: list[Operator] = []
        roots: dict[str, str] = {}
        viewed: dict[str, Tensor] = {}
        for piece in self._pieces(program):
            operators += piece.operators
            tensors |= piece.tensors
            roots |= piece.roots
            viewed |= piece.viewed
        tensors |= {name: tensor for name, tensor in viewed.items() if name not in tensors}
        return Graph(name, (source.name,), (OUTPUT,), tensors, tuple(operators), roots)

    def _pieces(self, program: Program) -> list[Piece]:
        """The pieces of all blocks; unknown ones that follow one another are made together."""
        sections = program.sections
        found: list[Piece] = []
        while len(found) < len(sections):
            first = len(found)
            piece = self._known.get(self._key(sections, first, found))
            if piece is not None:
                found.append(piece)
                continue
            end = first + 1
            while end < len(sections) and self._surroundings(sections, end) not in self._known:
                end += 1
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
                self._used.clear()
            for made in self._made(program, first, end, found):
                number = len(found)
                self._known[self._key(sections, number, found)] = made
                self._known[self._surroundings(sections, number)] = made
                found.append(made)
        return found

    def _key(self, sections: Sequence[Section], number: int, before: Sequence[Piece]) -> tuple[object, ...]:
        return (*self._surroundings(sections, number), *_arriving(sections, number, before))

    def _surroundings(self, sections: Sequence[Section], number: int) -> tuple[object, ...]:
        """Names a block for as long as it exists, with what it reads and what its result is first used for."""
        section, end = sections[number], number + 1 == len(sections)
        entrance = sections[number - 1].result if number else None
        return (
            min(number, 2),
            entrance,
            id(section),
            () if end else self._uses(sections[number + 1], section.result),
        )

    def _uses(self, section: Section, value: Value) -> tuple[object, ...]:
        """`_first_uses`, worked out once."""
        key = id(section), value.name
        known = self._used.get(key)
        if known is None:
            known = self._used[key] = section, _first_uses(section, value)
        return known[1]

    def _made(self, program: Program, first: int, end: int, before: Sequence[Piece]) -> list[Piece]:
        """The pieces of blocks `first` to `end`, from these blocks and their neighbours."""
        sections, start = program.sections, max(0, first - 1)
        entrance = sections[start - 1].result if start else program.source
        entering = before[start - 1].position if start else None  # of the network's input there is none
        nodes = NodeGraph(emit_part(self._space, sections[start : end + 1], entrance))
        known = {} if entering is None else {entrance.name: entering}
        graph = arranged(nodes, build_graph(nodes, self._precision, known), _ROOM, self._precision)
        if graph.parts:
            raise ValueError("a block joins or divides tensors in place")
        return [_piece(graph, sections, number) for number in range(first, end)]


def _piece(graph: Graph, sections: Sequence[Section], number: int) -> Piece:
    """What `graph`, of some blocks, has of the block `number`."""
    section = sections[number]
    operators = tuple([op for op in graph.operators if op.name.startswith(f"{section.name}.")])
    names = dict.fromkeys(name for op in operators for name in (*op.inputs, *op.outputs))
    roots = {view: root for view, root in graph.roots.items() if view in names}
    return Piece(
        operators,
        {name: graph.tensors[name] for name in names},
        roots,
        {root: graph.tensors[root] for root in roots.values()},
        _leaving(graph, operators, section.result.name),
        section,
    )


def _first_uses(section: Section, value: Value) -> tuple[object, ...]:
    """What `section` does with `value` before it computes something."""
    names, found = {value.name}, list[object]()
    for op in section.ops:
        if names.isdisjoint(op.inputs):
            continue
        if op.kind in _COMPUTING:
            found.append((op.kind, op.name))
        else:
            found.append((*op[:5], tuple(op.attributes.items())))
            names.add(op.output)
    return tuple(found)


def _arriving(sections: Sequence[Section], number: int, before: Sequence[Piece]) -> tuple[object, ...]:
    """What a block reads a view of, if it does, and the position along which that appears."""
    if not number:
        return ()
    piece, name = before[number - 1], sections[number - 1].result.name
    root = piece.roots.get(name)
    return (root, piece.viewed[root] if root else None, piece.position)


def _leaving(graph: Graph, operators: Sequence[Operator], result: str) -> Position | None:
    """The position along which `result`, or what views it, appears."""
    for operator in operators:
        if operator.rows > 1 and any(graph.root(name) == graph.root(result) for name in operator.outputs):
            return Position(operator.prefix, operator.rows)
    return None
