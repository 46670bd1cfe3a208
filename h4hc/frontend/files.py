"""Open regular files, and nothing else."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import BinaryIO


def open_regular(path: Path, *, follow: bool) -> tuple[BinaryIO, os.stat_result] | None:
    """The opened file and its status, or None if `path` is no regular file (a folder, FIFO or device).

    `follow` allows a symbolic link as the last part. What was opened is looked at, not what the
    path named before, so that nobody can swap the file between check and use. Raises OSError.
    """
    # Opening a FIFO without a writer would wait for one.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    if not follow:
        flags |= getattr(os, "O_NOFOLLOW", 0)
    descriptor = os.open(path, flags)
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        return None
    return os.fdopen(descriptor, "rb"), status
