"""A study put together from its configuration, and read back from its file."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from h4hc import __version__
from h4hc.backends import load_target
from h4hc.errors import OptionError, StudyError
from h4hc.search.space import load_space, space_from
from h4hc.search.study.config import StudyConfig, parse_config
from h4hc.search.study.engines import check_engine
from h4hc.search.study.evaluate import Setup
from h4hc.search.study.front import front_of
from h4hc.search.study.genome import FixedSystems, Genome, Networks, SpaceNetworks, Systems, user_networks
from h4hc.search.study.measures import SCORE, Catalogue, Constraint, Measure
from h4hc.search.study.population import read_population
from h4hc.search.study.record import OK, Evaluation
from h4hc.search.study.store import Store

if TYPE_CHECKING:
    from h4hc.search.scores import ScoreSource
    from h4hc.search.space import Space
    from h4hc.search.study.genome import Vector

_PACKAGES = ("numpy", "onnx", "pymoo", "moocore", "scikit-learn")


@dataclass(frozen=True)
class Study:
    """All that a search works with."""

    config: StudyConfig
    genome: Genome
    objectives: tuple[Measure, ...]
    constraints: tuple[Constraint, ...]
    source: ScoreSource | None
    start: tuple[Vector, ...] = ()

    @cached_property
    def setup(self) -> Setup:
        """What workers need to evaluate a candidate."""
        return Setup(self.genome, self.config.compile.options(), self.constraints)

    def meta(self) -> dict[str, str]:
        """What the study's file says about it."""
        networks = self.genome.networks
        space = networks.space if isinstance(networks, SpaceNetworks) else None
        return {
            "config": json.dumps(self.config.document(), sort_keys=True),
            "config_digest": self.config.digest,
            "constraints": json.dumps([[c.measure, c.upper, c.limit, c.text] for c in self.constraints]),
            "genes": json.dumps([[gene.name, len(gene.choices)] for gene in self.genome.genes]),
            "hardware": json.dumps({k: list(v) for k, v in self.genome.systems.choices.items()}),
            "objectives": json.dumps([[m.name, m.dimension] for m in self.objectives]),
            "score_context": self.source.context if self.source else "",
            "score_name": self.source.name if self.source else "",
            "space": "" if space is None else json.dumps(space.model_dump(mode="json", by_alias=True)),
            "space_digest": networks.digest,
            "start": json.dumps(self.start),
            "targets": json.dumps(list(self.genome.systems.names)),
            "targets_digest": self.genome.systems.digest,
        }


