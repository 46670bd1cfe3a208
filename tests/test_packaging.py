"""What a user installs: one package, with its data, from either kind of distribution."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
_NOT_CLONED = shutil.ignore_patterns("__pycache__", "*.so")


@pytest.mark.parametrize("name", ["passes", "backends", "search"])
def test_the_top_level_folders_are_linked_into_the_package(name: str) -> None:
    link = ROOT / "h4hc" / name
    assert link.is_symlink()
    assert link.readlink() == Path("..") / name


@pytest.fixture(scope="module")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel and an sdist, built without isolation from what is installed.

    From a copy: setuptools writes into the source folder, where other tests read meanwhile, or build too.
    """
    folder = tmp_path_factory.mktemp("dist")
    built("--outdir", folder / "made", copied(folder / "source"))
    return folder / "made"


def copied(folder: Path) -> Path:
    """A copy of what a clone holds of the package."""
    folder.mkdir()
    for name in ("LICENSE", "MANIFEST.in", "README.md", "pyproject.toml", "setup.py"):
        shutil.copy(ROOT / name, folder)
    for name in ("h4hc", "passes", "backends", "search"):
        shutil.copytree(ROOT / name, folder / name, symlinks=True, ignore=_NOT_CLONED)
    return folder


def built(*arguments: object) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", *map(str, arguments)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_wheel_holds_the_package_and_its_data(distributions: Path) -> None:
    wheel = next(distributions.glob("*.whl"))
    names = set(zipfile.ZipFile(wheel).namelist())
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"h4hc"}
    for needed in (
        "h4hc/passes/fuse.py",
        "h4hc/backends/npu/backend.py",
        "h4hc/search/__init__.py",
        "h4hc/backends/targets/npu+cim.yaml",
        "h4hc/backends/presets/mram-nmc-22nm.yaml",
        "h4hc/backends/target.schema.json",
        "h4hc/firmware/schedule.schema.json",
        "h4hc/firmware/schedule.fbs",
        "h4hc/firmware/h4hc_exec.c",
        "h4hc/firmware/h4hc_format.h",
        "h4hc/firmware/host/h4hc_sim.c",
        "h4hc/bundle/report.html",
        "h4hc/bundle/report.css",
        "h4hc/py.typed",
    ):
        assert needed in names
    licences = [name for name in names if name.endswith("LICENSE")]
    assert licences


def test_the_source_distribution_builds_the_same_wheel(distributions: Path, tmp_path: Path) -> None:
    source = next(distributions.glob("*.tar.gz"))
    with tarfile.open(source) as archive:
        # Releases before 3.11.4 know no filter, later ones warn without.
        archive.extractall(tmp_path, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
    unpacked = next(tmp_path.iterdir())
    built("--wheel", "--outdir", tmp_path / "again", unpacked)

    def members(path: Path) -> set[str]:
        return {name for name in zipfile.ZipFile(path).namelist() if not name.endswith("/RECORD")}

    assert members(next((tmp_path / "again").glob("*.whl"))) == members(next(distributions.glob("*.whl")))


def test_compiling_imports_nothing_heavy() -> None:
    program = (
        "import sys, h4hc, h4hc.cli.compile, h4hc.compiler, h4hc.bundle, h4hc.frontend, h4hc.backends;"
        "heavy = {'torch', 'onnxruntime', 'onnx_graphsurgeon', 'onnx_ir', 'sympy', 'pandas', 'ortools', 'rich'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


def test_help_imports_no_command() -> None:
    program = "import sys; from h4hc.cli import main; main(['--help'], standalone_mode=False); print('onnx' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert done.stdout.strip().endswith("False")
