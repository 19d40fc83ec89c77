"""The memory of a run: every finished step is kept, so that a killed run goes on where it stopped."""

import fcntl
import json
import os
import shutil
import sqlite3
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from hw.errors import InputError
from hw.files import make_directory, writable, write_file


class RunStore:
    """Finished steps of one run: small results in SQLite, arrays in safetensors files beside it.

    A step is looked up by its name under the run's key, a digest of arguments, data and code; another key is another
    run, with a store of its own. Results survive SIGKILL: files are moved into place before the database knows them. A step
    whose file is damaged is computed again, and named on stderr. A directory is one process's until its store is closed.
    """

    def __init__(self, directory: Path, key: str):
        """Open or create the store of run ``key`` in ``directory``.

        Raises:
            InputError: another process works in the directory, it cannot be written, or its database is none.
        """
        self.path = directory / "steps" / key
        make_directory(self.path)
        with writable(directory):
            self._lock = _locked(directory)
        file = self.path / "steps.sqlite"
        self._database = sqlite3.connect(file)
        try:
            self._database.execute("CREATE TABLE IF NOT EXISTS step (name TEXT PRIMARY KEY, value TEXT, wall_s REAL)")
            self._database.commit()
        except sqlite3.OperationalError as error:
            self.close()
            raise InputError(f"{file} must be writable: {error}") from None
        except sqlite3.DatabaseError as error:
            self.close()
            raise InputError(f"{file} must be a database of finished steps; remove it to begin again: {error}") from None

    def value(self, name: str, compute: Callable[[], Any]) -> Any:
        """A step's JSON value: the stored one, or ``compute()``, which is stored."""
        row = self._database.execute("SELECT value FROM step WHERE name = ?", (name,)).fetchone()
        if row is None:
            started = time.perf_counter()
            text = json.dumps(compute())
            self._finish(name, text, time.perf_counter() - started)
        else:
            text = row[0]
        return json.loads(text)

    def arrays(self, name: str, compute: Callable[[], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
        """A step's arrays: the stored ones, or ``compute()``'s, which are stored."""
        file = self.path / f"{name}.safetensors"
        if self.known(name) and file.exists():
            try:
                return load(file.read_bytes())
            except (SafetensorError, OSError) as error:
                print(f"note: {file} is damaged ({error}): its step is computed again", file=sys.stderr)
        started = time.perf_counter()
        arrays = {key: np.ascontiguousarray(array) for key, array in compute().items()}
        write_file(file, save(arrays))
        self._finish(name, "null", time.perf_counter() - started)
        return arrays

    def scratch(self, name: str) -> Path:
        """A directory for a step's own checkpoints; `drop_scratch` removes it when the step is done."""
        path = self.path / "scratch" / name
        make_directory(path)
        return path

    def drop_scratch(self, name: str) -> None:
        """Remove a step's scratch directory."""
        shutil.rmtree(self.path / "scratch" / name, ignore_errors=True)

    def known(self, name: str) -> bool:
        """Whether a step is finished."""
        return self._database.execute("SELECT 1 FROM step WHERE name = ?", (name,)).fetchone() is not None

    @property
    def wall_s(self) -> float:
        """Seconds that the finished steps took."""
        return float(self._database.execute("SELECT COALESCE(SUM(wall_s), 0) FROM step").fetchone()[0])

    def close(self) -> None:
        """Close the database and leave the directory to others."""
        self._database.close()
        self._lock.close()

    def _finish(self, name: str, text: str, wall_s: float) -> None:
        try:
            self._database.execute("INSERT OR REPLACE INTO step VALUES (?, ?, ?)", (name, text, wall_s))
            self._database.commit()
        except sqlite3.OperationalError as error:
            raise InputError(f"{self.path / 'steps.sqlite'} must be writable: {error}") from None


def _locked(directory: Path) -> TextIO:
    """A file that says whose the directory is, locked as long as it is open; the kernel drops the lock when the process dies."""
    file = open(directory / "lock", "a+")  # noqa: SIM115 (it stays open)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        holder = file.read().strip()
        file.close()
        raise InputError(f"--out {directory} must be one search's at a time, and process {holder} works in it") from None
    file.truncate(0)
    file.write(f"{os.getpid()}\n")
    file.flush()
    return file
