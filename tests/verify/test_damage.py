"""Every corruption is caught by the check that guards the invariant, in hand-made and compiled bundles."""

from __future__ import annotations

from dataclasses import dataclass

import onnx
import pytest
from onnx import ModelProto

from h4hc.ir.compilation import Options
from h4hc.verify.check import NAMES, check_schedule, check_structure
from h4hc.verify.decode import decode
from h4hc.verify.folder import decode_chain
from h4hc.verify.network import Network
from h4hc.verify.report import Report
from tests.verify import damage_data, damage_fetches, damage_memory, damage_models, damage_tasks
from tests.verify.compiled import (
    TARGETS,
    compile_bundle,
    mixed_pins,
    save_hybrid,
    save_mixed,
    save_weighty,
)
from tests.verify.damage import CORRUPTIONS, Corruption, Specimen
from tests.verify.maker import Maker

HANDMADE = 12
SOURCES = (
    damage_data,
    damage_fetches,
    damage_memory,
    damage_models,
    damage_tasks,
)  # importing them fills CORRUPTIONS
# Corrupted in tests of their own: test_command.py, test_sharing.py, test_functional.py and bundle/test_weights.py.
FOLDER_CODES = {"V01", "V25", "F01", "F02", "W01", "W02"}
CAUGHT: list[tuple[str, str, int, int]] = []


@dataclass
class Sample:
    """A valid bundle and its model."""

    specimen: Specimen
    model: ModelProto


def check(specimen: Specimen, model: ModelProto) -> Report:
    document, network = decode(specimen.document), Network(specimen.partitioned)
    checks = check_structure(document, network, decode_chain(specimen.index), specimen.parts, model)
    return Report((*checks, *check_schedule(document, network)))


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> list[Sample]:
    found = []
    for seed in range(HANDMADE):
        made = Maker(seed).make()
        index = {"inputs": ["x"], "outputs": ["y", "late"], "files": [entry for entry, _ in made.chain]}
        parts = {f"subgraphs/{entry['file']}": part for entry, part in made.chain}
        found.append(Sample(Specimen(made.document, made.partitioned, index, parts), made.model))
    folder = tmp_path_factory.mktemp("compiled")
    model = save_hybrid(folder)
    for target in TARGETS:
        build = compile_bundle(model, target, folder / target)
        found.append(Sample(Specimen.read(build), onnx.load(model)))
    return found


@pytest.fixture(scope="module")
def fetching(tmp_path_factory: pytest.TempPathFactory) -> list[Sample]:
    """Bundles in which weights are fetched: one where nothing else is moved, and two with several frames in flight, of which
    one has little room."""
    folder = tmp_path_factory.mktemp("fetching")
    weighty, mixed = save_weighty(folder), save_mixed(folder, (32, 32, 32), (1024, 64))
    options = Options(frames=2, objective="throughput", constraints=mixed_pins("cnch", 2), baselines=False)
    return [
        Sample(Specimen.read(compile_bundle(weighty, "npu", folder / "npu")), onnx.load(weighty)),
        *(
            Sample(
                Specimen.read(compile_bundle(mixed, "npu+cim", folder / f"mixed{sram}", options, sram)),
                onnx.load(mixed),
            )
            for sram in ("", "100KiB")
        ),
    ]


@pytest.fixture(scope="module", autouse=True)
def table() -> object:
    """Print, at the end, how many samples each corruption was applied to and caught in (pytest -s)."""
    yield
    print("\ncheck  caught  corruption")
    for code, name, applied, caught in sorted(CAUGHT):
        print(f"{code:<5}  {caught:>2}/{applied:<2}   {name.replace('_', ' ')}")


def test_samples_are_valid(samples: list[Sample], fetching: list[Sample]) -> None:
    for sample in (*samples, *fetching):
        report = check(sample.specimen, sample.model)
        assert [(c.code, c.detail) for c in report.checks if not c.passed] == []


@pytest.mark.parametrize(
    ("code", "corrupt"), [pytest.param(c, f, id=f"{c}-{name}") for c, name, f in CORRUPTIONS]
)
def test_corruption_is_caught(
    code: str, corrupt: Corruption, samples: list[Sample], fetching: list[Sample]
) -> None:
    applied, missed = 0, []
    for sample in (*samples, *(fetching if corrupt.__module__ == damage_fetches.__name__ else ())):
        specimen = sample.specimen.copy()
        if corrupt(specimen):
            applied += 1
            report = check(specimen, sample.model)
            if code not in {c.code for c in report.failed}:
                missed.append(report.verdict)
    CAUGHT.append((code, corrupt.__name__, applied, applied - len(missed)))
    assert applied, "no sample offers what this corrupts"
    assert missed == []


def test_every_check_has_a_corruption() -> None:
    assert {code for code, _, _ in CORRUPTIONS} | FOLDER_CODES >= set(NAMES)
