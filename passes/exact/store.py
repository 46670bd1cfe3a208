"""Answers kept between runs: one SQLite file in the user's cache folder.

The folder is `H4HC_CACHE_DIR`, else ``$XDG_CACHE_HOME/h4hc``, else ``~/.cache/h4hc``. An empty `H4HC_CACHE_DIR` keeps
nothing. SQLite makes writes atomic and lets several processes share the file; each row carries a checksum, and
a file that is damaged is replaced. Whatever goes wrong with the file, the answers are computed anew.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

MOST_ROWS = 200_000  # of about 500 bytes
_TIMEOUT = 2.0  # seconds to wait for another process
_CREATE = "CREATE TABLE IF NOT EXISTS answers (key TEXT PRIMARY KEY, text TEXT, digest TEXT) WITHOUT ROWID"


def cache_folder() -> Path | None:
    """Where answers are kept; None if nowhere."""
    chosen = os.environ.get("H4HC_CACHE_DIR")
    if chosen is not None:
        return Path(chosen) if chosen else None
    base = os.environ.get("XDG_CACHE_HOME")
    try:
        return (Path(base) if base else Path.home() / ".cache") / "h4hc"
    except RuntimeError:  # no home folder
        return None


class Store:
    """A dictionary of JSON values on disk. New entries are written by `save`."""

    def __init__(self, folder: Path | None) -> None:
        self.path = None if folder is None else folder / "exact.sqlite"
        self.new: dict[str, str] = {}

    def read(self, keys: list[str]) -> dict[str, Any]:
        """The values known for `keys`."""
        if self.path is None or not os.path.isfile(self.path):  # also where the folder may not be looked into
            return {}
        found: dict[str, Any] = {}
        try:
            with _Connection(self.path) as connection:
                for at in range(0, len(keys), 500):
                    part = keys[at : at + 500]
                    marks = ",".join("?" * len(part))
                    query = f"SELECT key, text, digest FROM answers WHERE key IN ({marks})"
                    for key, text, digest in connection.execute(query, part):
                        if digest == _digest(key, text):
                            found[key] = json.loads(text)
        except (sqlite3.Error, OSError, ValueError, TypeError):
            return {}
        return found

    def add(self, key: str, value: Any) -> None:
        """Keep `value`."""
        self.new[key] = json.dumps(value)

    def save(self) -> None:
        """Write what was added."""
        if self.path is None or not self.new:
            return
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            _write(self.path, self.new)
        except sqlite3.OperationalError:
            return  # locked or not writable
        except sqlite3.DatabaseError:
            self._replace()
        except OSError:
            return
        self.new = {}

    def _replace(self) -> None:
        """Begin a new file in place of one that is no database."""
        if self.path is None:
            return
        try:
            self.path.unlink(missing_ok=True)
            _write(self.path, self.new)
        except (sqlite3.Error, OSError):
            return


class _Connection:
    """A connection that is closed on leaving, with its transaction committed if all went well."""

    def __init__(self, path: Path) -> None:
        self.connection = sqlite3.connect(path, timeout=_TIMEOUT)

    def __enter__(self) -> sqlite3.Connection:
        return self.connection

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            self.connection.commit()
        self.connection.close()


def _write(path: Path, rows: Mapping[str, str]) -> None:
    with _Connection(path) as connection:
        connection.execute(_CREATE)
        ((count,),) = connection.execute("SELECT COUNT(*) FROM answers")
        if count + len(rows) > MOST_ROWS:
            connection.execute("DELETE FROM answers")
        connection.executemany(
            "INSERT OR REPLACE INTO answers VALUES (?, ?, ?)",
            [(key, text, _digest(key, text)) for key, text in rows.items()],
        )


def _digest(key: str, text: str) -> str:
    return sha256(f"{key}\n{text}".encode()).hexdigest()[:16]
