"""Training recipes: what to train, on which data, in which phases. YAML files, checked in full when read.

A shipped recipe is named (``tpi-freeze``), another one is given as a file. This module needs no PyTorch.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from h4hc.backends.files import read_yaml
from h4hc.backends.problems import first_problem, nearest, problem_lines
from h4hc.errors import DataError, OptionError, RecipeError, TargetError

FOLDER = Path(__file__).parent / "recipes"
Fraction = Annotated[float, Field(ge=0, lt=1)]
Positive = Annotated[float, Field(gt=0, le=1e6, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1, le=10**9)]


class _Part(BaseModel):
    """Unknown keys are mistakes, and a recipe never changes once read."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Augment(_Part):
    """Random changes of training samples; all off by default.

    ``crop`` to ``erase`` need 8-bit images; ``shift``, ``flip`` and ``noise`` work on any samples.
    """

    crop: tuple[Fraction, Annotated[float, Field(gt=0, le=1)]] | None = None  # share of the area kept
    flip: bool = False  # left and right, half of the time
    jitter: Annotated[float, Field(ge=0, le=1)] = 0.0  # brightness, contrast and saturation within 1 +- this
    randaugment: Annotated[int, Field(ge=0, le=8)] = 0  # operations per image
    magnitude: Annotated[float, Field(ge=0, le=10)] = 5.0  # of randaugment, out of 10
    erase: Annotated[float, Field(ge=0, le=1)] = 0.0  # probability of one random rectangle of noise
    shift: Annotated[int, Field(ge=0, le=64)] = 0  # samples moved by up to this, zeros shifted in
    noise: Annotated[float, Field(ge=0, le=10)] = 0.0  # standard deviation, in units of the stored values

    @model_validator(mode="after")
    def _check(self) -> Augment:
        if self.crop and not 0 < self.crop[0] <= self.crop[1]:
            raise ValueError(
                "data.augment.crop: must be two shares of the area in rising order, for example [0.35, 1.0]"
            )
        return self


class DataConfig(_Part):
    """Where samples come from and how they are split; see `h4hc.search.data.sets`."""

    kind: Literal["digits", "folder", "archive", "series", "synthetic"] = "digits"
    path: str | None = None  # folder: root of the class folders; archive and series: the file
    size: Annotated[int, Field(ge=4, le=4096)] | None = None  # side (length) of samples; else as stored
    classes: Annotated[int, Field(ge=2, le=10**6)] | None = None  # synthetic only; else counted
    channels: Annotated[int, Field(ge=1, le=1024)] | None = None  # synthetic only
    dimensions: Literal[1, 2] = 2  # synthetic only: 1 makes series
    layout: Literal["auto", "NHW", "NHWC", "NCHW", "NL", "NLC", "NCL"] = "auto"  # archive, series
    train: Annotated[int, Field(ge=1)] | None = None  # samples; None: all that are not held out
    validation: Annotated[int, Field(ge=1)] | None = None  # held out for the search
    test: Annotated[int, Field(ge=1)] | None = None  # held out from the search
    split_seed: Annotated[int, Field(ge=0)] = 0
    augment: Augment = Augment()

    @model_validator(mode="after")
    def _check(self) -> DataConfig:
        if self.kind in ("folder", "archive") and not self.path:
            raise ValueError(f"data.path: is missing; {self.kind} data are read from there")
        if self.kind in ("digits", "synthetic") and self.path:
            raise ValueError(f"data.path: {self.kind} data are read from no path; leave it out")
        if self.size and self.kind in ("digits", "archive"):
            raise ValueError(
                f"data.size: {self.kind} samples have the size they are stored with; leave it out"
            )
        made = self.kind == "synthetic" or (self.kind == "series" and not self.path)
        if not made and (self.classes or self.channels):
            raise ValueError("data.classes, data.channels: only made-up data have them; leave them out")
        augment = self.augment
        if self.kind != "folder" and (augment.crop or augment.jitter or augment.randaugment):
            if self.kind != "archive":
                raise ValueError("data.augment: crop, jitter and randaugment need images (folder or archive)")
        return self


