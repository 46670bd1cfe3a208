"""Writing a folder all at once: it appears complete, or not at all."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

from h4hc.bundle.manifest import MANIFEST, read_manifest
from h4hc.errors import OptionError


def replace_folder(folder: Path, fill: Callable[[Path], None]) -> None:
    """Let `fill` write into a new folder, then put that in `folder`'s place.

    What stands there is replaced only if it is an empty folder or an untouched bundle.
    """
    # A link to a folder stays a link: what it points to is replaced.
    try:
        folder = Path(os.path.realpath(folder))
        check_replaceable(folder)
    except OSError as error:
        raise _unwritable(folder, error) from error
    created = _create_parents(folder)
    try:
        temporary = folder.with_name(f".{folder.name[:64]}.{secrets.token_hex(4)}")
        temporary.mkdir()
    except OSError as error:
        _remove_empty(created)
        raise _unwritable(folder, error) from error
    try:
        fill(temporary)
        _swap(temporary, folder)
    except BaseException as error:
        shutil.rmtree(temporary, ignore_errors=True)
        _remove_empty(created)
        if isinstance(error, OSError):
            raise _unwritable(folder, error) from error
        raise


def check_replaceable(folder: Path) -> None:
    """Raise OptionError if writing a bundle to `folder` would destroy anything but a bundle."""
    if not os.path.lexists(folder):
        return
    if not folder.is_dir():
        raise OptionError(
            f"{folder}: is a file", code="output-not-a-folder", hint="choose another output folder"
        )
    if Path.cwd().is_relative_to(folder):
        # Replacing it would leave this process, and the shell that started it, nowhere.
        raise OptionError(
            f"{folder}: is the working folder or above it",
            code="output-in-use",
            hint="name a folder inside it",
        )
    manifest = read_manifest(folder)
    if manifest is None:
        if any(folder.iterdir()):
            raise OptionError(
                f"{folder}: the folder is not empty and is not a bundle",
                code="output-not-a-bundle",
                hint="choose a new or empty output folder",
            )
        return
    present = {
        Path(parent, name).relative_to(folder).as_posix()
        for parent, folders, names in os.walk(folder)
        for name in (*names, *(f for f in folders if Path(parent, f).is_symlink()))
    }
    foreign = sorted(present - set(manifest["files"]) - {MANIFEST})
    if foreign:
        raise OptionError(
            f"{folder}: the bundle holds files that h4hc did not write: {_some(foreign)}",
            code="output-has-other-files",
            hint="move them away or choose another output folder",
        )


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _swap(temporary: Path, folder: Path) -> None:
    """Put `temporary` in the place of `folder`; a failure leaves the old folder where it was."""
    if not folder.exists():
        temporary.rename(folder)
        return
    old = temporary.with_name(temporary.name + ".old")
    folder.rename(old)
    try:
        temporary.rename(folder)
    except OSError:
        old.rename(folder)
        raise
    shutil.rmtree(old)


def _create_parents(folder: Path) -> list[Path]:
    """Create the missing folders above `folder`; returns them, innermost first."""
    missing = [parent for parent in folder.parents if not parent.exists()]
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        _remove_empty(missing)
        raise _unwritable(folder, error) from error
    return missing


def _remove_empty(folders: Iterable[Path]) -> None:
    for folder in folders:
        try:
            folder.rmdir()
        except OSError:
            return


def _unwritable(folder: Path, error: OSError) -> OptionError:
    return OptionError(
        f"{folder}: cannot be written: {error.strerror or error}",
        code="output-unwritable",
        hint="choose another output folder",
    )