def versions() -> dict[str, str]:
    """The versions of all that decides what comes out."""
    import platform

    found = {"h4hc": __version__, "python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def open_study(config: StudyConfig, device: str = "cpu", start: Sequence[Vector] | None = None) -> Study:
    """The study that `config` describes. Raises H4hcError for whatever does not fit together.

    `start`: candidates to try first, if they are known already.
    """
    check_engine(config.engine)
    names = [Path(text).stem if Path(text).suffix else text for text in config.targets]
    if len(set(names)) < len(names):
        raise OptionError(
            "two targets have the same name", code="targets", hint="name each once; rename files that clash"
        )
    systems = _systems(config, names)
    networks = _networks(config)
    return assemble(config, networks, systems, _source(config, networks, device), start)


def assemble(
    config: StudyConfig,
    networks: Networks,
    systems: Systems,
    source: ScoreSource | None,
    start: Sequence[Vector] | None = None,
) -> Study:
    """A study of these networks on these systems; the rest is as `config` says."""
    genome = Genome(networks, systems)
    targets = systems.targets(tuple(0 for _ in systems.genes))
    catalogue = Catalogue(targets, dict.fromkeys(systems.facts(tuple(0 for _ in systems.genes)), "count"))
    objectives = catalogue.objectives(config.objectives)
    constraints = catalogue.constraints((*config.constraints, *systems.limits))
    wanted = {measure.name for measure in objectives} | {limit.measure for limit in constraints}
    if SCORE in wanted and source is None:
        raise OptionError(
            "accuracy is an objective or a limit, but nothing says how accurate subnets are",
            code="no-accuracy", hint="give --accuracy, for example supernet:FOLDER or proxy:nn-degree",
        )  # fmt: skip
    if SCORE not in wanted:
        source = None
    if start is None:
        start = read_population(Path(config.start), genome) if config.start else ()
    return Study(config, genome, objectives, constraints, source, tuple(start))


def _systems(config: StudyConfig, names: Sequence[str]) -> Systems:
    """The targets of the study: fixed ones, or those of a template."""
    from h4hc.backends.template import is_template, load_template

    if not any(is_template(text) for text in config.targets):
        return FixedSystems(dict(zip(names, map(load_target, config.targets), strict=True)))
    if len(config.targets) > 1:
        raise OptionError(
            "a target template stands alone",
            code="targets",
            hint="search the other targets in a study of their own",
        )
    from h4hc.search.study.systems import TemplateSystems

    return TemplateSystems(load_template(Path(config.targets[0])))


def _networks(config: StudyConfig) -> Networks:
    if config.supernet is not None:
        if config.space is not None:
            raise OptionError("a study has a space or a supernet, not both", code="option", hint="drop one")
        return user_networks(config.supernet, config.seed)
    return SpaceNetworks(_space(config))


def _space(config: StudyConfig) -> Space:
    """The space to search, with the classes and channels of what it is scored by."""
    made = None
    if config.accuracy is not None:
        from h4hc.search.scores.sources import source_space

        made = source_space(config.accuracy)
    if config.space is None:
        if made is None:
            raise OptionError(
                "nothing says which space to search",
                code="no-space", hint="give --space, for example h4h-imagenet, or --accuracy supernet:FOLDER",
            )  # fmt: skip
        return made
    space = load_space(config.space)
    return space if made is None else space.adapted(classes=made.classes, channels=made.channels)


def _source(config: StudyConfig, networks: Networks, device: str) -> ScoreSource | None:
    if config.accuracy is None:
        return None
    if not isinstance(networks, SpaceNetworks):
        raise OptionError(
            "sources of accuracy need a search space, not a user's supernet",
            code="option", hint="drop --accuracy, or search a space",
        )  # fmt: skip
    from h4hc.search.scores.sources import open_source

    return open_source(config.accuracy, networks.space, seed=config.seed, device=device)


def check_same(study: Study, store: Store) -> None:
    """Raise StudyError if `study` is not what the file at `store` was begun with."""
    known, now = store.meta(), study.meta()
    for key, what, hint in (
        ("space_digest", "the search space", "restore it, or "),
        ("targets_digest", "a target, or a profile that it names,", "restore it, or "),
        ("config_digest", "the configuration", ""),
    ):
        if known.get(key) != now[key]:
            raise StudyError(
                f"{store.path}: {what} is not what the study began with",
                code="study-changed", hint=f"{hint}begin another study",
            )  # fmt: skip
    if lasting(known.get("score_context", "")) != lasting(now["score_context"]):
        raise StudyError(
            f"{store.path}: {now['score_name'] or 'the source of accuracies'} gives other accuracies than those the"
            " study began with",
            code="study-changed", hint="was it trained further? give it the old checkpoint, or begin another study",
        )  # fmt: skip


def lasting(context: str) -> list[str]:
    """The context of a score without what moves it by rounding at most: device and version of PyTorch."""
    return [part for part in context.split() if not part.startswith(("torch=", "on="))]


@dataclass(frozen=True)
class Reading:
    """A study as its file tells it, without anything else: no checkpoint, no target."""

    path: Path
    config: StudyConfig
    objectives: tuple[Measure, ...]
    constraints: tuple[Constraint, ...]
    targets: tuple[str, ...]
    genes: Mapping[str, int]  # how many choices each has
    evaluations: tuple[Evaluation, ...]
    generations: tuple[Mapping[str, Any], ...]
    sessions: tuple[tuple[int, dict[str, str], str, float], ...]
    meta: Mapping[str, str]

    @property
    def settled(self) -> bool:
        """Whether predicted accuracies on the front were measured."""
        return any(e.verified is not None for e in self.evaluations)

    @property
    def seconds(self) -> float:
        """How long the runs took together."""
        return sum(seconds for _, _, _, seconds in self.sessions)

    @cached_property
    def networks(self) -> SpaceNetworks | None:
        """What decodes the genes; None for a user's supernet."""
        text = self.meta.get("space", "")
        return SpaceNetworks(space_from(json.loads(text))) if text else None

    def hardware(self, vector: Vector) -> dict[str, Any]:
        """The values of the hardware genes of a vector; none if the targets are fixed."""
        choices = json.loads(self.meta.get("hardware", "{}"))
        indices = vector[len(vector) - len(choices) :]
        return {gene: values[index] for (gene, values), index in zip(choices.items(), indices, strict=True)}

    def front(self) -> list[Evaluation]:
        """The best candidates: of those whose accuracy was measured, once the predicted ones have been.

        A measured accuracy may break a limit that the predicted one met.
        """
        candidates: Sequence[Evaluation] = self.evaluations
        if self.settled:
            limits = [limit for limit in self.constraints if limit.measure == SCORE]
            candidates = [
                e
                for e in candidates
                if e.verified is not None and not any(limit.violation(e.verified) for limit in limits)
            ]
        return front_of(candidates, self.objectives)

    def counts(self) -> dict[str, int]:
        """How many candidates have each status."""
        found: dict[str, int] = {OK: 0}
        for evaluation in self.evaluations:
            found[evaluation.status] = found.get(evaluation.status, 0) + 1
        return found


def stored_config(store: Store) -> tuple[StudyConfig, tuple[Vector, ...]]:
    """The configuration that the file holds, and the candidates to try first. Raises StudyError."""
    meta = store.meta()
    with _complete(store.path):
        config = parse_config(json.loads(meta["config"]), str(store.path))
        return config, tuple(tuple(vector) for vector in json.loads(meta["start"]))


@contextmanager
def _complete(path: Path) -> Iterator[None]:
    """What is missing in the file as an error for people."""
    try:
        yield
    except (KeyError, ValueError, TypeError) as error:
        raise StudyError(
            f"{path}: is damaged: what it says about the study is incomplete ({error})",
            code="study-damaged", hint="take a copy, or begin another study",
        ) from None  # fmt: skip


def read_study(path: Path) -> Reading:
    """The study in the file at `path`, also while it runs. Raises StudyError."""
    with Store(path) as store:
        meta = store.meta()
        config, _ = stored_config(store)
        with _complete(path):
            objectives = tuple(Measure(name, dimension) for name, dimension in json.loads(meta["objectives"]))
            if not objectives:
                raise ValueError("it has no objectives")
            return Reading(
                path,
                config,
                objectives,
                tuple(Constraint(*values) for values in json.loads(meta["constraints"])),
                tuple(json.loads(meta["targets"])),
                dict(json.loads(meta["genes"])),
                tuple(store.evaluations()),
                tuple(store.generations()),
                tuple(store.sessions()),
                meta,
            )