class Optimizer(_Part):
    """AdamW, or SGD with Nesterov momentum; no weight decay on biases, norms and scales."""

    name: Literal["adamw", "sgd"] = "adamw"
    lr: Positive = 2e-3  # at the peak, for `reference_batch` samples per step
    reference_batch: Count | None = None  # the learning rate is scaled by batch / this; None: not scaled
    weight_decay: Annotated[float, Field(ge=0, le=10)] = 1e-2
    momentum: Fraction = 0.9  # SGD
    betas: tuple[Fraction, Fraction] = (0.9, 0.999)  # AdamW


class Schedule(_Part):
    """Linear warm-up, then a half cosine down to `final` times the peak."""

    warmup: Annotated[float, Field(ge=0, le=1000)] = 4.0  # epochs
    final: Annotated[float, Field(ge=0, le=1)] = 0.0


class Clip(_Part):
    """Limits of the gradient, after all subnets of a step are summed."""

    norm: Positive | None = 1.0
    value: Positive | None = None


class Distill(_Part):
    """Loss of all subnets but the largest, against its detached outputs."""

    loss: Literal["kl", "alpha"] = "kl"
    alpha: tuple[float, float] = (-1.0, 1.0)  # the two divergences of which the larger counts
    clip: Positive = 5.0  # of importance weights
    temperature: Positive = 1.0


class Projection(_Part):
    """Takes from the largest subnet's gradient what points against that of the others."""

    enabled: bool = False
    from_epoch: Annotated[int, Field(ge=0)] = 0


class Phase(_Part):
    """One stretch of training with its own optimizer and schedule, from the weights of the one before."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,30}$")]
    epochs: Annotated[int, Field(ge=1, le=10**5)]
    subspace: Literal["cnn", "all"] = "all"
    freeze: Literal["cnn", "none"] = "none"
    trainable: tuple[Literal["head", "affine"], ...] = ("head",)  # what `freeze: cnn` leaves trainable
    min_transformers: Annotated[int, Field(ge=0, le=100)] = 0  # of the subnets drawn at random
    lr_scale: Positive = 1.0

    @model_validator(mode="after")
    def _check(self) -> Phase:
        if self.freeze == "cnn" and self.subspace == "cnn" and "affine" not in self.trainable:
            if "head" not in self.trainable:
                raise ValueError(f"phase {self.name}: freezes all that its subspace has; train something")
        if self.subspace == "cnn" and self.min_transformers:
            raise ValueError(
                f"phase {self.name}: min_transformers: the CNN-only subspace has no transformers"
            )
        return self


class Recipe(_Part):
    """All that decides what training gives; equal recipes give equal weights (on a CPU, bit for bit)."""

    schema_: Annotated[Literal[1], Field(alias="schema")]
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,60}$")]
    description: str = ""
    space: str = "h4h-tiny"
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    data: DataConfig = DataConfig()
    batch: Count = 100  # samples per step, over all processes
    shards: Annotated[int, Field(ge=1, le=4096)] = (
        1  # parts of a batch with batch-norm statistics of their own
    )
    random_subnets: Annotated[int, Field(ge=0, le=16)] = 2  # besides the largest and the smallest
    label_smoothing: Fraction = 0.1
    drop_path: Fraction = 0.0  # of the last block, less before it; largest subnet only
    dropout: Fraction = 0.0  # before the classifier; largest subnet only
    ema: Annotated[float, Field(gt=0, lt=1)] | None = 0.99
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    threads: Annotated[int, Field(ge=1, le=1024)] | None = None  # of PyTorch (None: as many as it likes)
    optimizer: Optimizer = Optimizer()
    schedule: Schedule = Schedule()
    clip: Clip = Clip()
    distill: Distill = Distill()
    projection: Projection = Projection()
    calibration: Annotated[int, Field(ge=2)] = 512  # training samples for batch-norm statistics
    validate_every: Annotated[int, Field(ge=0)] = 0  # epochs; 0: at the end of each phase
    phases: Annotated[tuple[Phase, ...], Field(min_length=1, max_length=16)]

    @model_validator(mode="after")
    def _check(self) -> Recipe:
        if self.batch % self.shards or self.batch // self.shards < 2:
            raise ValueError(
                f"shards: a batch of {self.batch} does not divide into {self.shards} parts of 2 or more"
            )
        names = [phase.name for phase in self.phases]
        if len(set(names)) < len(names):
            raise ValueError("phases: two have the same name; rename one")
        return self

    def document(self) -> dict[str, Any]:
        """The whole recipe as JSON-ready values, defaults included."""
        return self.model_dump(mode="json", by_alias=True)

    def digest(self) -> str:
        """SHA-256 of the recipe but for its name and description."""
        content = {k: v for k, v in self.document().items() if k not in ("name", "description")}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def recipe_names() -> list[str]:
    """The recipes that ship with h4hc."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def load_recipe(name_or_path: str | Path, changes: Mapping[str, Any] | None = None) -> Recipe:
    """The recipe of this name or in this file; `changes` maps dotted keys (``data.kind``) to new values."""
    text = str(name_or_path)
    if text in recipe_names():
        path, shown = FOLDER / f"{text}.yaml", text
    else:
        path, shown = Path(name_or_path), text
        if path.suffix not in (".yaml", ".yml", ".json") and not os.path.isfile(path):
            raise RecipeError(
                f"there is no recipe called {text}",
                code="unknown-recipe",
                hint=f"{nearest(text, recipe_names(), 'recipes')}; or give the path of a recipe file",
            )
    try:
        content = read_yaml(path)
    except TargetError as error:
        raise RecipeError(str(error), code="bad-recipe") from None
    for key, value in (changes or {}).items():
        set_value(content, key, deepcopy(value), shown)
    return parse_recipe(content, shown)


