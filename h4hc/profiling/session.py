"""onnxruntime on one thread of this machine."""

from __future__ import annotations

import platform
import time
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    from onnx import ModelProto

_TYPES = {
    "float": "float32", "double": "float64", "float16": "float16", "bool": "bool",
    **{name: name for name in ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64")},
}  # fmt: skip
# A thread that runs without being interrupted spends as much processor time as time passes.
_PAUSE_SECONDS, _PAUSE_FRACTION = 2e-5, 0.03


# Where the time of a thread is counted in ticks of the scheduler, it says nothing about one run.
_fine = time.get_clock_info("thread_time").resolution < 1e-6
_processor_time = time.thread_time if _fine else time.perf_counter


class Timing(NamedTuple):
    """Seconds that passed during a run, and those that the thread was on the processor."""

    wall: float
    busy: float

    @property
    def calm(self) -> bool:
        """Whether nothing interrupted the run."""
        return self.wall - self.busy < max(_PAUSE_SECONDS, _PAUSE_FRACTION * self.wall)


class RuntimeFailureError(Exception):
    """onnxruntime cannot run a model, or not properly; the message says why."""


class Session:
    """A model that is loaded, with its inputs filled and its outputs bound."""

    def __init__(self, model: ModelProto | bytes) -> None:
        self._session = _open(model)
        self._binding = self._session.io_binding()
        for value in self._session.get_inputs():
            self._binding.bind_cpu_input(value.name, example(value))
        for value in self._session.get_outputs():
            self._binding.bind_output(value.name)

    def timed(self) -> Timing:
        """Time one run."""
        busy = _processor_time()
        start = time.perf_counter()
        self._session.run_with_iobinding(self._binding)
        wall = time.perf_counter() - start
        busy = _processor_time() - busy
        return Timing(wall, busy)


def check_result(model: ModelProto) -> None:
    """Run `model` once; raises RuntimeFailureError unless all of its floating-point results are finite."""
    import numpy as np

    session = _open(model)
    inputs = {value.name: example(value) for value in session.get_inputs()}
    try:
        results = session.run(None, inputs)
    except Exception as error:  # what onnxruntime raises has no common base
        raise RuntimeFailureError(_reason(error)) from None
    for value, result in zip(session.get_outputs(), results, strict=True):
        if np.issubdtype(result.dtype, np.floating) and not np.isfinite(result).all():
            raise RuntimeFailureError(f"result {value.name} is not finite")


def example(value: Any) -> np.ndarray[Any, Any]:
    """Random content for an input of a session."""
    import numpy as np

    name = value.type.removeprefix("tensor(").removesuffix(")")
    if name not in _TYPES or not all(isinstance(extent, int) for extent in value.shape):
        raise RuntimeFailureError(f"input {value.name} of type {value.type} cannot be made up")
    generator = np.random.Generator(np.random.PCG64(zlib.crc32(value.name.encode())))
    kind = np.dtype(_TYPES[name])
    if kind.kind == "f":
        floats: np.ndarray[Any, Any] = generator.standard_normal(value.shape).astype(kind)
        return floats
    if kind.itemsize == 1 and kind.kind != "b":
        low = -100 if kind.kind == "i" else 0
        integers: np.ndarray[Any, Any] = generator.integers(low, 100, value.shape).astype(kind)
        return integers
    return np.zeros(value.shape, kind)  # an index that is always valid


def _open(model: ModelProto | bytes) -> Any:
    """A session as in real use, except that equal copies stay apart."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    try:
        return onnxruntime.InferenceSession(
            model if isinstance(model, bytes) else model.SerializeToString(),
            options,
            providers=["CPUExecutionProvider"],
            disabled_optimizers=["CommonSubexpressionElimination"],
        )
    except Exception as error:  # what onnxruntime raises has no common base
        raise RuntimeFailureError(_reason(error)) from None


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split())
    return "".join(c for c in text if c.isprintable()) or type(error).__name__


def compiler() -> str:
    """What runs the models, with its version."""
    import onnxruntime

    return f"onnxruntime {onnxruntime.__version__}"


def processor() -> str:
    """The model of this machine's processor."""
    fields: dict[str, str] = {}
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(errors="replace").split("\n\n")[0].splitlines():
            key, _, value = line.partition(":")
            fields[key.strip()] = value.strip()
    found = " ".join(
        [fields.get("model name", ""), *(f"{k} {fields[k]}" for k in ("cpu family", "model") if k in fields)]
    )
    return found.replace(";", ",").strip() or platform.processor() or platform.machine()
