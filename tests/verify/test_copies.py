"""Modes that keep weights in an array several times."""

from __future__ import annotations

import pytest

from h4hc.verify.check import check_schedule
from h4hc.verify.decode import decode
from h4hc.verify.network import Network
from h4hc.verify.queues import copies
from tests.verify.damage import Specimen
from tests.verify.damage_memory import claim_copies
from tests.verify.maker import Maker


@pytest.mark.parametrize(
    ("mode", "number"),
    [
        ("resident", 1),
        ("resident x2", 2),
        ("resident x16", 16),
        ("reload", 0),
        ("", 0),
        ("residential", 0),
        ("resident x", 0),
        ("resident x0", 0),
        ("resident x1", 0),
        ("resident x-2", 0),
        ("resident x" + "9" * 5000, 0),
    ],
)
def test_copies_are_read_from_the_mode(mode: str, number: int) -> None:
    assert copies(mode) == number


def test_two_copies_in_twice_the_room_are_valid() -> None:
    applied = 0
    for seed in range(12):
        made = Maker(seed).make()
        specimen = Specimen(made.document, made.partitioned, {}, {})
        if claim_copies(specimen, room=2):
            applied += 1
            failed = [
                c
                for c in check_schedule(decode(specimen.document), Network(made.partitioned))
                if not c.passed
            ]
            assert [(c.code, c.detail) for c in failed] == []
    assert applied
