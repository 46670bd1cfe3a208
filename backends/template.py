"""Target templates: a target with hardware genes, and what its area may be.

    h4hc_template: "1.0"
    name: cluster
    target: npu+cim                      # a shipped target, or the path of a file beside this one
    genes:
      cim.macros: [2, 4, 8]
      cim.compute_units: [1, 2, 4]
      npu.preset: [ethos-u85-256, ethos-u85-512]
    area_mm2:                            # what no cost model knows; taken from a floor plan or a data sheet
      base: 1.2
      cim.macros: [0.6, 1.2, 2.4]        # one number per choice of the gene
    most_area_mm2: 4

Choices are written as in a target file. A vector of indices, one per gene in the order of the file, makes a target.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from itertools import product
from math import prod
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from h4hc.backends.base import load_backends
from h4hc.backends.files import read_yaml
from h4hc.backends.knobs import TargetSpec, Value
from h4hc.backends.problems import first_problem, nearest
from h4hc.errors import TargetError
from h4hc.ir.target import Name, Target

Choices = Annotated[tuple[Any, ...], Field(min_length=1, max_length=64)]
Area = Annotated[float, Field(ge=0, le=1e6)]
BASE = "base"


class Template(BaseModel):
    """A target with genes. Read one with `load_template`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    h4hc_template: Literal["1.0"]
    name: Name
    description: str = ""
    target: str
    genes: Annotated[dict[str, Choices], Field(min_length=1, max_length=64)]
    area_mm2: dict[str, Area | tuple[Area, ...]] = Field(default_factory=dict)
    most_area_mm2: Area | None = None
    folder: Annotated[Path, Field(exclude=True)] = Path()

    @model_validator(mode="after")
    def _consistent(self) -> Template:
        problems = []
        for gene, choices in self.genes.items():
            if len({repr(choice) for choice in choices}) < len(choices):
                problems.append(f"genes.{gene}: a choice stands there twice")
        for gene, areas in self.area_mm2.items():
            if gene == BASE:
                if isinstance(areas, tuple):
                    problems.append("area_mm2.base: is one number")
            elif gene not in self.genes:
                problems.append(f"area_mm2.{gene}: is no gene; {nearest(gene, [BASE, *self.genes], 'genes')}")
            elif not isinstance(areas, tuple) or len(areas) != len(self.genes[gene]):
                problems.append(
                    f"area_mm2.{gene}: needs one number for each of {len(self.genes[gene])} choices"
                )
        if problems:
            raise ValueError("\n".join(problems))
        return self

    @cached_property
    def spec(self) -> TargetSpec:
        """The target as its file states it."""
        beside = self.folder / self.target
        is_file = Path(self.target).suffix in (".yaml", ".yml", ".json")
        return TargetSpec.load(beside if is_file else self.target)

    @property
    def size(self) -> int:
        """How many targets there are."""
        return prod(len(choices) for choices in self.genes.values())

    def values(self, vector: Sequence[int]) -> dict[str, Value]:
        """The values of the genes at the indices `vector`. Raises IndexError beyond the last choice."""
        return {
            gene: choices[index] for (gene, choices), index in zip(self.genes.items(), vector, strict=True)
        }

    def build(self, vector: Sequence[int]) -> Target:
        """The target at the indices `vector`, named after the template and its values. Raises TargetError."""
        target = self.spec.build(self.values(vector))
        label = "-".join(str(index) for index in vector)
        return target.model_copy(update={"name": f"{self.name}-{label}"[:64]})

    def area(self, vector: Sequence[int], target: Target) -> float | None:
        """Square millimetres of `target`, built at `vector`; None if neither the template nor any model knows any.

        The stated areas, and those of the devices whose models know theirs and whose genes state none.
        """
        stated = {gene for gene in self.area_mm2 if gene != BASE}
        base = self.area_mm2.get(BASE, 0.0)
        total = base if isinstance(base, float) else 0.0
        known = bool(self.area_mm2)
        for (gene, _), index in zip(self.genes.items(), vector, strict=True):
            areas = self.area_mm2.get(gene)
            total += areas[index] if isinstance(areas, tuple) else 0.0
        for name, backend in load_backends(target).items():
            if backend.area_mm2 is not None and not any(gene.startswith(f"{name}.") for gene in stated):
                total, known = total + backend.area_mm2, True
        return total if known else None

    @cached_property
    def area_is_known(self) -> bool:
        """Whether the first target has an area, so that all are expected to."""
        first = [0] * len(self.genes)
        return self.area(first, self.build(first)) is not None

    def check(self) -> None:
        """Build every choice of every gene once (the others at their first). Raises TargetError for what is wrong."""
        if self.most_area_mm2 is not None and not self.area_is_known:
            raise TargetError(
                f"template {self.name}: most_area_mm2 is given, but no area is known",
                code="bad-template",
                hint="state area_mm2, or use macros that are described by a geometry",
            )
        for position, choices in enumerate(self.genes.values()):
            for index in range(len(choices)):
                vector = [0] * len(self.genes)
                vector[position] = index
                self.build(vector)


def is_template(name_or_path: str | Path) -> bool:
    """Whether this names a file that says of itself that it is a template."""
    path = Path(name_or_path)
    if path.suffix not in (".yaml", ".yml") or not path.is_file():
        return False
    return "h4hc_template" in read_yaml(path)


def load_template(path: Path) -> Template:
    """The template in a file, checked. Raises TargetError with the first problem and the number of others."""
    data = read_yaml(path)
    try:
        template = Template.model_validate({**data, "folder": path.parent})
    except ValidationError as error:
        raise TargetError(f"{path}: {first_problem(error, Template)}", code="bad-template") from None
    try:
        template.check()
    except TargetError as error:
        raise TargetError(f"{path}: {error}", code="bad-template") from None
    return template


def vectors(template: Template) -> list[tuple[int, ...]]:
    """Every vector of the template, the last gene fastest."""
    return list(product(*(range(len(choices)) for choices in template.genes.values())))
