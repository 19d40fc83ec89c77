"""The ATen graph of a torch module. Modules of one architecture share it: exporting takes a second, whatever the parameters are."""

import hashlib
import io
import pickle
import warnings
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hw.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.fx import Graph

_MOST_KEPT = 8


@dataclass(frozen=True)
class ExportedGraph:
    """A graph of one image, and where its values come from.

    Attributes:
        graph: of ATen operations.
        names: of parameters, buffers and constants, by the graph's placeholders; the image is the placeholder without one.
        constants: tensors of the module that are neither parameters nor buffers, by name.
    """

    graph: "Graph"
    names: dict[str, str]
    constants: "dict[str, Tensor]"

    def state(self, module: "nn.Module") -> "dict[str, Tensor]":
        """A module's tensors by name, as they are now; it is the exported module or another of its architecture."""
        parts = (module.named_buffers(remove_duplicate=False), module.named_parameters(remove_duplicate=False))
        return self.constants | {name: tensor for part in parts for name, tensor in part}


_kept: OrderedDict[bytes, ExportedGraph] = OrderedDict()


def export(module: "nn.Module", image_shape: tuple[int, int, int]) -> ExportedGraph:
    """Export a module in eval mode through `torch.export`, or find the graph of one that differs in its parameters' values alone.

    Args:
        module: answers images [n, *image_shape]; left as it is.
        image_shape: channels, height and width.

    Raises:
        InputError: torch cannot export it.
    """
    training = [part for part in module.modules() if part.training]
    module.eval()
    try:
        key = _architecture(module, image_shape)
        found = _kept.get(key) if key else None
        if found is None:
            found = _exported(module, image_shape)
        if key:
            _kept[key] = found
            _kept.move_to_end(key)
            while len(_kept) > _MOST_KEPT:
                _kept.popitem(last=False)
        return found
    finally:
        for part in training:
            part.training = True


def _exported(module: "nn.Module", image_shape: tuple[int, int, int]) -> ExportedGraph:
    import torch

    device = next((parameter.device for parameter in module.parameters()), torch.device("cpu"))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.export.export(module, (torch.zeros(1, *image_shape, device=device),), strict=False)
    except Exception as error:  # whatever a network's own code raises, and torch.export's refusals
        reason, shape = " ".join(str(error).split())[:200], "x".join(map(str, image_shape))
        kind = type(error).__name__
        raise InputError(f"Network must go through torch.export with an image of {shape}: {kind}: {reason}") from None
    signature = program.graph_signature
    lifted = signature.inputs_to_lifted_tensor_constants
    return ExportedGraph(
        program.graph,
        {**signature.inputs_to_parameters, **signature.inputs_to_buffers, **lifted},
        {name: program.constants[name].detach().clone() for name in lifted.values()},
    )


def _architecture(module: "nn.Module", image_shape: tuple[int, int, int]) -> bytes | None:
    """Digest of all that a module's graph follows from: the module pickled without its parameters' and buffers' values.

    None for a module that cannot be pickled.
    """
    import torch

    # A tensor that stands in two places is written with its first name in both, so that tied parameters differ from equal ones.
    parts = (module.named_parameters(), module.named_buffers())
    names = {id(tensor): name for part in parts for name, tensor in part}

    class Pickler(pickle.Pickler):
        def persistent_id(self, value: Any) -> Any:
            if isinstance(value, torch.Tensor) and id(value) in names:
                kind = (tuple(value.shape), value.stride(), str(value.dtype), str(value.device), value.requires_grad)
                return names[id(value)], *kind
            return None

    pickled = io.BytesIO()
    try:
        Pickler(pickled).dump((image_shape, module))
    except Exception:  # whatever a network's parts raise that cannot be pickled
        return None
    return hashlib.sha256(pickled.getvalue()).digest()
