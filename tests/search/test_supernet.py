"""The supernet: a subnet of it is the network that is extracted, and the one that is emitted."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable

import numpy as np
import onnx
import onnxruntime
import pytest

pytest.importorskip("torch", reason="PyTorch is not installed (pip install 'h4hc[search]')")

import torch

from h4hc.errors import OptionError
from h4hc.search import layers
from h4hc.search.emit import emit
from h4hc.search.program import Section, Weight
from h4hc.search.space import Space, load_space
from h4hc.search.subnet import Subnet
from h4hc.search.supernet import Supernet, standalone, transform_name
from tests.search.spaces import kitchen_sink

NARROW = {"resolution": [192]}
SPACES: dict[str, Callable[[], Space]] = {
    "h4h-tiny": lambda: load_space("h4h-tiny"),
    "sink": kitchen_sink,
    "sequence": lambda: kitchen_sink(1),
    "alphanet": lambda: load_space("alphanet").restrict(genes=NARROW),
    "cnn-only": lambda: load_space("cnn-only").restrict(genes=NARROW),
    "nasvit": lambda: load_space("nasvit").restrict(
        genes={**NARROW, "s5.vit.depth": [2], "s6.vit.depth": [2]}
    ),
    "h4h-imagenet": lambda: load_space("h4h-imagenet").restrict(genes=NARROW),
}


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def disturbed(space: Space, seed: int = 0) -> Supernet:
    """A supernet none of whose weights is at a special value, as after training."""
    net = Supernet(space, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if parameter.dim() == 1 or ":" in name:
                parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
    return net.eval()


def images(space: Space, subnet: Subnet, count: int = 6, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, space.channels, *[subnet.resolution] * space.dims, generator=generator)


def subnets(space: Space, count: int = 3) -> list[Subnet]:
    rng = np.random.default_rng(0)
    return [space.largest(), space.smallest(), *(space.sample(rng) for _ in range(count))]


def run_onnx(model: onnx.ModelProto, x: torch.Tensor) -> np.ndarray:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return np.concatenate([session.run(None, {name: x[i : i + 1].numpy()})[0] for i in range(len(x))])


@pytest.mark.parametrize("name", SPACES)
def test_supernet_extracted_network_and_onnx_model_agree(name: str) -> None:
    space = SPACES[name]()
    net = disturbed(space)
    small = name in ("h4h-tiny", "sink", "sequence")
    for subnet in subnets(space, 6) if small else subnets(space, 1)[1:]:
        x = images(space, subnet)
        net.recalibrate([x], subnet)
        network = net.extract(subnet)
        with torch.no_grad():
            shared, own = net(x, subnet), network(x)
        assert own.std() > 0.01
        assert torch.equal(shared, own) or (shared - own).abs().max() < 1e-6
        found = run_onnx(emit(space, subnet, network.arrays()), x[:2])
        np.testing.assert_allclose(found, own[:2].numpy(), atol=1e-4, rtol=0)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning")
def test_the_exporter_of_torch_gives_the_same_outputs() -> None:
    space = SPACES["h4h-tiny"]()
    net = disturbed(space)
    for subnet in subnets(space, 1):
        x = images(space, subnet)
        net.recalibrate([x], subnet)
        network = net.extract(subnet)
        file = io.BytesIO()
        torch.onnx.export(network, (x[:1],), file, dynamo=False, opset_version=17)
        exported = onnx.load_from_string(file.getvalue())
        emitted = emit(space, subnet, network.arrays())
        np.testing.assert_allclose(run_onnx(emitted, x[:1]), run_onnx(exported, x[:1]), atol=1e-4, rtol=0)


def test_extraction_copies() -> None:
    space = SPACES["h4h-tiny"]()
    net, subnet = disturbed(space), space.smallest()
    x = images(space, subnet)
    network = net.extract(subnet)
    with torch.no_grad():
        before = network(x)
        for tensor in net.state_dict().values():
            tensor.fill_(7.0)
        assert torch.equal(network(x), before)
    assert sum(p.numel() for p in network.parameters()) < sum(p.numel() for p in net.parameters())


@pytest.mark.parametrize("name", ["h4h-tiny", "sink", "sequence"])
def test_gradients_reach_exactly_the_part_in_use(name: str) -> None:
    space = SPACES[name]()
    net = disturbed(space).train()
    subnet = space.sample(np.random.default_rng(3))
    outputs = net(images(space, subnet), subnet)
    (outputs * torch.randn(outputs.shape)).sum().backward()
    used = {weight.name: weight for op in space.program(subnet).ops for weight in op.weights}
    for parameter_name, parameter in net.named_parameters():
        weight = used.get(parameter_name.partition(":")[0])
        if weight is None:
            assert parameter.grad is None, parameter_name
        elif ":" not in parameter_name:
            assert parameter.grad is not None, parameter_name
            outside = torch.ones_like(parameter, dtype=torch.bool)
            net_part = region(parameter, weight)
            outside[net_part] = False
            if not space.kernel_transform or not weight.centred:
                assert not parameter.grad[outside].any(), parameter_name


def region(full: torch.Tensor, weight: Weight) -> tuple[slice, ...]:
    first = full.dim() - weight.centred
    starts = [0 if i < first else (full.shape[i] - size) // 2 for i, size in enumerate(weight.shape)]
    return tuple(slice(start, start + size) for start, size in zip(starts, weight.shape, strict=True))


def test_recalibration_gives_the_statistics_of_all_batches_in_any_order() -> None:
    space = SPACES["h4h-tiny"]()
    subnet = space.sample(np.random.default_rng(1))
    x = images(space, subnet, 40)
    batches = [x[:8], x[8:24], x[24:]]
    nets = [disturbed(space) for _ in range(3)]
    nets[0].recalibrate(batches, subnet)
    nets[1].recalibrate([(batch, None) for batch in batches[::-1]], subnet)
    nets[2].recalibrate([x], subnet)
    for name, buffer in nets[0].named_buffers():
        torch.testing.assert_close(buffer, dict(nets[1].named_buffers())[name], atol=1e-7, rtol=1e-6)
    # The first batch norm sees the same numbers however they are batched.
    stem = torch.nn.functional.conv2d(x, nets[2].part(space.program(subnet).ops[0].weights[0]), padding=1)
    for net in nets:
        torch.testing.assert_close(net.take("stem.conv.bn.mean")[: subnet.stem], stem.mean((0, 2, 3)))
        torch.testing.assert_close(
            net.take("stem.conv.bn.var")[: subnet.stem], stem.var((0, 2, 3), correction=0)
        )
    # With the statistics of the batch itself, evaluation is training without its randomness.
    with torch.no_grad():
        torch.testing.assert_close(nets[2](x, subnet), nets[2].train()(x, subnet), atol=1e-5, rtol=1e-4)
    with pytest.raises(OptionError, match="without any batch"):
        nets[0].recalibrate([], subnet)


def test_training_leaves_the_running_statistics_alone() -> None:
    space = SPACES["h4h-tiny"]()
    net = Supernet(space).train()
    before = {name: buffer.clone() for name, buffer in net.named_buffers()}
    net(images(space, space.largest()), space.largest())
    assert all(torch.equal(buffer, before[name]) for name, buffer in net.named_buffers())


def test_small_kernels_are_the_centre_of_large_ones_until_trained() -> None:
    space = SPACES["sink"]()
    net = Supernet(space)
    name = "s3.mb0.depthwise.weight"
    full = net.take(name)
    hidden = full.shape[0]
    assert full.shape == (hidden, 1, 7, 7)
    small = net.part(Weight(name, (8, 1, 3, 3), "conv", 2))
    torch.testing.assert_close(small, full[:8, :, 2:5, 2:5])
    with torch.no_grad():
        net.take(transform_name(name, 5)).mul_(2.0)
        net.take(transform_name(name, 3)).mul_(3.0)
    torch.testing.assert_close(net.part(Weight(name, (8, 1, 3, 3), "conv", 2)), 6 * full[:8, :, 2:5, 2:5])
    torch.testing.assert_close(net.part(Weight(name, (8, 1, 5, 5), "conv", 2)), 2 * full[:8, :, 1:6, 1:6])
    assert net.part(Weight(name, tuple(full.shape), "conv", 2)) is full


def test_drop_path_and_dropout_act_in_training_only() -> None:
    space = SPACES["h4h-tiny"]()
    net, subnet = disturbed(space), space.largest()
    x = images(space, subnet)
    torch.manual_seed(0)
    with torch.no_grad():
        calm, training = net(x, subnet), net.train()(x, subnet)
        for attribute in ("drop_path", "dropout"):
            setattr(net, attribute, 0.5)
            assert not torch.equal(net.train()(x, subnet), training)
            assert torch.equal(net.eval()(x, subnet), calm)
            setattr(net, attribute, 0.0)
        assert torch.equal(net.train()(x, subnet), training)


def test_drop_path_rises_along_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    space = SPACES["h4h-tiny"]()
    net, rates = disturbed(space).train(), {}
    run = layers.run_section

    def recorded(section: Section, x: torch.Tensor, settings: layers.Run, rate: float) -> torch.Tensor:
        rates[section.name] = rate
        return run(section, x, settings, rate)

    monkeypatch.setattr(layers, "run_section", recorded)
    net.drop_path = 0.2
    subnet = space.restrict(cnn_only=True).largest()
    net(images(space, subnet), subnet)
    blocks = [f"s{stage}.mb{block}" for stage in (1, 2, 3) for block in (0, 1)]
    expected = {name: 0.2 * (i + 1) / 6 for i, name in enumerate(blocks)} | {"stem": 0.0, "head": 0.0}
    assert rates == pytest.approx(expected)


def test_residual_branches_start_at_zero_unless_they_may_be_all_there_is() -> None:
    net = Supernet(SPACES["h4h-tiny"]())
    assert (net.take("s1.mb0.project.bn.weight") == 1).all()  # widths 4 to 8: no shortcut
    assert (net.take("s1.mb1.project.bn.weight") == 0).all()
    assert (net.take("s2.vit0.out.scale") == 1e-4).all()


@pytest.mark.parametrize("name", ["h4h-tiny", "sink", "nasvit"])
def test_every_parameter_belongs_to_one_part(name: str) -> None:
    net = Supernet(SPACES[name]())
    names = {id(parameter): name for name, parameter in net.named_parameters()}
    parts = [net.cnn_parameters(), net.transformer_parameters(), net.head_parameters()]
    assert sorted(id(p) for part in parts for p in part) == sorted(names)
    assert all(".vit" in names[id(p)] for p in parts[1])
    assert all(names[id(p)].startswith("head.") for p in parts[2])
    assert not any(".vit" in names[id(p)] for p in parts[0])
    affine = {names[id(p)] for p in net.affine_parameters()}
    assert {"stem.conv.bn.weight", "stem.conv.bn.bias"} <= affine
    assert "stem.conv.weight" not in affine
    assert "head.classifier.bias" not in affine


def test_weights_follow_from_the_seed() -> None:
    space = SPACES["h4h-tiny"]()
    first, again, other = (Supernet(space, seed=seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["stem.conv.weight"], other["stem.conv.weight"])


def test_state_and_copies() -> None:
    space = SPACES["sink"]()
    net, subnet = disturbed(space), space.largest()
    x = images(space, subnet)
    loaded = Supernet(space, seed=9).eval()
    loaded.load_state_dict(net.state_dict())
    twin = copy.deepcopy(net)
    with torch.no_grad():
        expected = net(x, subnet)
        assert torch.equal(loaded(x, subnet), expected)
        net.take("stem.conv.weight").zero_()
        assert torch.equal(twin(x, subnet), expected)


def test_classes_and_channels_of_the_data() -> None:
    space = SPACES["h4h-tiny"]()
    net = Supernet(space, classes=7, in_channels=2).eval()
    subnet = space.largest()
    x = torch.randn(2, 2, 8, 8)
    network = net.extract(subnet)
    with torch.no_grad():
        assert net(x, subnet).shape == (2, 7)
        found = run_onnx(emit(net.space, subnet, network.arrays()), x)
        np.testing.assert_allclose(found, network(x).numpy(), atol=1e-4, rtol=0)


@pytest.mark.parametrize(("name", "extents"), [("h4h-tiny", (11, 9)), ("sequence", (50,))])
def test_inputs_are_resized(name: str, extents: tuple[int, ...]) -> None:
    space = SPACES[name]()
    net, subnet = disturbed(space), space.smallest()
    x = torch.randn(2, space.channels, *extents)
    with torch.no_grad():
        assert net(x, subnet).shape == (2, space.classes)
        with pytest.raises(OptionError, match="a batch of inputs has"):
            net(x[0], subnet)


def test_without_transformers_phase_two_starts_where_phase_one_ended() -> None:
    """Transformer branches start at a ten-thousandth: adding them changes next to nothing."""
    space = SPACES["h4h-tiny"]()
    net = Supernet(space).eval()
    subnet = space.largest()
    without = space.restrict(cnn_only=True).largest()
    x = images(space, subnet)
    net.recalibrate([x], subnet)
    with torch.no_grad():
        torch.testing.assert_close(net(x, subnet), net(x, without), atol=1e-2, rtol=0)


@pytest.mark.parametrize("name", ["h4h-tiny", "sequence"])
def test_a_network_of_its_own_learns(name: str) -> None:
    space = SPACES[name]()
    subnet = space.sample(np.random.default_rng(2))
    network = standalone(space, subnet, seed=0).train()
    x = images(space, subnet, 32)
    labels = torch.arange(32) % space.classes
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-2)
    losses = []
    for _ in range(15):
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(network(x), labels)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]
    # Its running statistics followed, so that it can be used as it is.
    with torch.no_grad():
        assert torch.isfinite(network.eval()(x)).all()
