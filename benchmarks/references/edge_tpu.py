"""Coral Edge TPU: published network times against the Edge-TPU class preset, with nothing fitted.

    python -m benchmarks.references.edge_tpu

The Edge TPU's insides are not published beyond 64 x 64 cells, output stationary, and 8 MB on chip. So this says how far
a model of such an array is from silicon that resembles it, not how good the model of a known array is.
"""

from __future__ import annotations

from benchmarks.references.errors import Pair, Section, print_sections, summarise
from benchmarks.references.scalesim import systolic
from h4hc.ir.cost import Refusal
from h4hc.ir.workload import Conv, Elementwise, Kernel, MatMul, Reduction, Workload

REFERENCE = "coral.ai benchmarks, Edge TPU on the Dev Board, milliseconds per inference"
MILLISECONDS = {"MobileNetV1": 2.4, "MobileNetV2": 2.6, "InceptionV1": 4.1}
NOT_MODELLED = (
    "input and output over PCIe, and the runtime on the host CPU",
    "the real array: its dataflow, buffers and how it runs depthwise layers are not published in detail",
)
# Expansion, output channels, repeats and stride of the blocks of MobileNetV2.
_V2 = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
# Output channels and stride of the blocks of MobileNetV1.
_V1 = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1))
# Extent, then channels of 1x1, of 3x3 (reduced, output), of 5x5 (as 3x3 here: reduced, output) and behind the pool.
_INCEPTION = (
    (28, (64, 96, 128, 16, 32, 32)), (28, (128, 128, 192, 32, 96, 64)),
    (14, (192, 96, 208, 16, 48, 64)), (14, (160, 112, 224, 24, 64, 64)), (14, (128, 128, 256, 24, 64, 64)),
    (14, (112, 144, 288, 32, 64, 64)), (14, (256, 160, 320, 32, 128, 128)),
    (7, (256, 160, 320, 32, 128, 128)), (7, (384, 192, 384, 48, 128, 128)),
)  # fmt: skip


def sections() -> list[Section]:
    """One section: three networks."""
    pairs = [
        Pair("networks", name, MILLISECONDS[name], 1e3 * network_seconds(layers))
        for name, layers in networks().items()
    ]
    return [
        Section(
            "Edge TPU class, not calibrated",
            REFERENCE,
            "milliseconds of a network",
            summarise(pairs),
            NOT_MODELLED,
            "systolic-tpu-64x64",
        )
    ]


def network_seconds(layers: list[Workload]) -> float:
    """The layers one after the other, weights in the on-chip memory, which 64 bytes per cycle leave."""
    model = systolic("systolic-tpu-64x64", "30.72 GB/s", "32 ns")
    total = 0.0
    for item in layers:
        costs = model.costs(Kernel(item, ("bias", "relu") if isinstance(item, Conv) else ()))
        if isinstance(costs, Refusal):
            raise ValueError(f"{item} is refused: {costs.reason}")
        total += costs[0].seconds
    return total


def networks() -> dict[str, list[Workload]]:
    """The layers of each network at 224 x 224."""
    return {"MobileNetV1": mobilenet_v1(), "MobileNetV2": mobilenet_v2(), "InceptionV1": inception_v1()}


def conv(channels: int, outputs: int, extent: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> Conv:
    """A square convolution with `extent` x `extent` outputs."""
    side = extent * stride
    return Conv(
        1, channels, outputs, side, side, extent, extent, kernel, kernel, stride, stride, groups=groups
    )


def classifier(channels: int) -> list[Workload]:
    """Global pooling and the last layer."""
    return [Reduction("mean", 1, channels, 7, 7, 1, 1, 7, 7), MatMul(1, 1, channels, 1001)]


def mobilenet_v1() -> list[Workload]:
    """569 million MACs."""
    layers: list[Workload] = [conv(3, 32, 112, 3, 2)]
    extent, channels = 112, 32
    for outputs, stride in _V1:
        extent //= stride
        layers += [
            conv(channels, channels, extent, 3, stride, groups=channels),
            conv(channels, outputs, extent),
        ]
        channels = outputs
    return layers + classifier(channels)


def mobilenet_v2() -> list[Workload]:
    """301 million MACs."""
    layers: list[Workload] = [conv(3, 32, 112, 3, 2)]
    extent, channels = 112, 32
    for expansion, outputs, repeats, first_stride in _V2:
        for stride in (first_stride, *[1] * (repeats - 1)):
            hidden = channels * expansion
            if expansion > 1:
                layers.append(conv(channels, hidden, extent))
            extent //= stride
            layers += [conv(hidden, hidden, extent, 3, stride, groups=hidden), conv(hidden, outputs, extent)]
            if stride == 1 and channels == outputs:
                layers.append(Elementwise(extent * extent * outputs, 2, "add"))
            channels = outputs
    return [*layers, conv(channels, 1280, extent), *classifier(1280)]


def inception_v1() -> list[Workload]:
    """GoogLeNet with batch norm, 3x3 in place of 5x5 as in the TensorFlow model: 1.5 billion MACs."""
    layers: list[Workload] = [
        conv(3, 64, 112, 7, 2),
        _pool(64, 56, 2),
        conv(64, 64, 56),
        conv(64, 192, 56, 3),
    ]
    channels, before = 192, 56
    for extent, (one, reduced, three, small, five, behind) in _INCEPTION:
        if extent < before:
            layers.append(_pool(channels, extent, 2))
            before = extent
        layers += [
            conv(channels, one, extent), conv(channels, reduced, extent), conv(reduced, three, extent, 3),
            conv(channels, small, extent), conv(small, five, extent, 3),
            _pool(channels, extent, 1), conv(channels, behind, extent),
        ]  # fmt: skip
        channels = one + three + five + behind
    return layers + classifier(channels)


def _pool(channels: int, extent: int, stride: int) -> Reduction:
    side = extent * stride
    return Reduction("max_pool", 1, channels, side, side, extent, extent, 3, 3)


if __name__ == "__main__":
    print_sections(sections())
