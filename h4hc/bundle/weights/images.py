"""weights/: one file of weights per device, and index.json, which says what lies where.

1. Operators come in the order of their device's queue; of each, first the matrix of its product, then the other stored
   tensors that it reads (bias, scales, shapes).
2. The matrix is laid out as the device takes it (see `layouts`): bricks for an ``npu``, tiles for a cluster of macros,
   with the macro and slot of each. Everything else is ``plain``, as ONNX stores it.
3. Values are those that the model stores, in its number format; what the schedule plans them as is said beside it.
   Nothing is quantised, compressed or encoded here: that is for the device's own tool chain.
4. A tensor that several operators of a device read in the same layout is stored once. What the model computes from
   constants is not stored, only what it computes it from.
5. An image starts at a multiple of `ALIGNMENT` bytes.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Hashable, Iterable, Iterator
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from onnx import TensorProto, ValueInfoProto

from h4hc.backends.products import Product, product
from h4hc.bundle.document import finished
from h4hc.bundle.manifest import Chunk
from h4hc.bundle.nodes import PlacedNodes
from h4hc.bundle.store import Document, encode
from h4hc.bundle.tensors import Tensors
from h4hc.bundle.weights.layouts import Tiles, bricked, tiled
from h4hc.bundle.weights.operands import Array, Matrix, Source, find_matrix
from h4hc.bundle.weights.places import Cluster, brick_layout, macro_cluster, tile_layout
from h4hc.ir.compilation import Compilation
from h4hc.ir.workload import bits_to_bytes

if TYPE_CHECKING:
    from h4hc.ir.graph import Operator
    from h4hc.ir.target import Device

FOLDER = "weights"
INDEX = f"{FOLDER}/index.json"
INDEX_VERSION = "1.0"
ALIGNMENT = 64
RESIDENT = "resident"


def weight_files(
    compilation: Compilation, document: Document, placed: PlacedNodes, tensors: Tensors
) -> dict[str, Iterable[Chunk]]:
    """The files by path in the bundle. They are made while they are read: once, and in this order."""
    images = _Images(compilation, document, placed, tensors)
    files: dict[str, Iterable[Chunk]] = {
        f"{FOLDER}/{device.name}.bin": images.of_device(device) for device in compilation.target.devices
    }
    return files | {INDEX: images.index()}


class _Images:
    """Makes one device's file after the other, and keeps the record of each image for the index."""

    def __init__(
        self, compilation: Compilation, document: Document, placed: PlacedNodes, tensors: Tensors
    ) -> None:
        self._graph, _, self._placement, _ = finished(compilation)
        self._compilation = compilation
        self._document = document
        self._placed = placed
        self._index_of = {operator.name: index for index, operator in enumerate(self._graph.operators)}
        self._source = _source(compilation, placed, tensors)
        self._clusters: dict[str, Cluster] = {}
        self._records: list[Document] = []

    def of_device(self, device: Device) -> Iterator[Chunk]:
        """The content of the file of `device`."""
        file = _File(device.name)
        cluster = macro_cluster(self._compilation.backends[device.name])
        if cluster is not None:
            self._clusters[device.name] = cluster
        stay = 0  # tiles that stay in the macros
        for operator in self._queue(device.name):
            matrix = None
            item = product(operator.kernel.workload)
            if item is not None and not item.dynamic and (cluster is not None or device.kind == "npu"):
                matrix = self._matrix(operator, item)
                if cluster is not None:
                    use, layout = self._tiles(operator, device, item, cluster, stay)
                    stay += len(use["places"]) if use["copies"] else 0
                    yield from self._add_tiles(file, operator, use, matrix, layout)
                elif matrix is not None:
                    yield from self._add_bricks(file, operator, device, matrix)
            yield from self._add_plain(file, operator.name, operator.constants, matrix)
        if device.name == self._compilation.target.io:
            outputs = [info.name for info in self._compilation.model.graph.output]
            yield from self._add_plain(file, "", outputs, None)
        self._records += file.records

    def index(self) -> Iterator[Chunk]:
        """weights/index.json, once the files are written."""
        model = self._compilation.model.graph
        left_out = {tensor.name for tensor in model.initializer} - self._source.stored.keys()
        fields: Document = {
            "version": INDEX_VERSION,
            "precision": self._compilation.options.precision,
            "alignment": ALIGNMENT,
            "macros": {name: cluster._asdict() for name, cluster in self._clusters.items()},
            "left_out": sorted(left_out | {sparse.values.name for sparse in model.sparse_initializer}),
        }
        lines = [f"{encode(key)}:{encode(value)}" for key, value in sorted(fields.items())]
        images = "[\n" + ",\n".join(map(encode, self._records)) + "\n]"
        yield ("{\n" + ",\n".join([f'"images":{images}', *lines]) + "\n}\n").encode()

    def _queue(self, device: str) -> list[Operator]:
        names = {task["id"]: task["operator"] for task in self._document["tasks"]}
        order = [names[task] for task in self._document["queues"].get(device, [])]
        return [self._graph.operators[self._index_of[name]] for name in order if name]

    def _matrix(self, operator: Operator, item: Product) -> Matrix | None:
        nodes = self._placed.groups[self._index_of[operator.name]]
        anchor = next((node for node in nodes if node.name == operator.name), None)
        return None if anchor is None else find_matrix(anchor.proto, item, self._source)

    def _tiles(
        self, operator: Operator, device: Device, item: Product, cluster: Cluster, stay: int
    ) -> tuple[Document, Tiles]:
        """How the matrix of `operator` lies in the macros, where `stay` tiles of others are already."""
        layout = tile_layout(self._compilation.backends[device.name], operator.kernel, item)
        grid = layout.grid((item.groups, item.k, item.n))
        tiles = grid[0] * grid[1] * grid[2]
        mode = self._placement.modes[self._index_of[operator.name]]
        copies = _copies(mode)
        places = cluster.places(stay, copies * tiles) if copies else cluster.reload_places(tiles)
        return {
            "mode": mode,
            "copies": copies,
            "places": places,
            "grid": grid,
            "resident_bytes": copies * tiles * cluster.rows * cluster.columns,
        }, layout

    def _add_bricks(self, file: _File, operator: Operator, device: Device, matrix: Matrix) -> Iterator[Chunk]:
        layout = brick_layout(self._compilation.backends[device.name], operator.kernel, matrix)
        bits = operator.kernel.workload.weight_elements * operator.kernel.precision.weight_bits
        image = {
            "layout": "bricks",
            "granule": layout.outputs,
            "brick": layout.inputs,
            "channels": layout.channels,
        }
        yield from file.add(
            operator.name,
            {"planned_bytes": bits_to_bytes(bits)},
            image | self._described(matrix),
            ("bricks", layout, *matrix.place),
            lambda: bricked(matrix.as_products(), layout),
        )

    def _add_tiles(
        self, file: _File, operator: Operator, use: Document, matrix: Matrix | None, layout: Tiles
    ) -> Iterator[Chunk]:
        """Without a matrix (the model computes it) only its places are recorded."""
        image: Document = {"layout": "tiles", "tile": [layout.rows, layout.columns], "packed": layout.packed}
        if matrix is None:
            file.record(operator.name, use | image | {"tensor": ""}, {"offset": 0, "bytes": 0, "crc32": 0})
            return
        yield from file.add(
            operator.name,
            use,
            image | self._described(matrix),
            ("tiles", layout, *matrix.place),
            lambda: tiled(matrix.as_products(), layout),
        )

    def _add_plain(
        self, file: _File, operator: str, constants: Iterable[str], matrix: Matrix | None
    ) -> Iterator[Chunk]:
        """The stored tensors behind `constants`, but that of `matrix`."""
        for tensor in dict.fromkeys(name for constant in constants for name in self._leaves(constant)):
            if matrix is None or tensor != matrix.tensor:
                image = {"layout": "plain"} | self._named(tensor)
                yield from file.add(
                    operator, {}, image, ("plain", tensor), partial(self._source.array, tensor)
                )

    def _described(self, matrix: Matrix) -> Document:
        """The tensor of a matrix, and where its element (g, k, n) is in it."""
        return self._named(matrix.tensor) | {"matrix": list(matrix.extents), "axes": matrix.axes()}

    def _named(self, tensor: str) -> Document:
        proto = self._source.stored[tensor]
        dtype = TensorProto.DataType.Name(proto.data_type)
        return {"tensor": tensor, "dtype": dtype, "shape": list(proto.dims)}

    def _leaves(self, constant: str) -> list[str]:
        """The stored tensors that `constant` is, or is computed from."""
        stored = self._source.stored
        if constant in stored:
            return [constant]
        return [
            name for node in self._placed.constant_nodes(constant) for name in node.inputs if name in stored
        ]


