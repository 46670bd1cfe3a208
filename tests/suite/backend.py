"""Compile and verify every model of the ONNX package's backend test suite: `python -m tests.suite.backend`.

A model without a blocker (see `blockers`) that stock onnxruntime runs right must compile for npu+cim and verify.
Any other model may be refused, but only with a clean diagnostic. Prints the counts by category; exit code 1
if a model breaks a rule.
"""

from __future__ import annotations

import argparse
import collections
import multiprocessing
import queue
import sys
import tempfile
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import ModelProto, TensorProto, numpy_helper

_LOW_BIT = {
    TensorProto.BFLOAT16, TensorProto.COMPLEX64, TensorProto.COMPLEX128,
    *(v for k, v in TensorProto.DataType.items() if k.startswith(("FLOAT8", "FLOAT4", "FLOAT6", "INT4", "UINT4", "INT2", "UINT2"))),
}  # fmt: skip


@dataclass(frozen=True)
class Case:
    """A model of the suite with its expected results (tensors only; others are never compared)."""

    name: str
    model: ModelProto
    data: tuple[tuple[tuple[Any, ...], tuple[Any, ...]], ...]
    rtol: float
    atol: float


@dataclass(frozen=True)
class Outcome:
    """What happened to one model. `kind`: verified, refused, failed (its checks), crashed."""

    name: str
    blockers: tuple[str, ...]
    right: bool
    kind: str
    detail: str

    @property
    def broken(self) -> bool:
        """Whether the model breaks a rule of this suite."""
        return self.kind in ("failed", "crashed") or (self.required and self.kind != "verified")

    @property
    def required(self) -> bool:
        """Whether the model must compile and verify."""
        return self.right and not self.blockers


def cases() -> Iterator[Case]:
    """All models: the node tests made in memory, and the files of the package."""
    from onnx.backend.test.case.node import collect_testcases

    for case in collect_testcases(None):
        data = tuple((tuple(inputs), tuple(outputs)) for inputs, outputs in case.data_sets or ())
        yield Case(case.name, case.model, data, case.rtol, case.atol)
    root = Path(onnx.__file__).parent / "backend" / "test" / "data"
    for folder in ("light", "simple", "pytorch-converted", "pytorch-operator"):
        for file in sorted((root / folder).rglob("*.onnx")):
            yield Case(
                f"{folder}/{file.parent.name}/{file.stem}", onnx.load(file), _file_data(file), 1e-3, 1e-5
            )


def _file_data(file: Path) -> tuple[tuple[tuple[Any, ...], tuple[Any, ...]], ...]:
    sets = []
    for folder in sorted(file.parent.glob("test_data_set_*")):
        loaded = []
        for kind in ("input", "output"):
            count = len(list(folder.glob(f"{kind}_*.pb")))
            loaded.append(tuple(_load_tensor(folder / f"{kind}_{i}.pb") for i in range(count)))
        sets.append((loaded[0], loaded[1]))
    return tuple(sets)


def _load_tensor(path: Path) -> Any:
    tensor = TensorProto()
    tensor.ParseFromString(path.read_bytes())
    return numpy_helper.to_array(tensor)


def blockers(model: ModelProto) -> tuple[str, ...]:
    """Why a static-graph accelerator compiler may refuse `model`; empty if it must not."""
    found = []
    graph = model.graph
    types = [value.type for value in (*graph.input, *graph.output, *graph.value_info)]
    tensors = [t.tensor_type for t in types if t.HasField("tensor_type")]
    elements = {t.elem_type for t in tensors} | {t.data_type for t in graph.initializer}
    if any(not t.HasField("tensor_type") for t in types):
        found.append("sequence, optional or map")
    if TensorProto.STRING in elements:
        found.append("strings")
    if elements & _LOW_BIT:
        found.append("low-bit types")
    if any(a.HasField("g") or a.graphs for node in graph.node for a in node.attribute):
        found.append("control flow")
    if {node.domain for node in graph.node} - {"", "ai.onnx"} - {f.domain for f in model.functions}:
        found.append("other domains")
    if any(0 in [d.dim_value for d in t.shape.dim if d.HasField("dim_value")] for t in tensors):
        found.append("empty tensors")
    if not found and _dynamic(model):
        found.append("dynamic shapes")
    return tuple(found)


def _dynamic(model: ModelProto) -> bool:
    """Whether a shape does not follow from the model alone."""
    try:
        inferred = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    except (onnx.shape_inference.InferenceError, RuntimeError, ValueError):
        return True
    shapes = {v.name: v.type.tensor_type for v in (*inferred.input, *inferred.value_info, *inferred.output)}
    names = {name for node in inferred.node for name in node.output if name} | {
        i.name for i in inferred.input
    }
    return any(
        name not in shapes
        or not shapes[name].HasField("shape")
        or any(not d.HasField("dim_value") for d in shapes[name].shape.dim)
        for name in names
    )


