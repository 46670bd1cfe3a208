"""From a study to one network for firmware: choose a candidate, write its model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from h4hc.backends import load_target
from h4hc.backends.template import is_template, load_template
from h4hc.errors import InfeasibleError, OptionError, Shortage, StudyError
from h4hc.ir.quantity import UNITS, format_quantity
from h4hc.search.study.export import choose, networks_of, trained_networks
from h4hc.search.study.measures import COMPILED, SCORE, Catalogue, Constraint, Measure

if TYPE_CHECKING:
    from h4hc.ir.target import Target
    from h4hc.search.export import Written
    from h4hc.search.study.record import Evaluation
    from h4hc.search.study.study import Reading


@dataclass(frozen=True, slots=True)
class Pick:
    """A candidate, and the target that it is to be compiled for."""

    evaluation: Evaluation
    target: Target


def pick(
    reading: Reading, limits: Sequence[str], target: str | None = None, subnet: str | None = None
) -> Pick:
    """The best candidate of the front that meets `limits` (such as ``latency<=20ms``), or the `subnet` with that id.

    The best is the one with the highest score; in a study without scores, the one with the least first objective.
    `target` names one of the study's, if it has several. Raises OptionError, StudyError, or InfeasibleError if no
    candidate meets the limits.
    """
    name = _target_name(reading, target)
    if subnet is not None:
        if limits:
            raise OptionError(
                "--subnet leaves nothing to choose", code="option", hint="drop the limits, or --subnet"
            )
        (chosen,) = choose(reading, [subnet])
    else:
        front = reading.front()
        if not front:
            raise StudyError(
                f"{reading.path}: no candidate meets all limits yet",
                code="no-candidate", hint="search on, or widen the limits",
            )  # fmt: skip
        chosen = _best(reading, front, _limits(reading, limits, name))
    return Pick(chosen, _target(reading, chosen, name))


def _target_name(reading: Reading, given: str | None) -> str:
    if given is None and len(reading.targets) == 1:
        return reading.targets[0]
    if given not in reading.targets:
        what = "has several targets" if given is None else f"has no target {given!r}"
        raise OptionError(
            f"{reading.path}: {what}",
            code="option",
            hint=f"choose one with --target: {', '.join(reading.targets)}",
        )
    return given


def _limits(reading: Reading, texts: Sequence[str], target: str) -> tuple[Constraint, ...]:
    """The constraints in `texts`, on the measures of `target` where the study has several."""
    found = []
    catalogue = Catalogue({name: _any_target(reading, name) for name in reading.targets}, _extra(reading))
    for limit in catalogue.constraints(texts):
        if "@" not in limit.measure or limit.measure.endswith(f"@{target}"):
            found.append(limit)
    return tuple(found)


def _extra(reading: Reading) -> dict[str, str]:
    known = reading.evaluations[0].measures if reading.evaluations else {}
    return {"area_mm2": "count"} if "area_mm2" in known else {}


def _any_target(reading: Reading, name: str) -> Target:
    return _target(reading, reading.evaluations[0], name) if reading.evaluations else load_target(name)


def _best(reading: Reading, front: Sequence[Evaluation], limits: Sequence[Constraint]) -> Evaluation:
    fitting = [e for e in front if all(_meets(e, limit) for limit in limits)]
    if not fitting:
        raise _too_tight(reading, front, limits)
    first = next((m for m in reading.objectives if m.name == SCORE), reading.objectives[0])
    return min(fitting, key=lambda e: (_rank(e, first), [_rank(e, m) for m in reading.objectives], e.number))


def _rank(evaluation: Evaluation, measure: Measure) -> float:
    value = evaluation.value(measure.name)
    if value is None:
        return float("inf")
    return -value if measure.maximised else value


def _meets(evaluation: Evaluation, limit: Constraint) -> bool:
    value = evaluation.value(limit.measure)
    return value is not None and not limit.violation(value)


def _too_tight(
    reading: Reading, front: Sequence[Evaluation], limits: Sequence[Constraint]
) -> InfeasibleError:
    """What the front offers for the first limit that nothing meets."""
    tight = next((limit for limit in limits if not any(_meets(e, limit) for e in front)), limits[0])
    values = [value for e in front if (value := e.value(tight.measure)) is not None]
    best = (min if tight.upper else max)(values) if values else float("nan")
    return InfeasibleError(
        f"{reading.path}: no candidate of the front meets {', '.join(limit.text for limit in limits)}",
        code="no-candidate",
        hint=f"the {'least' if tight.upper else 'largest'} {tight.measure} on the front is "
        f"{_shown(tight.measure, best)}: widen the limit, or search on",
        shortage=Shortage(tight.measure, best, tight.limit, "SI", ("limit", "study")),
    )


def _shown(measure: str, value: float) -> str:
    dimension = COMPILED.get(measure.partition("@")[0], "")
    return format_quantity(value, dimension) if dimension in UNITS else f"{value:.4g}"


def _target(reading: Reading, chosen: Evaluation, name: str) -> Target:
    """The target called `name` as the study had it: from its template, with the candidate's hardware."""
    text = dict(zip(reading.targets, reading.config.targets, strict=True))[name]
    if not is_template(text):
        return load_target(text)
    template = load_template(Path(text))
    return template.build(chosen.vector[-len(template.genes) :])


def write_pick(
    reading: Reading, chosen: Evaluation, path: Path, tell: Callable[[str], None], seed: int = 0
) -> tuple[Written, bool]:
    """Write the model of a candidate, and whether its weights are trained.

    They are those that the study scored it with; if the study has no supernet, random ones.
    """
    from h4hc.search.export import random_network, write_model

    networks = networks_of(reading)
    subnet = networks.subnet(chosen.vector[: len(networks.genes)])
    trained = trained_networks(reading, tell)
    network = random_network(networks.space, subnet, seed) if trained is None else trained(subnet)
    return write_model(path, networks.space, subnet, network), trained is not None
