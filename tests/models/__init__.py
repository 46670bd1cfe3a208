"""The packed models of this folder, and those that the onnx package ships."""

from __future__ import annotations

import lzma
from pathlib import Path

import onnx

HERE = Path(__file__).parent
NAMES = tuple(sorted(path.name.removesuffix(".onnx.xz") for path in HERE.glob("*.onnx.xz")))
EXAMPLE = HERE.parent.parent / "examples" / "hybrid_subnet.onnx"


def unpack(name: str, folder: Path) -> Path:
    """Write the model `name` to `folder` and return its path."""
    path = folder / f"{name}.onnx"
    if not path.exists():
        path.write_bytes(lzma.decompress((HERE / f"{name}.onnx.xz").read_bytes()))
    return path


def light_models() -> list[Path]:
    """The CNNs of the onnx package's backend suite, whose weights are ConstantOfShape nodes."""
    folder = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
    return sorted(folder.glob("light_*.onnx"))
