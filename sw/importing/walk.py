"""Walks the ATen graph of an exported network and finds the plain ViT in it, whatever its modules are called."""

import inspect
import operator
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from hw.errors import InputError
from sw.graph.float_network import FloatNetwork
from sw.importing import arithmetic, layers
from sw.importing.export import ExportedGraph, export
from sw.importing.folding import folded
from sw.importing.values import Map, Unsupported, Value, whole

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.fx import Node


class ImportedGraph:
    """A torch module's graph, exported once: `fold` gives the plain ViT in it, again and again while its parameters change."""

    def __init__(self, module: "nn.Module", image_shape: tuple[int, int, int]) -> None:
        """Export; see `import_network` for arguments and errors."""
        import torch

        self._module, self._image_shape = module, image_shape
        with torch.no_grad():
            self._exported = export(module, image_shape)

    def fold(self) -> FloatNetwork:
        """Fold the parameters as they are now; where gradients are recorded, they reach the module's parameters.

        Raises:
            InputError: as `import_network`.
        """
        import torch

        state = self._exported.state(self._module)
        if not torch.is_grad_enabled():
            state = {name: value.detach() for name, value in state.items()}
        return _Walk(self._exported, self._image_shape, state).run()


def import_network(module: "nn.Module", image_shape: tuple[int, int, int] | None = None) -> FloatNetwork:
    """Import a torch module through `torch.export` as a folded plain ViT.

    Args:
        module: a network that answers images [n, channels, height, width] with logits [n, classes]; its parameters are left
            alone. On the meta device only the shapes of the result mean anything.
        image_shape: channels, height and width; None for what the module itself says (`module_image_shape`).

    Raises:
        InputError: an operation that the accelerator does not run; the message names the operation, the module that it is
            in, and what would be right.
    """
    import torch

    with torch.no_grad():
        return ImportedGraph(module, image_shape or module_image_shape(module)).fold()


def module_image_shape(vit: "nn.Module") -> tuple[int, int, int]:
    """Return channels, height and width of a network's images: its ``patch_embed.img_size``, or else timm's configuration."""
    from torch import nn

    channels = next((part.in_channels for part in vit.modules() if isinstance(part, nn.Conv2d)), 3)
    size = getattr(getattr(vit, "patch_embed", None), "img_size", None) or vit.pretrained_cfg["input_size"][1:]
    return channels, int(size[0]), int(size[1])


