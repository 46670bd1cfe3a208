"""The worked example: its Makefile from an empty folder to a timeline that is the planned one."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.firmware.toolchain import needed
from tests.verify.compiled import save_hybrid

EXAMPLE = Path(__file__).parents[2] / "examples" / "firmware"


@pytest.mark.skipif(not shutil.which("make"), reason="make is not installed")
def test_the_example_shows_the_planned_timeline(tmp_path: Path) -> None:
    needed("cc")
    # From a copy, by short paths: `make` does not take paths with blanks, which the folder of the clone may have.
    folder = shutil.copytree(EXAMPLE, tmp_path / "firmware", ignore=shutil.ignore_patterns("build"))
    model = save_hybrid(tmp_path)
    settings = [f"H4HC={shlex.quote(sys.executable)} -m h4hc", "OUT=out", f"MODEL=../{model.name}"]
    environment = os.environ | {"PYTHONPATH": str(EXAMPLE.parents[1])}
    done = subprocess.run(
        ["make", *settings], cwd=folder, capture_output=True, text=True, check=False, env=environment
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = re.findall(r"(\d+) frames? in (\d+) ticks, planned (\d+)", done.stdout)
    assert [int(frames) for frames, _, _ in found] == [1, 1, 10]
    assert all(took == planned for _, took, planned in found)
    trace = (folder / "out" / "trace.csv").read_text().splitlines()
    assert trace[0] == "task,start,end"
    assert len(trace) > 10
