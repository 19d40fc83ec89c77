"""The shipped LV-ViTs' weights, `benchmarks/lv_vit/`: float16, of an effort only the tensors that differ from its whole ViT's.

An effort's stem stays its whole ViT's, and the attentions that its path skips have learned nothing: they need not ship again.
"""

from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.result import ROOT
from hw.files import read_json

if TYPE_CHECKING:
    from torch import Tensor, nn

    from sw.graph.path_vit import PathVit

SHIPPED = ROOT / "benchmarks" / "lv_vit"
FIGURES = SHIPPED / "training.json"
"""Of each seed, written by `lv_vit_training.py`: data digest, redundancy of each encoder, and a record of each network."""
MODEL = "fmnist_lvvit"
WHOLE = "whole"
"""The network that every effort of its seed was fine-tuned from."""
BASELINE = 16
"""The effort that keeps every attention: the whole ViT after the efforts' fine-tuning."""


def effort_name(effort: int) -> str:
    """The name of an effort's weights."""
    return f"effort{effort:02d}"


def shipped_paths() -> dict[int, dict[int, tuple[int, ...]]]:
    """Encoders whose attention is kept, by seed and rising effort."""
    figures = read_json(FIGURES)
    return {
        int(seed.removeprefix("seed")): {
            len(network["kept"]): tuple(network["kept"])
            for network in sorted((network for name, network in entry["networks"].items() if name != WHOLE),
                                  key=lambda network: len(network["kept"]))
        }
        for seed, entry in figures.items()
    }  # fmt: skip


def untrained(seed: int = 0) -> "nn.Module":
    """A module with the networks' shape."""
    from sw.networks.network import parse_network, untrained_network

    return untrained_network(parse_network(MODEL), seed)


def load_network(seed: int, name: str, kept: Iterable[int] | None) -> "PathVit":
    """A shipped network, fp32, in eval mode; ``kept`` None keeps all attentions."""
    from sw.graph.path import Path
    from sw.graph.path_vit import PathVit

    vit = untrained()
    tensors = dict(_file(seed, WHOLE))
    if name != WHOLE:
        tensors |= _file(seed, name)
    vit.load_state_dict({key: value.float() if value.is_floating_point() else value for key, value in tensors.items()})
    return PathVit(vit, None if kept is None else Path.keeping(kept, len(vit.blocks))).eval()


def save_network(network: "PathVit", seed: int, name: str) -> None:
    """Ship a network; the whole ViT of its seed must have been shipped before an effort."""
    import torch

    from sw.networks.checkpoint import save_tensors

    tensors = {key: value.half() if value.is_floating_point() else value for key, value in network.vit.state_dict().items()}
    if name != WHOLE:
        whole = _file(seed, WHOLE)
        tensors = {key: value for key, value in tensors.items() if not torch.equal(value, whole[key])}
    path = _path(seed, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_tensors(path, tensors)


def _path(seed: int, name: str) -> Path:
    return SHIPPED / f"seed{seed}" / f"{name}.safetensors"


@cache
def _file(seed: int, name: str) -> "dict[str, Tensor]":
    from sw.networks.checkpoint import load_tensors

    return load_tensors(_path(seed, name))
