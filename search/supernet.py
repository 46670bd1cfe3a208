"""The supernet: one set of weights for all subnets of a space, in PyTorch.

    net = Supernet(load_space("h4h-tiny"), seed=0)
    logits = net(images, subnet)          # with the part of the weights that `subnet` uses
    plain = net.extract(subnet)           # a module with its own copy of that part

No subnet is ever "active": it is an argument. In training batch norm uses the statistics of the batch; before a
subnet is evaluated, `recalibrate` sets the running ones for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from h4hc.errors import OptionError
from h4hc.search.fold import Array, fold
from h4hc.search.layers import Moments, Run, initial, run_program
from h4hc.search.network import every_section
from h4hc.search.program import Op, Program, Section, Weight

if TYPE_CHECKING:
    from h4hc.search.space import Space
    from h4hc.search.subnet import Subnet


class Weights(nn.Module):
    """Parameters and buffers under dotted names, which are also those of its state dict."""

    def __init__(self) -> None:
        super().__init__()
        self._places: dict[str, tuple[nn.Module, str]] = {}

    def put(self, name: str, value: Tensor, *, learned: bool = True) -> None:
        """Add a parameter, or a buffer if it is not `learned`."""
        *path, leaf = name.split(".")
        module: nn.Module = self
        for part in path:
            if not hasattr(module, part):
                module.add_module(part, nn.Module())
            module = getattr(module, part)
        if learned:
            module.register_parameter(leaf, nn.Parameter(value))
        else:
            module.register_buffer(leaf, value)
        self._places[name] = (module, leaf)

    def take(self, name: str) -> Tensor:
        """The parameter or buffer called `name`."""
        module, leaf = self._places[name]
        value: Tensor = getattr(module, leaf)
        return value

    def __contains__(self, name: str) -> bool:
        return name in self._places


class Network(Weights):
    """One network with weights of its own. Trains and evaluates like any module."""

    def __init__(self, program: Program, start: Callable[[Weight], Tensor]) -> None:
        """`start` gives the initial value of each weight of `program`."""
        super().__init__()
        self.program = program
        self.drop_path = 0.0
        self.dropout = 0.0
        for op in program.ops:
            for item in op.weights:
                self.put(item.name, start(item))
            if op.attributes.get("norm"):
                self.put(f"{op.name}.bn.mean", torch.zeros(op.shape[0]), learned=False)
                self.put(f"{op.name}.bn.var", torch.ones(op.shape[0]), learned=False)

    def forward(self, x: Tensor) -> Tensor:
        run = Run(lambda weight: self.take(weight.name), self._statistics)
        if self.training:
            run.update, run.drop_path, run.dropout = True, self.drop_path, self.dropout
        return run_program(self.program, resized(x, self.program), run)

    def _statistics(self, name: str, _channels: int) -> tuple[Tensor, Tensor]:
        return self.take(f"{name}.mean"), self.take(f"{name}.var")

    def arrays(self) -> dict[str, Array]:
        """The weights as deployed, by the names of the initializers of the emitted ONNX model."""
        return fold(
            self.program, {name: value.numpy(force=True) for name, value in self.state_dict().items()}
        )


def standalone(space: Space, subnet: Subnet, seed: int = 0) -> Network:
    """`subnet` on its own, with fresh weights: the same as in a new supernet, but scaled for its own size."""
    return Network(space.program(subnet), lambda weight: initial(weight, seed))


class Supernet(Weights):
    """Shared weights of all subnets of a space; see the module.

    `drop_path` (probability at the last block, less before it) and `dropout` (before the classifier) act in
    training only.
    """

    def __init__(
        self, space: Space, classes: int | None = None, in_channels: int | None = None, seed: int = 0
    ) -> None:
        super().__init__()
        self.space = space.adapted(classes=classes, channels=in_channels)
        self.drop_path = 0.0
        self.dropout = 0.0
        self._shared = covering(every_section(self.space))
        for name, shared in self._shared.items():
            self.put(name, initial(shared.weight, seed))
            if name.endswith(".bn.weight"):
                path = name.removesuffix("weight")
                self.put(f"{path}mean", torch.zeros(shared.weight.shape), learned=False)
                self.put(f"{path}var", torch.ones(shared.weight.shape), learned=False)
            for kernel in shared.kernels[1:] if self.space.kernel_transform else ():
                size: int = kernel**shared.weight.centred
                self.put(transform_name(name, kernel), torch.eye(size))

    def forward(self, x: Tensor, subnet: Subnet) -> Tensor:
        """The outputs of `subnet` for a batch [batch, channels, height, width] or [batch, channels, length].

        Inputs of another resolution than the subnet's are resized.
        """
        program = self.space.program(subnet)
        run = Run(self.part, None if self.training else self._statistics)
        if self.training:
            run.drop_path, run.dropout = self.drop_path, self.dropout
        return run_program(program, resized(x, program), run)

    def part(self, weight: Weight) -> Tensor:
        """What a subnet uses of a shared weight: the leading part, and the centre of the last dimensions."""
        full = self.take(weight.name)
        if full.shape == weight.shape:
            return full
        first = len(weight.shape) - weight.centred
        for dim, size in enumerate(weight.shape[:first]):
            if full.shape[dim] != size:
                full = full.narrow(dim, 0, size)
        if not self.space.kernel_transform:
            return centre(full, weight.shape[first:])
        for kernel in self._shared[weight.name].kernels[1:]:
            if kernel >= weight.shape[-1]:
                full = centre(full, (kernel,) * weight.centred)
                matrix = self.take(transform_name(weight.name, kernel))
                full = functional.linear(full.flatten(first), matrix).reshape(full.shape)
        return centre(full, weight.shape[first:])

    def _statistics(self, name: str, channels: int) -> tuple[Tensor, Tensor]:
        return self.take(f"{name}.mean")[:channels], self.take(f"{name}.var")[:channels]

    def recalibrate(self, loader: Iterable[Any], subnet: Subnet) -> None:
        """Set the running statistics of batch norm to those of `subnet` over the batches of `loader`.

        A batch is a tensor, or a tuple that begins with one. The result does not depend on their order.
        """
        program = self.space.program(subnet)
        collected: dict[str, Moments] = {}
        run = Run(self.part, None, collect=collected)
        device = next(self.parameters()).device
        with torch.no_grad():
            for batch in loader:
                x = batch[0] if isinstance(batch, tuple | list) else batch
                run_program(program, resized(x.to(device, non_blocking=True), program), run)
            if not collected:
                raise OptionError("batch norm cannot be recalibrated without any batch", code="no-data")
            for name, moments in collected.items():
                for part, value in zip(("mean", "var"), moments.result(), strict=True):
                    self.take(f"{name}.{part}")[: len(value)].copy_(value)

    def extract(self, subnet: Subnet) -> Network:
        """A network with its own copy of what `subnet` uses, running statistics included, in evaluation mode."""
        with torch.no_grad():
            network = Network(self.space.program(subnet), lambda weight: self.part(weight).detach().clone())
            for name, buffer in network.named_buffers():
                buffer.copy_(self.take(name)[: len(buffer)])
        return network.to(next(self.parameters()).device).eval()

    def cnn_parameters(self) -> list[nn.Parameter]:
        """Those of the stem and of convolutional blocks."""
        return self._of("stem", "cnn")

    def transformer_parameters(self) -> list[nn.Parameter]:
        """Those of transformer blocks."""
        return self._of("transformer")

    def head_parameters(self) -> list[nn.Parameter]:
        """Those after the last stage."""
        return self._of("head")

    def affine_parameters(self) -> list[nn.Parameter]:
        """Scales and shifts of batch norm and layer norm, in all parts."""
        return self._where(lambda shared: shared.affine)

    def _of(self, *parts: str) -> list[nn.Parameter]:
        return self._where(lambda shared: shared.part in parts)

    def _where(self, chosen: Callable[[Shared], bool]) -> list[nn.Parameter]:
        """The parameters of the shared weights that are `chosen`, kernel transforms included."""
        names = {name for name, shared in self._shared.items() if chosen(shared)}
        return [value for name, value in self.named_parameters() if name.partition(":")[0] in names]


def resized(x: Tensor, program: Program) -> Tensor:
    """A batch of inputs at the resolution of `program`."""
    extents = program.source.extents
    if tuple(int(extent) for extent in x.shape[2:]) == extents:
        return x
    if x.dim() != len(extents) + 2:
        raise OptionError(
            f"a batch of inputs has {len(extents) + 2} dimensions here, not {x.dim()}", code="bad-input"
        )
    if len(extents) == 1:
        return functional.interpolate(x, size=extents, mode="linear")
    return functional.interpolate(x, size=extents, mode="bicubic")


def centre(full: Tensor, sizes: tuple[int, ...]) -> Tensor:
    """The middle of the last dimensions."""
    first = full.dim() - len(sizes)
    for dim, size in enumerate(sizes, first):
        if full.shape[dim] != size:
            full = full.narrow(dim, (full.shape[dim] - size) // 2, size)
    return full


def transform_name(weight: str, kernel: int) -> str:
    """The parameter that turns the centre of a larger kernel into one of size `kernel`."""
    return f"{weight}:{kernel}"


@dataclass(frozen=True, slots=True)
class Shared:
    """A weight of a supernet, as large as its largest use; `kernels`: the sizes of its uses, falling."""

    part: str
    affine: bool
    weight: Weight
    kernels: tuple[int, ...]


def covering(sections: Iterable[Section]) -> dict[str, Shared]:
    """Every weight that occurs in `sections`, by name."""
    found: dict[str, Shared] = {}
    for section in sections:
        for op in section.ops:
            for weight in op.weights:
                known = found.get(weight.name)
                if known is None or known.weight != weight:
                    found[weight.name] = _joined(known, section.part, op, weight)
    return found


def _joined(known: Shared | None, part: str, op: Op, weight: Weight) -> Shared:
    kernels = (weight.shape[-1],) if op.kind == "conv" and weight.centred else ()
    if known is None:
        affine = op.kind == "norm" or weight.name.endswith((".bn.weight", ".bn.bias"))
        return Shared(part, affine, weight, kernels)
    shape = tuple(max(pair) for pair in zip(known.weight.shape, weight.shape, strict=True))
    # A residual branch starts at zero, unless it is all that there is in some of the networks.
    start = "ones" if "ones" in (known.weight.start, weight.start) else weight.start
    sizes = tuple(sorted({*known.kernels, *kernels}, reverse=True))
    return Shared(part, known.affine, Weight(weight.name, shape, start, weight.centred), sizes)
