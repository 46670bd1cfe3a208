from __future__ import annotations

from pathlib import Path

import pytest

from h4hc.ir.compilation import Compilation
from tests.bundle.bundle_builder import EXAMPLE_DEVICES, compile_by_hand, example_model, written


@pytest.fixture(scope="session")
def example() -> Compilation:
    return compile_by_hand(example_model(), EXAMPLE_DEVICES)


@pytest.fixture(scope="session")
def example_bundle(example: Compilation, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle to read from; tests that change one write their own."""
    return written(example, tmp_path_factory.mktemp("example") / "build")
