"""Makes the toy device a kind that targets may name."""

from __future__ import annotations

import pytest

from h4hc.backends import base


@pytest.fixture(autouse=True)
def toy_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(base.BUILT_IN, "toy", "profile_toy:Toy")
