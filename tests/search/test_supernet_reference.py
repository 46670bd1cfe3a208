"""Blocks against the same blocks written by hand with the functions of PyTorch."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("torch", reason="PyTorch is not installed (pip install 'h4hc[search]')")

import torch
from torch import Tensor
from torch.nn import functional

from h4hc.search.space import space_from
from h4hc.search.supernet import Network, standalone


def network_of(groups: list[dict[str, Any]], **stage: Any) -> Network:
    """A network of one stage between a stem and a head, none of whose weights is at a special value."""
    space = space_from(
        {
            "name": "one",
            "classes": 4,
            "resolutions": 10,
            "stem": {"width": 8},
            "stages": [{"width": 8, "groups": groups, **stage}],
        }
    )
    network = standalone(space, space.largest()).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, tensor in network.state_dict().items():
            noise = torch.rand(tensor.shape, generator=generator) + 0.5
            tensor.copy_(noise if name.endswith("bn.var") else tensor + 0.3 * (noise - 1))
    return network


def conv(net: Network, x: Tensor, name: str, stride: int = 1, groups: int = 1) -> Tensor:
    """Convolution and batch norm called `name`."""
    weight = net.take(f"{name}.weight")
    y = functional.conv2d(x, weight, None, stride, weight.shape[-1] // 2, 1, groups)
    parts = [net.take(f"{name}.bn.{part}") for part in ("mean", "var", "weight", "bias")]
    return functional.batch_norm(y, *parts)


def linear(net: Network, x: Tensor, name: str) -> Tensor:
    return functional.linear(x, net.take(f"{name}.weight"), net.take(f"{name}.bias"))


def layer_norm(net: Network, x: Tensor, name: str) -> Tensor:
    return functional.layer_norm(x, x.shape[-1:], net.take(f"{name}.weight"), net.take(f"{name}.bias"))


def stem(net: Network, x: Tensor) -> Tensor:
    return functional.silu(conv(net, x, "stem.conv", 2))


def head(net: Network, x: Tensor) -> Tensor:
    return linear(net, x.mean((2, 3)), "head.classifier")


def check(net: Network, stage: Any) -> None:
    x = torch.randn(3, 3, 10, 10, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(net(x), head(net, stage(stem(net, x))), atol=1e-5, rtol=1e-5)


def test_mbconv_with_pooled_shortcut() -> None:
    group = {"block": "mbconv", "depth": 1, "kernel": 5, "expand": 4, "se": 1, "project": 1}
    net = network_of([group], width=16, stride=2)

    def stage(x: Tensor) -> Tensor:
        y = functional.silu(conv(net, x, "s1.mb0.expand"))
        y = functional.silu(conv(net, y, "s1.mb0.depthwise", 2, y.shape[1]))
        gate = y.mean((2, 3), keepdim=True)
        for layer, act in (("reduce", functional.relu), ("expand", functional.hardsigmoid)):
            name = f"s1.mb0.se.{layer}"
            gate = act(functional.conv2d(gate, net.take(f"{name}.weight"), net.take(f"{name}.bias")))
        # Five rows and columns are pooled in pairs, a row and a column of zeros at the end.
        shortcut = functional.avg_pool2d(functional.pad(x, (0, 1, 0, 1)), 2)
        shortcut = functional.conv2d(shortcut, net.take("s1.mb0.shortcut.weight"))
        return shortcut + conv(net, y * gate, "s1.mb0.project")

    check(net, stage)


def test_transformer() -> None:
    vit = {"block": "transformer", "depth": 1, "heads": 2, "head_size": 3, "v_ratio": 2, "mlp_ratio": 3}
    net = network_of([{"block": "vgg", "depth": 1}, vit])

    def stage(x: Tensor) -> Tensor:
        x = functional.relu(conv(net, x, "s1.vgg0.conv"))
        batch, width, height, across = x.shape
        tokens = x.flatten(2).transpose(1, 2)
        normed = layer_norm(net, tokens, "s1.vit0.norm1")
        q, k, v = (
            linear(net, normed, f"s1.vit0.{part}").reshape(batch, height * across, 2, -1).transpose(1, 2)
            for part in "qkv"
        )
        table = net.take("s1.vit0.position.table")
        bias = torch.zeros(2, height * across, height * across)
        for i in range(height * across):
            for j in range(height * across):
                down, right = i // across - j // across, i % across - j % across
                bias[:, i, j] = table[:, down + height - 1, right + across - 1]
        mixed = functional.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        mixed = mixed.transpose(1, 2).reshape(batch, height * across, -1)
        tokens = tokens + linear(net, mixed, "s1.vit0.out") * net.take("s1.vit0.out.scale")
        y = functional.silu(linear(net, layer_norm(net, tokens, "s1.vit0.mlp1.norm"), "s1.vit0.mlp1.expand"))
        y = linear(net, y, "s1.vit0.mlp1.project") * net.take("s1.vit0.mlp1.project.scale")
        return (tokens + y).transpose(1, 2).reshape(batch, width, height, across)

    check(net, stage)


@pytest.mark.parametrize("bottleneck", [0, 1])
def test_resnet(bottleneck: int) -> None:
    net = network_of([{"block": "resnet", "depth": 2, "bottleneck": bottleneck}], stride=2)

    def block(x: Tensor, name: str, stride: int) -> Tensor:
        shortcut = conv(net, x, f"{name}.shortcut", stride) if stride > 1 else x
        if bottleneck:
            y = functional.relu(conv(net, x, f"{name}.reduce"))
            y = conv(net, functional.relu(conv(net, y, f"{name}.middle", stride)), f"{name}.restore")
        else:
            y = conv(net, functional.relu(conv(net, x, f"{name}.conv1", stride)), f"{name}.conv2")
        return functional.relu(shortcut + y)

    check(net, lambda x: block(block(x, "s1.res0", 2), "s1.res1", 1))


def test_dilated() -> None:
    net = network_of([{"block": "dilated", "depth": 1, "levels": 3, "expand": 2}])

    def stage(x: Tensor) -> Tensor:
        total = torch.zeros_like(x)
        for level in (1, 2, 3):
            name = f"s1.dil0.level{level}"
            y = functional.conv2d(x, net.take(f"{name}.weight"), None, 1, level, level, x.shape[1])
            parts = [net.take(f"{name}.bn.{part}") for part in ("mean", "var", "weight", "bias")]
            total = total + functional.batch_norm(y, *parts)
        x = x + conv(net, functional.silu(total), "s1.dil0.mix")
        return x + conv(net, functional.silu(conv(net, x, "s1.dil0.expand")), "s1.dil0.project")

    check(net, stage)
