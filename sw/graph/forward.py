"""The forward pass of a float network, with an observer that sees every tensor that the machine has, too."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from sw.graph.branch import TOKENS, BranchKind
from sw.graph.float_network import FloatAttention, FloatMlp, FloatNetwork
from sw.graph.path import Path, path_or_full

if TYPE_CHECKING:
    from torch import Tensor


class Observer:
    """Sees the tensors of a pass in the order of computation; what its methods return takes the tensor's place.

    Names are ``stem0`` ..., ``embedding``, ``encoder0.`` with ``norm1``, ``query``, ``key``, ``value``, ``scores``, ``context``,
    ``attention``, ``norm2``, ``fc1``, ``mlp``, then ``norm`` and ``logits``. ``embedding``, ``attention`` and ``mlp`` are the
    residual stream; ``fc1`` is the activation's output.
    """

    def tensor(self, name: str, values: "Tensor") -> "Tensor":
        """See tokens [n, tokens, channels], a map [n, channels, height, width] or scores [n, heads, tokens, tokens]."""
        return values

    def activated(self, name: str, before: "Tensor", activation: Callable[["Tensor"], "Tensor"]) -> "Tensor":
        """See the input of the activation whose output is the tensor of that name."""
        return self.tensor(name, activation(before))


def forward(network: FloatNetwork, images: "Tensor", path: Path | None = None, observer: Observer | None = None) -> "Tensor":
    """Compute a float network on one path.

    Args:
        network: the network.
        images: float32 [n, channels, height, width].
        path: None for the full one.
        observer: sees the tensors, and may replace them.

    Returns:
        Logits [n, classes].

    Raises:
        InputError: the path is of another depth.
    """
    path, see = path_or_full(path, network.depth), observer or Observer()
    maps = images
    for index, convolution in enumerate(network.stem):
        maps = see.activated(f"stem{index}", convolution.convolved(maps), convolution.activation)
    tokens = network.positions.expand(len(images), -1, -1).clone()
    tokens[:, network.prefix_tokens :] += network.embedding(network.patches(maps))
    streams = {TOKENS: see.tensor("embedding", tokens)}
    for index, encoder in enumerate(network.encoders):
        for branch in encoder.branches:
            if path.runs(index, branch.kind):
                name = f"encoder{index}"
                added = _BRANCHES[branch.kind](network, branch, streams[branch.reads], name, see)
                streams[branch.adds_to] = see.tensor(f"{name}.{branch.kind}", streams[branch.adds_to] + added)
    final = see.tensor("norm", normalized(streams[TOKENS][:, : network.head_tokens], network.epsilon))
    return see.tensor("logits", network.head(final.flatten(1))[:, None])[:, 0]


def normalized(tokens: "Tensor", epsilon: float) -> "Tensor":
    """Return (x - mean) / sqrt(variance + epsilon) over the last axis of a float tensor."""
    centred = tokens - tokens.mean(-1, keepdim=True)
    return centred / (centred.square().mean(-1, keepdim=True) + epsilon).sqrt()


def _attention(network: FloatNetwork, branch: FloatAttention, tokens: "Tensor", name: str, see: Observer) -> "Tensor":
    rows = see.tensor(f"{name}.norm1", normalized(tokens, branch.epsilon))
    parts = {"query": branch.query(rows), "key": branch.key(rows), "value": branch.value(rows)}
    named = (see.tensor(f"{name}.{part}", values) for part, values in parts.items())
    query, key, value = (part.unflatten(-1, (network.heads, -1)).transpose(1, 2) for part in named)  # [n, heads, tokens, head_dim]
    scores = see.tensor(f"{name}.scores", query @ key.transpose(-2, -1) / query.shape[-1] ** 0.5)
    context = see.tensor(f"{name}.context", (scores.softmax(-1) @ value).transpose(1, 2).flatten(2))
    return branch.projection(context)


def _mlp(network: FloatNetwork, branch: FloatMlp, tokens: "Tensor", name: str, see: Observer) -> "Tensor":
    rows = see.tensor(f"{name}.norm2", normalized(tokens, branch.epsilon))
    return branch.fc2(see.activated(f"{name}.fc1", branch.fc1(rows), branch.activation))


_BRANCHES: dict[BranchKind, Callable[..., "Tensor"]] = {BranchKind.ATTENTION: _attention, BranchKind.MLP: _mlp}
"""What a branch of each kind adds to its stream."""
