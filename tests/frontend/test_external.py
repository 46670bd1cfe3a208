"""Weights in files beside the model: only regular files inside the model's folder are read."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from frontend_helpers import parse, refusal, save, stored
from onnx import ModelProto, TensorProto

from h4hc.errors import ModelError
from h4hc.frontend import Limits, load_model, normalise

VALUES = np.arange(4, dtype=np.float32)


def external(location: str, **entries: str) -> ModelProto:
    """A model whose weight is in the file `location`."""
    model = parse("(float[1,2] x) => (float[1,2] y) { y = MatMul (x, w) }")
    tensor = TensorProto(name="w", data_type=1, dims=[2, 2], data_location=TensorProto.EXTERNAL)
    for key, value in {"location": location, **entries}.items():
        tensor.external_data.add(key=key, value=value)
    model.graph.initializer.append(tensor)
    return model


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder for the model, with weights and a secret beside it."""
    (tmp_path / "secret.bin").write_bytes(VALUES.tobytes())
    inside = tmp_path / "model"
    inside.mkdir()
    (inside / "w.bin").write_bytes(VALUES.tobytes())
    return inside


def test_weights_are_loaded(folder: Path) -> None:
    loaded = load_model(save(external("w.bin"), folder / "m.onnx"))
    assert np.array_equal(stored(loaded.model)["w"], VALUES.reshape(2, 2))


def test_weights_are_loaded_from_a_subfolder_at_an_offset(folder: Path) -> None:
    (folder / "sub").mkdir()
    (folder / "sub" / "w.bin").write_bytes(b"12345678" + VALUES.tobytes() + b"rest")
    model = external("sub/w.bin", offset="8", length="16", checksum="0")
    assert np.array_equal(stored(load_model(save(model, folder / "m.onnx")).model)["w"], VALUES.reshape(2, 2))


def test_weights_are_found_from_another_working_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(external("w.bin"), folder / "m.onnx")
    monkeypatch.chdir(folder)
    assert "w" in stored(load_model("m.onnx").model)


def test_a_model_reached_by_a_link_is_read(folder: Path) -> None:
    save(external("w.bin"), folder / "real.onnx")
    (folder / "m.onnx").symlink_to("real.onnx")
    assert load_model(folder / "m.onnx").source.name == "m"


def link(target: str) -> Callable[[Path], None]:
    return lambda folder: (folder / "link").symlink_to(target)


def hard_link(folder: Path) -> None:
    os.link(folder.parent / "secret.bin", folder / "link")


def fifo(folder: Path) -> None:
    os.mkfifo(folder / "link")


def subfolder(folder: Path) -> None:
    (folder / "link").mkdir()


def nothing(_folder: Path) -> None:
    pass


@pytest.mark.parametrize(
    ("location", "prepare", "code"),
    [
        ("../secret.bin", nothing, "external-data-escape"),
        ("sub/../../secret.bin", nothing, "external-data-escape"),
        ("./../secret.bin", nothing, "external-data-escape"),
        ("..", nothing, "external-data-escape"),
        ("/etc/passwd", nothing, "external-data-escape"),
        ("/dev/zero", nothing, "external-data-escape"),
        ("C:/secret.bin", nothing, "external-data-escape"),
        ("..\\secret.bin", nothing, "external-data-escape"),
        ("w.bin\0x", nothing, "external-data-escape"),
        (".", nothing, "external-data-escape"),
        ("link", link("../secret.bin"), "external-data-escape"),
        ("link", link("w.bin"), "external-data-escape"),
        ("link/secret.bin", link(".."), "external-data-escape"),
        ("link", link("/dev/zero"), "external-data-escape"),
        ("link", link("nowhere"), "external-data-escape"),
        ("link", hard_link, "external-data-escape"),
        ("link", fifo, "external-data-escape"),
        ("link", subfolder, "external-data-escape"),
        ("missing.bin", nothing, "external-data-missing"),
        ("a" * 5000, nothing, "external-data-missing"),
        ("*/_ORT_MEM_ADDR_/*", nothing, "external-data-missing"),
        ("", nothing, "external-data"),
    ],
)
def test_locations_outside_the_folder_are_refused(
    folder: Path, location: str, prepare: Callable[[Path], None], code: str
) -> None:
    prepare(folder)
    refusal(save(external(location), folder / "m.onnx"), code)


@pytest.mark.parametrize(
    ("entries", "code"),
    [
        ({"offset": "-1"}, "external-data"),
        ({"offset": "4"}, "external-data-truncated"),
        ({"offset": "99999999999"}, "external-data-truncated"),
        ({"offset": "9" * 40}, "external-data"),
        ({"offset": "0x10"}, "external-data"),
        ({"length": "8"}, "external-data"),
        ({"length": "3000000000"}, "external-data"),
        ({"length": "many"}, "external-data"),
        ({"__class__": "x"}, "external-data"),
        ({"basepath": "/etc"}, "external-data"),
    ],
)
def test_nonsense_about_the_data_is_refused(folder: Path, entries: dict[str, str], code: str) -> None:
    refusal(save(external("w.bin", **entries), folder / "m.onnx"), code)


def test_a_repeated_key_is_refused(folder: Path) -> None:
    model = external("w.bin")
    model.graph.initializer[0].external_data.add(key="location", value="../secret.bin")
    refusal(save(model, folder / "m.onnx"), "external-data")


def test_a_huge_stated_tensor_is_refused_before_it_is_read(folder: Path) -> None:
    model = external("w.bin")
    model.graph.initializer[0].dims[:] = [2**20, 2**20]
    refusal(save(model, folder / "m.onnx"), "too-large")


def test_the_sum_of_external_weights_is_limited(folder: Path) -> None:
    path = save(external("w.bin"), folder / "m.onnx")
    with pytest.raises(ModelError) as caught:
        load_model(path, limits=Limits(weight_bytes=8))
    assert caught.value.code == "too-large"


def test_external_data_of_a_model_in_memory_is_refused() -> None:
    with pytest.raises(ModelError) as caught:
        normalise(external("w.bin"))
    assert caught.value.code == "external-data"


def test_the_model_file_must_be_a_regular_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo.onnx")
    for path in (tmp_path / "fifo.onnx", tmp_path, Path("/dev/zero")):
        refusal(path, "not-a-file")
    refusal(tmp_path / "missing.onnx", "unreadable")
    refusal(tmp_path / "nul\0.onnx", "unreadable")


def test_an_oversized_file_is_refused(tmp_path: Path) -> None:
    path = save(external("w.bin"), tmp_path / "m.onnx")
    with pytest.raises(ModelError) as caught:
        load_model(path, limits=Limits(file_bytes=10))
    assert caught.value.code == "too-large"
