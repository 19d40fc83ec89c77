"""The one writer of files: each is written whole or not at all, and a place that cannot be written is one line to the user.

Files are written beside their places and then moved there, so a killed run leaves the old file or the new one.
"""

import json
import os
import secrets
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hw.errors import InputError


@contextmanager
def _writable(path: Path) -> Iterator[None]:
    """Turn an OSError into an InputError that names what could not be written."""
    try:
        yield
    except OSError as error:
        raise InputError(f"{path} must be writable: {error.strerror or error}") from None


def _bytes(content: str | bytes) -> bytes:
    return content.encode() if isinstance(content, str) else content


def make_directory(path: Path) -> None:
    """Make a directory and those above it, where they are missing.

    Raises:
        InputError: it cannot be made, or is a file.
    """
    with _writable(path):
        path.mkdir(parents=True, exist_ok=True)


def _check_kind(path: Path) -> None:
    if path.exists() and not path.is_file():
        raise InputError(f"{path} must be a file, or not exist yet")


def check_writable(*paths: Path | None) -> None:
    """Check before the work that its files can be written at the end; None is no file.

    Raises:
        InputError: one of them is something else than a file, or no file can be made in its place.
    """
    for path in (path for path in paths if path is not None):
        _check_kind(path)
        place = next(parent for parent in path.absolute().parents if parent.exists())
        with _writable(path), tempfile.TemporaryFile(dir=place):
            pass


def write_file(path: Path, content: str | bytes) -> None:
    """Write one file, whole or not at all.

    Args:
        path: the file; directories above it are made, a regular file of that name is replaced.
        content: bytes, or text, which is written as UTF-8.

    Raises:
        InputError: it cannot be written; what was there is as it was, and nothing else is left behind.
    """
    _check_kind(path)
    make_directory(path.parent)
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(4)}.tmp")
    with _writable(path):
        try:
            temporary.write_bytes(_bytes(content))
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


def write_files(directory: Path, files: Mapping[str, str | bytes]) -> None:
    """Write files in full beside their places, then move them there in order; other files of the directory stay.

    Args:
        directory: made where it is missing.
        files: text or bytes by path within the directory.

    Raises:
        InputError: the directory cannot be written.
    """
    make_directory(directory)
    with _writable(directory), tempfile.TemporaryDirectory(dir=directory, prefix=".new-") as staged:
        for name, content in files.items():
            path = Path(staged) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(_bytes(content))
        for name in files:
            (directory / name).parent.mkdir(parents=True, exist_ok=True)
            os.replace(Path(staged) / name, directory / name)


def json_text(value: Any) -> str:
    """JSON as it lies in files: indented by two spaces, with a newline at the end."""
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def write_json(path: Path, value: Any) -> None:
    """Write `json_text` of a value, whole or not at all.

    Raises:
        InputError: as for `write_file`.
    """
    write_file(path, json_text(value))


def read_json(path: Path) -> Any:
    """Value of a JSON file.

    Raises:
        InputError: the file is missing, cannot be read or is no JSON file.
    """
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        raise InputError(f"File {path} must exist") from None
    except OSError as error:
        raise InputError(f"File {path} must be readable: {error.strerror}") from None
    except ValueError as error:
        raise InputError(f"File {path} must be a JSON file: {error}") from None
