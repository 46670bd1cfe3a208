"""Compilers and the C sources, for tests that build and run them."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

import pytest

SOURCES = Path(__file__).parents[2] / "h4hc" / "firmware"
HERE = Path(__file__).parent
STRICT = ("-std=c11", "-Wall", "-Wextra", "-Werror", "-pedantic")
EXECUTOR = tuple(SOURCES / f"h4hc_{name}.c" for name in ("exec", "load", "check"))
HOST = tuple(SOURCES / "host" / f"h4hc_{name}.c" for name in ("sim", "threads"))
MEMORY = ("-g", "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
RACES = ("-g", "-O1", "-fsanitize=thread")
TIMEOUT = 1200  # seconds: a program that hangs, not a slow machine


def needed(name: str) -> str:
    """The compiler `name`; skips the test where there is none."""
    if not shutil.which(name):
        pytest.skip(f"{name} is not installed")
    return name


@cache
def _steady() -> tuple[str, ...]:
    """Starts programs at the same addresses every time, where that is allowed.

    At some random addresses the sanitizers of older compilers crash, or hang (vm.mmap_rnd_bits above 28).
    """
    command = ("setarch", "-R")
    allowed = shutil.which(command[0]) and _started(*command, "true", timeout=60).returncode == 0
    return command if allowed else ()


def _started(*command: object, timeout: float) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, check=False, timeout=timeout
    )


@cache
def _works(options: tuple[str, ...]) -> bool:
    """Whether the host's compiler can link, and the machine run, programs with these options."""
    random = Path("/proc/sys/vm/mmap_rnd_bits")
    if any("sanitize" in option for option in options) and not _steady() and random.exists():
        if int(random.read_text()) > 28:
            return False
    with tempfile.TemporaryDirectory() as folder:
        source, out = Path(folder) / "probe.c", Path(folder) / "probe"
        source.write_text("int main(void) { return 0; }\n")
        built = _started("cc", *options, source, "-o", out, timeout=TIMEOUT)
        return built.returncode == 0 and _started(*_steady(), out, timeout=TIMEOUT).returncode == 0


def build(out: Path, *files: Path, options: tuple[str, ...] = MEMORY) -> Path:
    """A program for this machine from `files`."""
    needed("cc")
    if not _works(options):
        pytest.skip(f"the compiler here does not support {' '.join(options)}")
    folders = (f"-I{SOURCES}", f"-I{SOURCES / 'host'}", f"-I{out.parent}")
    done = subprocess.run(
        ["cc", *STRICT, *options, *folders, *files, "-o", out, "-lpthread"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return out


def run(program: Path, *arguments: object) -> str:
    """What `program` prints; it must succeed."""
    done = _started(*_steady(), program, *arguments, timeout=TIMEOUT)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