def runs_right(case: Case) -> bool:
    """Whether stock onnxruntime gives the expected results."""
    import onnxruntime

    if not case.data:
        return case.name.startswith("light/") and _loads(case.model)
    try:
        session = onnxruntime.InferenceSession(
            case.model.SerializeToString(), providers=["CPUExecutionProvider"]
        )
        for inputs, outputs in case.data:
            names = [i.name for i in session.get_inputs()]
            feeds = {n: np.asarray(v) for n, v in zip(names, inputs, strict=False)}
            for got, expected in zip(session.run(None, feeds), outputs, strict=True):
                np.testing.assert_allclose(got, expected, case.rtol, case.atol)
    except Exception:  # onnxruntime raises whatever it likes here; all of it means "does not run right"
        return False
    return True


def _loads(model: ModelProto) -> bool:
    import onnxruntime

    onnxruntime.set_default_logger_severity(4)
    return bool(onnxruntime.InferenceSession(model.SerializeToString()).get_inputs())


class Runner:
    """One worker: compiles and verifies one model after the other."""

    def __init__(self) -> None:
        import onnxruntime

        import h4hc

        onnxruntime.set_default_logger_severity(4)
        self.h4hc = h4hc
        self.compiler = h4hc.Compiler(h4hc.load_target("npu+cim"))
        self.folder = Path(tempfile.mkdtemp(prefix="h4hc-suite-"))

    def run(self, case: Case) -> Outcome:
        """Compile and verify `case`."""
        kind, detail = self._try(case)
        return Outcome(case.name, blockers(case.model), runs_right(case), kind, detail)

    def _try(self, case: Case) -> tuple[str, str]:
        path = self.folder / "model.onnx"
        path.write_bytes(case.model.SerializeToString())
        bundle = self.folder / "bundle"
        try:
            loaded = self.h4hc.load_model(path)
            options = self.h4hc.Options(effort="fast", baselines=False)
            compilation = self.compiler.compile(loaded.model, options, loaded.source)
            self.h4hc.write_bundle(compilation, bundle)
            report = self.h4hc.verify_bundle(bundle, path, seeds=1, isolate=False)
        except self.h4hc.H4hcError as error:
            text = str(error)
            return (
                ("crashed", f"not one line: {text!r}")
                if "\n" in text
                else ("refused", f"{error.code}: {text}")
            )
        except Exception:  # what this suite looks for
            return "crashed", traceback.format_exc(limit=-3)
        failed = [f"{check.code}: {check.detail}" for check in report.checks if check.passed is False]
        return ("failed", "; ".join(failed)) if failed else ("verified", "")


def _worker(number: int, workers: int, results: Any) -> None:
    runner = Runner()
    for index, case in enumerate(cases()):
        if index % workers == number:
            results.put(("start", number, case.name))
            results.put(("done", number, runner.run(case)))
    results.put(("end", number, None))


def run_suite(workers: int) -> list[Outcome]:
    """All outcomes; a worker that dies leaves a crashed outcome for the model it was at."""
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    processes = [context.Process(target=_worker, args=(i, workers, results)) for i in range(workers)]
    for process in processes:
        process.start()
    outcomes, current, open_workers = [], {}, set(range(workers))
    while open_workers:
        # Dead before the wait: all that they had to say has been said when nothing comes.
        dead = [number for number in open_workers if not processes[number].is_alive()]
        try:
            what, number, value = results.get(timeout=5)
        except queue.Empty:
            for n in dead:
                outcomes.append(Outcome(current.get(n, "?"), (), False, "crashed", "the process died"))
                open_workers.discard(n)
            continue
        if what == "start":
            current[number] = value
        elif what == "done":
            outcomes.append(value)
        else:
            open_workers.discard(number)
    for process in processes:
        process.join()
    return outcomes


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--verbose", action="store_true", help="print every refusal")
    arguments = parser.parse_args()
    outcomes = run_suite(arguments.workers)
    table: collections.Counter[tuple[str, str]] = collections.Counter()
    for outcome in outcomes:
        category = (
            "required"
            if outcome.required
            else outcome.blockers[0]
            if outcome.blockers
            else "onnxruntime differs"
        )
        table[category, outcome.kind] += 1
    kinds = ("verified", "refused", "failed", "crashed")
    print(f"{'category':<28}" + "".join(f"{kind:>10}" for kind in kinds))
    for category in sorted({category for category, _ in table}):
        print(f"{category:<28}" + "".join(f"{table[category, kind]:>10}" for kind in kinds))
    broken = [outcome for outcome in outcomes if outcome.broken]
    for outcome in outcomes if arguments.verbose else broken:
        print(f"{outcome.kind}: {outcome.name}: {outcome.detail}")
    required = sum(outcome.required for outcome in outcomes)
    print(f"{len(outcomes)} models, {required} required, {len(broken)} broken")
    print(f"{len(outcomes) - len(broken)} passed, {len(broken)} failed")
    return 1 if broken or not outcomes else 0


if __name__ == "__main__":
    sys.exit(main())