class _File:
    """The images of one file: each is made, recorded and handed out, one after the other."""

    def __init__(self, device: str) -> None:
        self.records: list[Document] = []
        self._device = device
        self._size = 0
        self._known: dict[Hashable, Document] = {}  # where an image lies, by its key

    def add(
        self, operator: str, use: Document, image: Document, key: Hashable, make: Callable[[], Array]
    ) -> Iterator[Chunk]:
        """Write what `make` gives, unless this file has an image under `key`; `use` is how `operator` uses it."""
        if key not in self._known:
            padding = -self._size % ALIGNMENT
            data = np.ascontiguousarray(make()).reshape(-1).view(np.uint8).data
            place = {"offset": self._size + padding, "bytes": len(data), "crc32": zlib.crc32(data)}
            self._known[key] = place
            self._size += padding + len(data)
            if padding:
                yield bytes(padding)
            yield data
        self.record(operator, use | image, self._known[key])

    def record(self, operator: str, image: Document, place: Document) -> None:
        """Note that `operator` uses `image`."""
        head = {"device": self._device, "file": f"{self._device}.bin", "operator": operator}
        self.records.append(head | image | place)


def _source(compilation: Compilation, placed: PlacedNodes, tensors: Tensors) -> Source:
    """The constants of the model; texts are no weights."""
    infos = tensors.infos
    return Source(
        {t.name: t for t in compilation.model.graph.initializer if t.data_type != TensorProto.STRING},
        {tensor: node.proto for tensor, node in placed.constants.items()},
        lambda name: _shape(infos[name]) if name in infos else None,
    )


def _shape(info: ValueInfoProto) -> tuple[int, ...]:
    return tuple(dim.dim_value for dim in info.type.tensor_type.shape.dim)


def _copies(mode: str) -> int:
    """How often `mode` keeps the weights in the macros; 0 if they are written before every run."""
    name, _, number = mode.partition(" x")
    return int(number or 1) if name == RESIDENT else 0
