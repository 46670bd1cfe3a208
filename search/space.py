"""A search space: what may be chosen, and everything one does with the choices. Needs no PyTorch.

    space = load_space("h4h-tiny")
    subnet = space.sample(numpy.random.default_rng(0))
    space.decode(space.encode(subnet)) == subnet

A subnet follows from the values of its genes, taken in the order of the network; genes of blocks that it does not
have are not asked for, so that every network has exactly one representation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator

from h4hc.backends.files import read_yaml
from h4hc.backends.problems import nearest, problem_lines
from h4hc.errors import SpaceError, TargetError
from h4hc.search.blocks import Rule
from h4hc.search.genes import (
    Gene,
    Pick,
    StageGenes,
    any_of,
    assemble_group,
    depth_variants,
    other_than,
    stage_genes,
    weighted,
)
from h4hc.search.spec import (
    Choices,
    GroupSpec,
    HeadSpec,
    Name,
    Part,
    StageSpec,
    StemSpec,
    check_choices,
    check_group,
    check_order,
)
from h4hc.search.subnet import Stage, Subnet

if TYPE_CHECKING:
    from numpy.random import Generator

    from h4hc.search.network import SectionKey
    from h4hc.search.program import Program, Section

FOLDER = Path(__file__).parent / "spaces"
WIDTH = Rule(8, 1, 1 << 14)
EXTENT = Rule(224, 1, 1 << 16)
MAX_VARIANTS = 1024


class Space(Part):
    """A search space; read one with `load_space`.

    `dims` 2 is for images, 1 for sequences, whose extents are the `resolutions`. `defaults` gives genes for all
    groups of a kind that do not set them. `kernel_transform`: small kernels are a learned function of the
    centre of the large ones (Once-for-All) instead of that centre.
    """

    version: Annotated[Literal[1], Field(alias="schema")] = 1
    name: Name
    description: str = ""
    dims: Literal[1, 2] = 2
    channels: Annotated[int, Field(strict=True, ge=1, le=4096)] = 3
    classes: Annotated[int, Field(strict=True, ge=1, le=1 << 20)] = 1000
    resolutions: Choices
    activation: Literal["swish", "relu", "hard_swish", "gelu"] = "swish"
    layer_scale: Annotated[float, Field(ge=0, le=1)] = 1e-4
    kernel_transform: bool = False
    defaults: Mapping[str, Mapping[str, Choices]] = Field(default_factory=dict)
    stem: StemSpec
    stages: Annotated[tuple[StageSpec, ...], Field(min_length=1, max_length=32)]
    head: HeadSpec = HeadSpec()

    @model_validator(mode="after")
    def _check(self) -> Space:
        problems = check_choices(self.resolutions, EXTENT, "resolutions")
        problems += check_choices(self.stem.width, WIDTH, "stem.width")
        if not self.stem.kernel % 2:
            problems.append(f"stem.kernel: {self.stem.kernel} must be odd")
        if self.head.width:
            problems += check_choices(self.head.width, WIDTH, "head.width")
        for kind, genes in self.defaults.items():
            problems += check_group(GroupSpec(block=kind, depth=(1,), genes=genes), f"defaults.{kind}")
        for i, stage in enumerate(self.stages):
            where = f"stages[{i}]"
            wrong = check_choices(stage.width, WIDTH, f"{where}.width")
            for j, group in enumerate(stage.groups):
                wrong += check_group(group, f"{where}.groups[{j}]")
            problems += wrong or check_order(stage, where)
        if not problems:
            problems = self._variants()
        if problems:
            raise ValueError("\n".join(problems))
        return self

    def _variants(self) -> list[str]:
        """Groups with so many different blocks that the weights of a supernet could not be listed."""
        problems = []
        for i, stage in enumerate(self.layout):
            for j, group in enumerate(stage.groups):
                count = prod(len(gene.choices) for gene in group.layers[0]) if group.layers else 1
                if count > MAX_VARIANTS:
                    problems.append(
                        f"stages[{i}].groups[{j}]: has {count} kinds of blocks, more than {MAX_VARIANTS}; "
                        "give some genes fewer choices"
                    )
        return problems

    @cached_property
    def layout(self) -> tuple[StageGenes, ...]:
        """The genes of every stage."""
        return tuple(stage_genes(f"s{i}", stage, self.defaults) for i, stage in enumerate(self.stages, 1))

    @property
    def resolution_gene(self) -> Gene:
        return Gene("resolution", self.resolutions)

    @property
    def stem_gene(self) -> Gene:
        return Gene("stem", self.stem.width)

    @property
    def head_gene(self) -> Gene:
        return Gene("head", self.head.width or (0,))

    @cached_property
    def genes(self) -> tuple[Gene, ...]:
        """Everything with more than one choice: the positions of the vectors of `encode`."""
        found = dict.fromkeys((self.resolution_gene, self.stem_gene))
        for stage in self.layout:
            found[stage.width] = None
            for group in stage.groups:
                found[group.depth] = None
                found.update((gene, None) for layer in group.layers for gene in layer)
        found[self.head_gene] = None
        return tuple(gene for gene in found if len(gene.choices) > 1)

    def assemble(self, pick: Pick) -> Subnet:
        """The subnet whose genes have the values that `pick` gives. It is asked only for genes in use."""
        resolution, stem = pick(self.resolution_gene), pick(self.stem_gene)
        stages = tuple(
            Stage(pick(stage.width), tuple(assemble_group(group, pick) for group in stage.groups))
            for stage in self.layout
        )
        return Subnet(self.name, resolution, stem, stages, pick(self.head_gene))

    def values(self, subnet: Subnet) -> dict[str, int]:
        """The value of each gene that `subnet` uses. Raises SpaceError if it is not of this space."""
        found: dict[str, int] = {}
        if subnet.space != self.name or len(subnet.stages) != len(self.layout):
            raise self._foreign(f"it is of {subnet.space} with {len(subnet.stages)} stages")
        self._note(found, self.resolution_gene, subnet.resolution)
        self._note(found, self.stem_gene, subnet.stem)
        self._note(found, self.head_gene, subnet.head)
        for stage, genes in zip(subnet.stages, self.layout, strict=True):
            self._note(found, genes.width, stage.width)
            if len(stage.groups) != len(genes.groups):
                raise self._foreign(f"a stage has {len(stage.groups)} groups")
            for group, spec in zip(stage.groups, genes.groups, strict=True):
                self._note(found, spec.depth, group.depth)
                if group.block != spec.block or group.genes != (spec.names if group.layers else ()):
                    raise self._foreign(f"{spec.prefix} has other blocks or genes")
                for layer, own in zip(group.layers, spec.layers, strict=False):
                    for gene, value in zip(own, layer, strict=True):
                        self._note(found, gene, value)
        return found

    def _note(self, found: dict[str, int], gene: Gene, value: int) -> None:
        if value not in gene.choices:
            raise self._foreign(f"{gene.name} is {value}, not one of {list(gene.choices)}")
        if found.setdefault(gene.name, value) != value:
            raise self._foreign(f"{gene.name} is {found[gene.name]} and {value} in blocks that share it")

    def _foreign(self, why: str) -> SpaceError:
        return SpaceError(f"the subnet is not in space {self.name}: {why}", code="foreign-subnet")

    def __contains__(self, subnet: object) -> bool:
        if not isinstance(subnet, Subnet):
            return False
        try:
            self.values(subnet)
        except SpaceError:
            return False
        return True

    def largest(self) -> Subnet:
        """The subnet with the largest value of every gene."""
        return self.assemble(lambda gene: gene.choices[-1])

    def smallest(self) -> Subnet:
        """The subnet with the smallest value of every gene."""
        return self.assemble(lambda gene: gene.choices[0])

    def sample(self, rng: Generator) -> Subnet:
        """A random subnet: every gene in use is drawn uniformly, as in the training of supernets."""
        return self._draw(lambda gene: any_of(gene, rng))

    def sample_evenly(self, rng: Generator) -> Subnet:
        """A random subnet, every subnet being equally likely: depths with more variants come more often."""
        variants = {group.depth: depth_variants(group) for stage in self.layout for group in stage.groups}
        return self._draw(
            lambda gene: weighted(gene, variants[gene], rng) if gene in variants else any_of(gene, rng)
        )

    def mutate(self, subnet: Subnet, rng: Generator, probability: float | None = None) -> Subnet:
        """`subnet` with each gene changed with `probability` (default: one gene on average)."""
        values = self.values(subnet)
        rate = 1 / max(1, len(self.genes)) if probability is None else probability

        def pick(gene: Gene) -> int:
            if gene.name not in values:
                return any_of(gene, rng)
            old = values[gene.name]
            return other_than(old, gene, rng) if rng.random() < rate else old

        return self._draw(pick)

    def crossover(self, first: Subnet, second: Subnet, rng: Generator) -> Subnet:
        """A subnet that takes each gene from one of its two parents, or from the one that has it."""
        ours, theirs = self.values(first), self.values(second)

        def pick(gene: Gene) -> int:
            options = tuple(values[gene.name] for values in (ours, theirs) if gene.name in values)
            return any_of(Gene(gene.name, options), rng)

        return self._draw(pick)

    def _draw(self, pick: Pick) -> Subnet:
        """Assemble with a random `pick`, asking once per gene."""
        drawn: dict[str, int] = {}

        def once(gene: Gene) -> int:
            if gene.name not in drawn:
                drawn[gene.name] = pick(gene)
            return drawn[gene.name]

        return self.assemble(once)

    def encode(self, subnet: Subnet) -> tuple[int, ...]:
        """For each of `genes` the index of its choice; 0 for genes that `subnet` does not use."""
        values = self.values(subnet)
        return tuple(
            gene.choices.index(values[gene.name]) if gene.name in values else 0 for gene in self.genes
        )

    def decode(self, vector: Sequence[int]) -> Subnet:
        """The subnet of a vector of indices. What stands at genes that it does not use is ignored."""
        if len(vector) != len(self.genes):
            raise SpaceError(
                f"a vector of space {self.name} has {len(self.genes)} numbers, not {len(vector)}",
                code="bad-vector",
            )
        values: dict[str, int] = {}
        for gene, index in zip(self.genes, vector, strict=True):
            if not 0 <= index < len(gene.choices):
                raise SpaceError(
                    f"gene {gene.name} has {len(gene.choices)} choices; {index} is not the index of one",
                    code="bad-vector",
                )
            values[gene.name] = gene.choices[int(index)]
        return self.assemble(lambda gene: values.get(gene.name, gene.choices[0]))

    def size(self) -> int:
        """The number of subnets, exactly."""
        single = prod(len(gene.choices) for gene in (self.resolution_gene, self.stem_gene, self.head_gene))
        return single * prod(
            len(stage.width.choices) * prod(sum(depth_variants(group)) for group in stage.groups)
            for stage in self.layout
        )

    def restrict(
        self,
        *,
        cnn_only: bool = False,
        hybrid: bool = False,
        genes: Mapping[str, Sequence[int]] | None = None,
    ) -> Space:
        """The subspace without transformers (`cnn_only`), or with some in each stage that may have them (`hybrid`).

        `genes` narrows genes by name, for example ``{"resolution": [192], "s4.vit.depth": [0, 1]}``; for a
        `per_layer` group the name goes without the number of the block. Subnets of the result are subnets of
        this space.
        """
        from h4hc.search.narrow import narrowed

        return narrowed(self, cnn_only, hybrid, genes or {})

    def adapted(self, *, classes: int | None = None, channels: int | None = None) -> Space:
        """This space for another number of classes or input channels."""
        changes = {"classes": classes, "channels": channels}
        given = {key: value for key, value in changes.items() if value is not None}
        return space_from({**self.model_dump(by_alias=True), **given})

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Space:
        return self  # nothing in it changes

    def __getstate__(self) -> dict[Any, Any]:
        """What pickle takes along: not the blocks written so far."""
        state = super().__getstate__()
        fields = type(self).model_fields
        return {**state, "__dict__": {key: value for key, value in vars(self).items() if key in fields}}

    @cached_property
    def sections(self) -> dict[SectionKey, Section]:
        """Blocks written so far; they repeat from subnet to subnet."""
        return {}

    @cached_property
    def encoded(self) -> dict[int, tuple[Section, bytes]]:
        """Blocks emitted so far, by the identity of their operations."""
        return {}

    def program(self, subnet: Subnet) -> Program:
        """The operations of `subnet`. Raises SpaceError if it is not of this space."""
        from h4hc.search.network import program

        return program(self, subnet)

    def macs(self, subnet: Subnet) -> int:
        """Multiply-accumulates of `subnet` for one sample."""
        return self.program(subnet).macs

    def parameters(self, subnet: Subnet) -> int:
        """Weights of `subnet` as deployed (see `Program.parameters`)."""
        return self.program(subnet).parameters


def space_names() -> list[str]:
    """The spaces that ship with h4hc."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def load_space(name_or_path: str | Path) -> Space:
    """A shipped space by name, or one from a YAML file. Raises SpaceError with one line per problem."""
    text = str(name_or_path)
    if isinstance(name_or_path, str) and text in space_names():
        return read_space(FOLDER / f"{text}.yaml")
    path = Path(name_or_path)
    if path.suffix not in (".yaml", ".yml", ".json") and len(path.parts) == 1:
        raise SpaceError(
            f"there is no space called {text}",
            code="unknown-space",
            hint=f"{nearest(text, space_names(), 'spaces')}; or give the path of a space file",
        )
    return read_space(path)


def read_space(path: Path) -> Space:
    """The space in a YAML file."""
    try:
        return space_from(read_yaml(path))
    except TargetError as error:
        raise SpaceError(str(error), code="bad-space") from None
    except SpaceError as error:
        raise SpaceError(f"{path}: {error}", code=error.code) from None


def space_from(data: Mapping[str, Any]) -> Space:
    """The space described by plain data."""
    try:
        return Space.model_validate(data)
    except ValidationError as error:
        raise SpaceError("; ".join(problem_lines(error, Space)[:3]), code="bad-space") from None
