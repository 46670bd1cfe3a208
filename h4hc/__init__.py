"""h4hc: compile neural networks for an NPU and a compute-in-memory accelerator side by side.

>>> import h4hc
>>> compiler = h4hc.Compiler(h4hc.load_target("npu+cim"))
>>> loaded = h4hc.load_model("subnet.onnx")
>>> compilation = compiler.compile(loaded.model, h4hc.Options(objective="energy"), loaded.source)
>>> h4hc.write_bundle(compilation, "build")
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from h4hc.backends import load_target
    from h4hc.bundle import write_bundle
    from h4hc.compiler import Compiler
    from h4hc.errors import H4hcError
    from h4hc.frontend import load_model, normalise
    from h4hc.ir.compilation import Compilation, Options
    from h4hc.ir.schedule import Schedule
    from h4hc.ir.target import Target
    from h4hc.verify import verify_bundle

__all__ = [
    "Compilation",
    "Compiler",
    "H4hcError",
    "Options",
    "Schedule",
    "Target",
    "load_model",
    "load_target",
    "normalise",
    "verify_bundle",
    "write_bundle",
]

# Imported on first use, so that `import h4hc` costs nothing.
_HOMES = {
    "Compilation": "h4hc.ir.compilation",
    "Compiler": "h4hc.compiler",
    "H4hcError": "h4hc.errors",
    "Options": "h4hc.ir.compilation",
    "Schedule": "h4hc.ir.schedule",
    "Target": "h4hc.ir.target",
    "load_model": "h4hc.frontend",
    "load_target": "h4hc.backends",
    "normalise": "h4hc.frontend",
    "verify_bundle": "h4hc.verify",
    "write_bundle": "h4hc.bundle",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'h4hc' has no attribute '{name}'")
    return getattr(importlib.import_module(_HOMES[name]), name)
