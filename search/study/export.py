"""From a study to files: subnets as ONNX models, and as a population that another search can start from."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from h4hc.errors import OptionError, StudyError
from h4hc.files import write_output
from h4hc.search.study.population import population_record

if TYPE_CHECKING:
    from h4hc.search.export import Written
    from h4hc.search.study.genome import SpaceNetworks, Vector
    from h4hc.search.study.record import Evaluation
    from h4hc.search.study.study import Reading
    from h4hc.search.subnet import Subnet
    from h4hc.search.supernet import Network

POPULATION = "front.json"


def describe(reading: Reading, vector: Vector) -> Any:
    """The subnet of a vector as plain data; None for a user's supernet."""
    networks = reading.networks
    if networks is None:
        return None
    return networks.describe(networks.subnet(vector[: len(networks.genes)]))


def choose(reading: Reading, ids: Sequence[str]) -> list[Evaluation]:
    """The front, or the candidates whose ids (or beginnings of them) are given. Raises StudyError."""
    if not ids:
        return reading.front()
    found = []
    for text in ids:
        matches = [e for e in reading.evaluations if e.subnet.startswith(text)]
        if len(matches) != 1:
            number = "no candidate is" if not matches else f"{len(matches)} candidates are"
            raise StudyError(
                f"{reading.path}: {number} called {text[:40]!r}",
                code="no-candidate", hint=f"see h4hc search front {reading.path}",
            )  # fmt: skip
        found.append(matches[0])
    return found


def population_json(reading: Reading, chosen: Sequence[Evaluation]) -> bytes:
    """The candidates with all that is known of them, as JSON that ``--start`` reads."""
    record = {
        "config": reading.config.document(),
        "front": population_record(chosen, lambda vector: describe(reading, vector)),
        "versions": reading.sessions[0][1] if reading.sessions else {},
    }
    return (json.dumps(record, indent=1, sort_keys=True) + "\n").encode()


def export_models(
    reading: Reading,
    chosen: Sequence[Evaluation],
    folder: Path,
    weightless: bool,
    tell: Callable[[str], None],
) -> list[Written]:
    """A model per candidate in a new `folder`, with the weights that it was scored with, and the population.

    Without weights if `weightless`, or if the study was scored without a supernet. Raises H4hcError.
    """
    from h4hc.search.export import write_set

    networks = networks_of(reading)
    subnets = list(dict.fromkeys(networks.subnet(e.vector[: len(networks.genes)]) for e in chosen))
    if not subnets:
        raise OptionError(
            f"{reading.path}: no candidate meets all limits yet",
            code="export",
            hint="search on, or widen the limits",
        )
    weights = None if weightless else trained_networks(reading, tell)
    written = write_set(folder, networks.space, subnets, weights or (lambda _: None), external=False)
    write_output(folder / POPULATION, population_json(reading, chosen))
    return written


def networks_of(reading: Reading) -> SpaceNetworks:
    """The subnets that a study chooses from. Raises StudyError if they are a user's, which are not written here."""
    if reading.networks is None:
        raise StudyError(
            f"{reading.path}: is of a user's supernet, which writes its models itself",
            code="export", hint="call UserSpace.export with the subnet, then h4hc compile",
        )  # fmt: skip
    return reading.networks


def trained_networks(reading: Reading, tell: Callable[[str], None]) -> Callable[[Subnet], Network] | None:
    """What gives a subnet with the weights of the supernet behind the study's scores; None if there is none."""
    folder = supernet_of(reading)
    if folder is None:
        return None
    from h4hc.search.training.trained import calibrated_networks, load_trained

    trained = load_trained(folder, tell)
    return calibrated_networks(trained, trained.recipe.data, None)


def supernet_of(reading: Reading) -> Path | None:
    """The folder of the supernet behind the study's scores, also if it stands behind a predictor."""
    networks = reading.networks
    kind, _, rest = (reading.config.accuracy or "").partition(":")
    if kind == "predictor" and networks is not None:
        from h4hc.search.scores.predictor import open_predictor

        kind, _, rest = open_predictor(Path(rest), networks.space, force=True).truth.partition(":")
    return Path(rest) if kind == "supernet" else None
