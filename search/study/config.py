"""The configuration of a study: a YAML file, checked in full when read, or the same from the command line."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from h4hc.backends.files import read_yaml
from h4hc.backends.problems import first_problem
from h4hc.errors import OptionError, StudyError, TargetError
from h4hc.ir.compilation import Options, frame_period
from h4hc.search.study.genome import digest_of

_TIMES = {"s": 1.0, "sec": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_MOST = 10**8
# Populations by default: as many as leave this many generations, within bounds.
_GENERATIONS, _SMALLEST, _LARGEST = 10, 10, 100
Text = Annotated[str, Field(min_length=1, max_length=400)]


class Budget(BaseModel):
    """When to stop: after so many evaluations, or so many seconds."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    evaluations: int | None = None
    seconds: float | None = None

    def __str__(self) -> str:
        return f"{self.seconds:g}s" if self.seconds is not None else str(self.evaluations)


def parse_budget(text: str) -> Budget:
    """The budget in a text such as ``500`` or ``10m``; raises OptionError."""
    match = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([a-z]*)\s*", text)
    if match and not match[2] and match[1].isdigit() and 0 < int(match[1]) <= _MOST:
        return Budget(evaluations=int(match[1]))
    if match and match[2] in _TIMES and 0 < float(match[1]) * _TIMES[match[2]] <= 366 * 86400:
        return Budget(seconds=float(match[1]) * _TIMES[match[2]])
    raise OptionError(
        f"{text[:60]!r} is no budget",
        code="budget", hint=f"a number of evaluations up to {_MOST}, or a time, for example 500, 90s, 10m, 2h",
    )  # fmt: skip


class Compile(BaseModel):
    """How candidates are compiled (see `h4hc.ir.compilation.Options`).

    Fetching weights ahead is left out unless asked for: looking for it takes as long as all the rest. `fps`: of the
    camera; energies then count static power until the next frame, and candidates that do not keep up do not fit.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    objective: Literal["latency", "energy", "edp", "throughput"] = "latency"
    effort: Literal["fast", "balanced"] = "fast"
    precision: Literal["int8", "model"] = "int8"
    prefetch: bool = False
    frames: Annotated[int, Field(ge=1, le=8)] | None = None
    fps: Annotated[float, Field(ge=0.001, le=1e6)] | None = None

    def options(self) -> Options:
        """The options of the compiler."""
        return Options(
            objective=self.objective,
            effort=self.effort,
            precision=self.precision,
            prefetch=self.prefetch,
            frames=self.frames,
            interval_seconds=frame_period(self.fps),
            baselines=False,
        )


class StudyConfig(BaseModel):
    """What is searched, for what and how. With the seed it decides every evaluation, but for `budget`.

    `accuracy` is a source of scores (see `h4hc.search.scores.sources`), `start` a file of candidates to try first.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)
    version: Annotated[Literal[1], Field(alias="schema")] = 1
    space: Text | None = None
    supernet: Text | None = None
    accuracy: Text | None = None
    targets: Annotated[tuple[Text, ...], Field(min_length=1, max_length=16)] = ("npu+cim",)
    objectives: Annotated[tuple[Text, ...], Field(min_length=1, max_length=8)] = ("accuracy", "latency")
    constraints: Annotated[tuple[Text, ...], Field(max_length=32)] = ()
    engine: Text = "nsga2"
    population: Annotated[int, Field(ge=2, le=100_000)] | None = None
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    budget: Text = "500"
    start: Text | None = None
    compile: Compile = Compile()

    @field_validator("targets", "objectives", "constraints", mode="before")
    @classmethod
    def _one_or_many(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @field_validator("budget", mode="before")
    @classmethod
    def _budget(cls, value: Any) -> Any:
        text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
        if isinstance(text, str):
            try:
                parse_budget(text)
            except OptionError as error:
                raise ValueError(f"budget: {error}") from None
        return text

    def resolved(self) -> StudyConfig:
        """The configuration with a population, which by default depends on the engine and the budget."""
        if self.population is not None:
            return self
        evaluations = parse_budget(self.budget).evaluations
        spread = (
            _LARGEST if evaluations is None else max(_SMALLEST, min(_LARGEST, evaluations // _GENERATIONS))
        )
        return self.model_copy(update={"population": _SMALLEST if self.engine == "bayes" else spread})

    def document(self) -> dict[str, Any]:
        """The configuration as plain data, defaults included."""
        return self.model_dump(mode="json", by_alias=True)

    @property
    def digest(self) -> str:
        """SHA-256 of all but the budget."""
        counting = {key: value for key, value in self.document().items() if key != "budget"}
        # What is not set does not count: options that came later leave older studies as they are.
        counting["compile"] = {key: value for key, value in counting["compile"].items() if value is not None}
        return digest_of(counting)


def read_config(path: Path, changes: Mapping[str, Any] | None = None) -> StudyConfig:
    """The configuration in a YAML file, with `changes` to some keys. Raises StudyError.

    The paths that it names are relative to its folder.
    """
    try:
        content = read_yaml(path)
    except TargetError as error:
        raise StudyError(str(error), code="bad-study") from None
    return parse_config({**_located(content, path.parent), **(changes or {})}, str(path))


def parse_config(content: Mapping[str, Any], shown: str) -> StudyConfig:
    """The configuration that `content` describes; `shown` names it in errors."""
    try:
        return StudyConfig.model_validate(content)
    except ValidationError as error:
        raise StudyError(f"{shown}: {first_problem(error, StudyConfig)}", code="bad-study") from None


def _located(content: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """`content` with files that lie beside the study file named from here."""

    def at(value: Any) -> Any:
        if isinstance(value, list):
            return [at(item) for item in value]
        if not isinstance(value, str):
            return value
        kind, colon, rest = value.partition(":")
        if colon and kind != "proxy":
            return f"{kind}:{at(rest)}" if (folder / rest).exists() else value
        return str(folder / value) if (folder / value).is_file() else value

    found = dict(content)
    for key in ("space", "accuracy", "targets", "start"):
        if key in found:
            found[key] = at(found[key])
    return found