class _Walk:
    """Gives every node of a graph its value: a constant tensor, or a `Value`."""

    def __init__(self, exported: ExportedGraph, image_shape: tuple[int, int, int], state: "dict[str, Tensor]") -> None:
        """Take a graph of one image, and its parameters, buffers and constants by name."""
        self._exported = exported
        self._state = state
        self._picture = whole(Map((), image_shape), (1, *image_shape))
        self._values: dict[Node, Any] = {}

    def run(self) -> FloatNetwork:
        """Walk to the output; return the network.

        Raises:
            InputError: an operation does not fit.
        """
        names = self._exported.names
        for node in self._exported.graph.nodes:
            if node.op == "placeholder":
                self._values[node] = self._state[names[node.name]] if node.name in names else self._picture
                continue
            try:
                if node.op == "output":
                    output = node.args[0]
                    answer = layers.answer(self._values.get(output[0]) if len(output) == 1 else None)
                    return folded(answer, self._picture.source.size)  # type: ignore[arg-type]
                self._values[node] = self._apply(node)
            except Unsupported as problem:
                what = "" if node.op == "output" else f" operation {node.target} at {_where(node)}"
                raise InputError(f"Network{what} does not run on the accelerator: {problem}") from None
        raise AssertionError("a graph ends with its output")

    def _apply(self, node: "Node") -> Any:
        import torch
        from torch.fx import map_arg

        target = node.target
        args, kwargs = (map_arg(part, self._values.__getitem__) for part in (node.args, node.kwargs))
        leaves = torch.utils._pytree.tree_leaves((args, kwargs))
        if not any(isinstance(leaf, Value) for leaf in leaves):
            return target(*args, **kwargs)
        if target is operator.getitem:
            return args[0][args[1]]
        if not isinstance(target, torch._ops.OpOverload):  # such as torch.cond
            raise Unsupported(_PLAIN)
        name = target.overloadpacket.__name__
        if name.endswith("_") and node.args[0] in self._values:  # in place: later readers of the argument see the result
            name = name.rstrip("_")
            target = getattr(getattr(torch.ops.aten, name), target._overloadname)
            result = self._compute(name, target, args, kwargs)
            self._values[node.args[0]] = result
            return result
        return self._compute(name, target, args, kwargs)

    def _compute(self, name: str, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        import torch

        first = args[0]
        if name in _UNCHANGED:
            return first
        asked = [part.dtype if name == "type_as" else part for part in (*args[1:], *kwargs.values())]
        if any(isinstance(part, torch.dtype) and not part.is_floating_point for part in asked):
            raise Unsupported("numbers must stay floats: a cast to integers would round them")
        if name in ("to", "_to_copy", "type_as", "float"):
            return first  # float32 throughout, or the machine's own precision where a network would lower it
        if name in _LAYOUT and isinstance(first, Value):
            moved = target(first.places, *args[1:], **kwargs)
            if isinstance(moved, torch.Tensor):
                return Value(first.source, moved)
            return [Value(first.source, places) for places in moved]
        if name in _HANDLERS:
            return _call(_HANDLERS[name], args, kwargs)
        pointwise = torch.Tag.pointwise in target.tags or name in _UNTAGGED_POINTWISE
        if pointwise and isinstance(first, Value) and not any(isinstance(part, Value | torch.Tensor) for part in args[1:]):
            return arithmetic.elementwise(lambda x: target(x, *args[1:], **kwargs), first)
        raise Unsupported(_HINTS.get(name, _PLAIN))


_HANDLERS: dict[str, Callable[..., Value]] = {
    function.__name__: function
    for function in (
        layers.conv2d, layers.batch_norm, layers.cat, layers.layer_norm, layers.linear, layers.matmul, layers.softmax,
        layers.scaled_dot_product_attention, layers.dropout, layers.stack,
        arithmetic.mul, arithmetic.div, arithmetic.add, arithmetic.sub, arithmetic.neg,
    )
}  # fmt: skip
"""By the names of ATen operations."""

_LAYOUT = frozenset(
    (
        "reshape", "view", "_unsafe_view", "flatten", "unflatten", "transpose", "permute", "squeeze", "unsqueeze", "unbind",
        "chunk", "split", "split_with_sizes", "select", "slice", "narrow", "expand", "movedim", "t", "numpy_T", "swapaxes", "tile",
    )
)  # fmt: skip
"""Operations that only move numbers, executed on the places."""

_UNCHANGED = frozenset(["contiguous", "clone", "detach", "alias", "lift_fresh_copy", "detach_", "_assert_tensor_metadata"])
"""Operations that return their first argument."""

_UNTAGGED_POINTWISE = frozenset(["hardswish", "log_sigmoid"])
"""Functions of each number that torch does not tag as pointwise."""

_PLAIN = (
    "a plain ViT has convolutions, class tokens, positions, LayerNorm, attention, MLPs with a function of each number, and a "
    "linear head on the class token"
)
_HINTS = {
    "mean": "a network must answer from its class token, not from a mean of tokens",
    "index": "an attention must have no position bias on its scores",
}
"""What would be right in place of operations that are often met."""


def _call(handler: Callable[..., Value], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Value:
    """The handler's result; what it takes as a `Value` must be one, and no constant."""
    signature = inspect.signature(handler)
    for name, given in signature.bind(*args, **kwargs).arguments.items():
        if signature.parameters[name].annotation is Value and not isinstance(given, Value):
            raise Unsupported(f"its {name} must come from the image's tokens, not from parameters alone")
    return handler(*args, **kwargs)


def _where(node: "Node") -> str:
    """Path of the module that a node comes from, such as ``blocks.3.attn``."""
    stack = node.meta.get("nn_module_stack")
    path = list(stack.values())[-1][0] if stack else ""
    return path or "the top level"
