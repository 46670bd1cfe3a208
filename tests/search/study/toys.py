"""Small studies that the tests share: quick to evaluate, and all of them alike."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result
from numpy.random import Generator

from h4hc.cli import main
from h4hc.search.genes import Gene
from h4hc.search.study.config import StudyConfig, parse_config
from h4hc.search.study.engines.base import Told
from h4hc.search.study.genome import FixedSystems, Genome, Vector
from h4hc.search.study.record import Evaluation
from h4hc.search.study.run import Session, run_study
from h4hc.search.study.store import Store

# h4h-tiny has 20,736 subnets; compiling one takes about ten milliseconds.
TINY = {
    "schema": 1,
    "space": "h4h-tiny",
    "accuracy": "proxy:nn-degree",
    "objectives": ["accuracy", "latency", "energy"],
    "constraints": ["latency<=40us"],
    "population": 10,
    "budget": 40,
}


def config(**changes: Any) -> StudyConfig:
    return parse_config({**TINY, **changes}, "test")


def made(path: Path, workers: str = "serial", **changes: Any) -> Path:
    """A finished study."""
    run_study(config(**changes), path, Session(workers=workers))
    return path


def h4hc(*arguments: object) -> Result:
    """What `h4hc search` does with these arguments."""
    return CliRunner().invoke(main, ["search", *(str(a) for a in arguments)])


def searched(path: Path, *options: object) -> Path:
    """A finished study, from the command line; targets among the `options`."""
    done = h4hc("run", "--space", "h4h-tiny", "-a", "proxy:nn-degree", "-b", 24, "--population", 8, "-w", "serial",
                "-o", path, "-q", *options)  # fmt: skip
    assert done.exit_code == 0, done.output
    return path


def rows(path: Path) -> list[Evaluation]:
    """The evaluations of a study, but for what may differ between runs: times and sessions."""
    with Store(path) as store:
        return [replace(row, wall_ms=0.0, session=0) for row in store.evaluations()]


def everything(path: Path) -> tuple[list[Evaluation], list[dict[str, Any]]]:
    """All that a study has found."""
    with Store(path) as store:
        return rows(path), store.generations()


@dataclass(frozen=True)
class Numbers:
    """Networks that are nothing but vectors: `count` genes of `choices` choices.

    A network has as many blocks as its first gene says; genes of blocks that it does not have are 0.
    """

    count: int = 12
    choices: int = 4

    @property
    def genes(self) -> tuple[Gene, ...]:
        return tuple(Gene(f"g{i}", tuple(range(self.choices))) for i in range(self.count))

    @property
    def digest(self) -> str:
        return f"{self.count} {self.choices}"

    def canonical(self, vector: Vector) -> Vector:
        return tuple(v if i <= 3 * (vector[0] + 1) else 0 for i, v in enumerate(vector))

    def sample(self, rng: Generator) -> Vector:
        return self.canonical(tuple(int(v) for v in rng.integers(self.choices, size=self.count)))

    def subnet(self, vector: Vector) -> Vector:
        return vector

    def label(self, subnet: Vector) -> str:
        return "-".join(map(str, subnet))

    def facts(self, subnet: Vector) -> Mapping[str, float]:
        return {"macs": float(sum(subnet)) + 1}


def toy_genome(count: int = 12, choices: int = 4) -> Genome:
    return Genome(Numbers(count, choices), FixedSystems({}))  # type: ignore[arg-type]


def judged(vector: Vector) -> Told:
    """Two objectives in conflict, and a limit: the number of threes."""
    first = sum(vector) + 3 * sum(a != b for a, b in itertools.pairwise(vector))
    second = sum((3 - v) ** 2 for v in vector) + 2 * vector[0]
    excess = max(0, sum(v == 3 for v in vector) - 8)
    return Told(vector, None if excess else (float(first), float(second)), float(excess))
