"""Files of integer networks: safetensors, everything but the arrays as JSON in the metadata."""

import json
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hw.errors import InputError
from hw.files import write_file
from sw.graph.integer_network import (
    IntegerAttention,
    IntegerConvolution,
    IntegerEncoder,
    IntegerLinear,
    IntegerMlp,
    IntegerNetwork,
    IntegerNorm,
)

FORMAT = "pivot-integer-network-2"


def save_integer_network(network: IntegerNetwork, path: Path) -> None:
    """Write one safetensors file, whose metadata holds everything but the arrays as JSON, atomically."""
    from safetensors.numpy import save

    arrays: dict[str, np.ndarray] = {}
    structure = _flatten(network, "network", arrays)
    metadata = {"format": FORMAT, "network": json.dumps(structure)}
    write_file(path, save(arrays, metadata))


def load_integer_network(path: Path) -> IntegerNetwork:
    """Read what `save_integer_network` wrote.

    Raises:
        InputError: the file is missing, corrupt or something else.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="numpy") as file:
            metadata = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except FileNotFoundError:
        raise InputError(f"Integer network file {path} must exist") from None
    except (SafetensorError, OSError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"Integer network file {path} must be a whole safetensors file: {reason}") from None
    if metadata.get("format") != FORMAT:
        raise InputError(f"Integer network file {path} must have format {FORMAT}, not {metadata.get('format', 'none')}")
    return _rebuild(json.loads(metadata["network"]), arrays)


_CLASSES = {
    kind.__name__: kind
    for kind in (IntegerLinear, IntegerConvolution, IntegerNorm, IntegerAttention, IntegerMlp, IntegerEncoder, IntegerNetwork)
}


def _flatten(value: Any, name: str, arrays: dict[str, np.ndarray]) -> Any:
    if isinstance(value, np.ndarray):
        arrays[name] = np.ascontiguousarray(value)
        return {"array": name}
    if is_dataclass(value):
        members = {field.name: _flatten(getattr(value, field.name), f"{name}.{field.name}", arrays) for field in fields(value)}
        return {"class": type(value).__name__, **members}
    if isinstance(value, tuple):
        return [_flatten(item, f"{name}.{index}", arrays) for index, item in enumerate(value)]
    return value


def _rebuild(value: Any, arrays: dict[str, np.ndarray]) -> Any:
    if isinstance(value, list):
        return tuple(_rebuild(item, arrays) for item in value)
    if isinstance(value, dict) and "array" in value:
        return arrays[value["array"]]
    if isinstance(value, dict):
        members = {name: _rebuild(item, arrays) for name, item in value.items() if name != "class"}
        return _CLASSES[value["class"]](**members)
    return value
