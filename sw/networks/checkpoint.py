"""Files of weights and of training runs: safetensors for tensors, JSON for the rest, never pickle."""

import argparse
import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hw.errors import InputError
from hw.files import read_json, write_file, write_json

if TYPE_CHECKING:
    from torch import Tensor


def save_tensors(path: Path, tensors: "Mapping[str, Tensor]", metadata: Mapping[str, str] | None = None) -> None:
    """Write named torch tensors to a safetensors file, atomically."""
    from safetensors.torch import save

    contiguous = {name: value.detach().contiguous().clone() for name, value in tensors.items()}
    write_file(path, save(contiguous, dict(metadata) if metadata else None))


def load_tensors(path: Path) -> "dict[str, Tensor]":
    """Return the named torch tensors of a safetensors file.

    Raises:
        InputError: the file is missing, truncated or no safetensors file.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        return load(path.read_bytes())
    except FileNotFoundError:
        raise InputError(f"Checkpoint file {path} must exist") from None
    except IsADirectoryError:
        raise InputError(f"Checkpoint file {path} must be a file, not a directory") from None
    except (SafetensorError, ValueError, KeyError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"Checkpoint file {path} must be a whole safetensors file: {reason}") from None


_STATE_KEYS = ("state_dict", "model", "model_state_dict", "net", "network")
"""Where published checkpoints keep their state dict."""
_LISTED = 8


def load_state_dict(path: Path) -> "dict[str, Tensor]":
    """Return the named torch tensors of a state dict that ``torch.save`` wrote, such as a published ``.pth``.

    Nothing but tensors, plain containers and argparse's namespaces is read from it (``weights_only``). A training checkpoint's
    state dict is found by the usual names.

    Raises:
        InputError: the file is no such file, or holds something else.
    """
    import pickle

    import torch

    named = f"Checkpoint file {path}"
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, OSError) as error:
        if foreign := re.search(r"GLOBAL (\S+) was not an allowed global", str(error)):
            raise InputError(f"{named} must hold tensors and plain values, not a {foreign[1]}: save its state dict alone") from None
        reason = " ".join(str(error).split())[:160]
        raise InputError(f"{named} must be a safetensors file or a torch state dict: {reason}") from None
    while isinstance(loaded, dict) and (inner := next((key for key in _STATE_KEYS if isinstance(loaded.get(key), dict)), None)):
        loaded = loaded[inner]
    if not isinstance(loaded, dict):
        raise InputError(f"{named} must hold a state dict of named tensors, not a {type(loaded).__name__}")
    if not all(isinstance(name, str) and isinstance(value, torch.Tensor) for name, value in loaded.items()):
        keys = ", ".join(map(repr, list(loaded)[:_LISTED])) + (", ..." if len(loaded) > _LISTED else "")
        raise InputError(f"{named} must hold a state dict, at its top or as {', '.join(_STATE_KEYS)}; its top holds {keys}")
    return loaded


def save_run_state(directory: Path, tensors: "Mapping[str, Tensor]", values: Mapping[str, Any]) -> None:
    """Write the state of a training run, replacing the one before.

    The tensors go to ``state-<step>.safetensors``; then ``state.json``, which names that file and its SHA-256, is
    replaced, and only then the older tensors go. Whenever the run is killed, ``state.json`` names a whole file.
    """
    name = f"state-{int(values['step']):08d}.safetensors"
    save_tensors(directory / name, tensors)
    digest = hashlib.sha256((directory / name).read_bytes()).hexdigest()
    write_json(directory / "state.json", {"tensors": name, "sha256": digest, **values})
    for old in directory.glob("state-*"):
        if old.name != name:
            old.unlink()


def load_run_state(directory: Path) -> "tuple[dict[str, Tensor], dict[str, Any]] | None":
    """Return the tensors and values of the run in ``directory``, or None where it holds none.

    Raises:
        InputError: the state is there and not whole.
    """
    if not (directory / "state.json").is_file():
        return None
    values = read_json(directory / "state.json")
    if not isinstance(values, dict) or not isinstance(values.get("tensors"), str) or "step" not in values:
        raise InputError(f"Checkpoint file {directory / 'state.json'} must name its tensors and step")
    path = directory / values.pop("tensors")
    if not path.is_file():
        raise InputError(f"Checkpoint file {path} must exist, for {directory / 'state.json'} names it")
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != values.pop("sha256", None):
        raise InputError(f"Checkpoint file {path} must have the SHA-256 that state.json names, not {found[:12]}...")
    return load_tensors(path), values
