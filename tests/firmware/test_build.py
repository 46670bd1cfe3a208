"""The C sources compile everywhere without a warning, need no library, and stay small."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.firmware.toolchain import EXECUTOR, HOST, SOURCES, STRICT, needed

M55 = ("-mcpu=cortex-m55", "-mthumb", "-Os")
TEXT_LIMIT = 8 * 1024
RAM_LIMIT = 512
# What a freestanding compiler may call: string.h (checked, where that is the default), its own division and atomics.
ALLOWED = re.compile(
    r"(h4hc_.*|mem(set|cpy|cmp)|__mem(set|cpy)_chk|__aeabi_.*|_GLOBAL_OFFSET_TABLE_|__stack_chk_fail)"
)


def objects(compiler: str, options: tuple[str, ...], folder: Path, files: tuple[Path, ...]) -> list[Path]:
    made = [folder / f"{file.stem}.o" for file in files]
    for file, out in zip(files, made, strict=True):
        done = subprocess.run(
            [compiler, *STRICT, *options, f"-I{SOURCES}", "-c", file, "-o", out],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    return made


@pytest.mark.parametrize("compiler", ["gcc", "clang"])
@pytest.mark.parametrize("level", ["-O0", "-O2"])
def test_host_compilers_accept_the_sources(compiler: str, level: str, tmp_path: Path) -> None:
    objects(needed(compiler), (level,), tmp_path, EXECUTOR + HOST)


def test_the_executor_calls_nothing_but_string_functions(tmp_path: Path) -> None:
    names = subprocess.run(
        ["nm", "-u", *objects(needed("cc"), ("-Os",), tmp_path, EXECUTOR)],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    for name in re.findall(r"U (\S+)", names):
        assert ALLOWED.fullmatch(name), name


def test_the_executor_fits_a_cortex_m55(tmp_path: Path) -> None:
    made = objects(needed("arm-none-eabi-gcc"), M55, tmp_path, EXECUTOR)
    table = subprocess.run(["arm-none-eabi-size", *made], capture_output=True, text=True, check=True).stdout
    sizes = [tuple(map(int, line.split()[:3])) for line in table.splitlines()[1:]]
    assert sum(text for text, _, _ in sizes) <= TEXT_LIMIT
    assert sum(data + bss for _, data, bss in sizes) == 0
    names = subprocess.run(
        ["arm-none-eabi-nm", "-u", *made], capture_output=True, text=True, check=True
    ).stdout
    for name in re.findall(r"U (\S+)", names):
        assert ALLOWED.fullmatch(name), name


def test_its_state_fits_half_a_kibibyte(tmp_path: Path) -> None:
    ram = SOURCES.parents[1] / "examples" / "firmware" / "ram.c"
    made = objects(needed("arm-none-eabi-gcc"), M55, tmp_path, (ram,))
    table = subprocess.run(
        ["arm-none-eabi-nm", "-S", "--radix=d", *made], capture_output=True, text=True, check=True
    ).stdout
    sizes = {line.split()[3]: int(line.split()[1]) for line in table.splitlines()}
    assert sizes["state"] + sizes["schedule"] + sizes["hooks"] <= RAM_LIMIT
    assert sizes["per_queue"] <= 128