def parse_recipe(content: Mapping[str, Any], shown: str) -> Recipe:
    """The recipe that `content` describes; `shown` names it in errors."""
    try:
        return Recipe.model_validate(content)
    except ValidationError as error:
        raise RecipeError(f"{shown}: {first_problem(error, Recipe)}", code="bad-recipe") from None


def parse_data(content: Mapping[str, Any], shown: str) -> DataConfig:
    """The data that `content` describes; `shown` names it in errors."""
    try:
        return DataConfig.model_validate(content)
    except ValidationError as error:
        raise DataError(f"{shown}: {problem_lines(error, DataConfig)[0]}", code="bad-data") from None


def select_phases(recipe: Recipe, names: Iterable[str]) -> Recipe:
    """The recipe with only the phases called `names`; all of them if there are no names."""
    chosen = list(names)
    known = [phase.name for phase in recipe.phases]
    for name in chosen:
        if name not in known:
            raise RecipeError(
                f"recipe {recipe.name} has no phase '{name}'",
                code="option",
                hint=nearest(name, known, "phases"),
            )
    phases = tuple(phase for phase in recipe.phases if not chosen or phase.name in chosen)
    return recipe.model_copy(update={"phases": phases})


def parse_change(text: str) -> tuple[str, Any]:
    """Key and value of a text such as ``optimizer.lr=1.0e-3``; the value is read as YAML."""
    key, separator, value = text.partition("=")
    try:
        parsed = yaml.safe_load(value)
    except yaml.YAMLError:
        separator = ""
    if not separator or not key:
        raise OptionError(
            f"'{text}' is not a change of a value", code="option", hint="write KEY=VALUE, for example seed=3"
        )
    return key, parsed


def set_value(content: dict[str, Any], key: str, value: Any, shown: str) -> None:
    """Set the value at a dotted key; lists are indexed by number, mappings grow as needed."""
    node: Any = content
    *path, last = key.split(".")
    try:
        for part in path:
            node = node[int(part)] if isinstance(node, list) else node.setdefault(part, {})
        if isinstance(node, list):
            node[int(last)] = value
        else:
            node[last] = value
    except (ValueError, IndexError, TypeError, AttributeError):
        raise RecipeError(
            f"{shown}: there is no place {key}", code="option", hint="write for example phases.0.epochs=10"
        ) from None
