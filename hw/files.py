"""The one writer of files: each is written whole or not at all, and a place that cannot be written is one line to the user.

Files are written beside their places and then moved there, so a killed run leaves the old file or the new one.
"""

import json
import os
import re
import secrets
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hw.errors import InputError


@contextmanager
def writable(path: Path) -> Iterator[None]:
    """Turn an OSError of what runs inside into an InputError that names what could not be written."""
    try:
        yield
    except OSError as error:
        raise InputError(f"{path} must be writable: {error.strerror or error}") from None


def _bytes(content: str | bytes) -> bytes:
    """UTF-8 of a text. Names of files in it, whatever the locale made of them, are what they are on the disk; bytes of theirs that
    are no UTF-8 become U+FFFD."""
    if isinstance(content, bytes):
        return content
    return content.encode(errors="surrogateescape").decode(errors="replace").encode()


def make_directory(path: Path) -> None:
    """Make a directory and those above it, where they are missing.

    Raises:
        InputError: it cannot be made, or is a file.
    """
    with writable(path):
        path.mkdir(parents=True, exist_ok=True)


def _check_kind(path: Path) -> None:
    with writable(path):
        if path.exists() and not path.is_file():
            raise InputError(f"{path} must be a file, or not exist yet")


def _check_place(path: Path, directory: Path) -> None:
    """Check that a file can be made in a directory, or in the nearest one above it that there is, for the sake of ``path``."""
    with writable(path):
        place = next(parent for parent in (directory, *directory.parents) if parent.exists())
        with tempfile.TemporaryFile(dir=place):
            pass


def check_writable(*paths: Path | None, inputs: Iterable[Path | str | None] = ()) -> None:
    """Check before the work that its files can be written at the end; None is no file.

    Args:
        paths: of the files.
        inputs: files and directories that the work reads.

    Raises:
        InputError: one of the files is something else, no file can be made in its place, or it is one that is read, or is written
            twice.
    """
    read = {Path(path).resolve() for path in inputs if path is not None}
    written: set[Path] = set()
    for path in (path for path in paths if path is not None):
        _check_kind(path)
        _check_place(path, path.absolute().parent)
        place = path.resolve()
        if place in written:
            raise InputError(f"{path} must be named for one output, not for two")
        if path.exists() and read & {place, *place.parents}:
            raise InputError(f"{path} must not be written, for it is read")
        written.add(place)


def check_directory(path: Path) -> None:
    """Check before the work that files can be written to a directory, which need not exist, at the end.

    Raises:
        InputError: it is a file or below one, or no file can be made in it.
    """
    with writable(path):
        if path.exists() and not path.is_dir():
            raise InputError(f"{path} must be a directory, not a file")
    _check_place(path, path.absolute())


@contextmanager
def plain_directory(directory: Path) -> Iterator[Path]:
    """A directory by a name for tools that expand variables, split at spaces or hand names to a shell: its own where that has none
    of their characters, else one by way of this process's descriptors, good for it and its children within the ``with``."""
    if re.fullmatch(r"[\w./+-]+", str(directory), re.ASCII):
        yield directory
        return
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        yield Path(f"/proc/{os.getpid()}/fd/{descriptor}")
    finally:
        os.close(descriptor)


def file_name(text: str) -> str:
    """A name for a file that says what ``text`` says: letters, digits and ``.,=+-_`` stay, ``_`` stands for the rest."""
    return re.sub(r"[^\w.,=+-]", "_", text)


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
    with writable(path):
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
    with writable(directory), tempfile.TemporaryDirectory(dir=directory, prefix=".new-") as staged:
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
