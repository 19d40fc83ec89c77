"""Makes timm VisionTransformers, and refuses those that are not plain ViTs."""

from typing import Any

from hw.errors import InputError


def import_timm() -> Any:
    """Return the timm module, imported so that it works beside a CPU-only torch."""
    from sw.torchvision_compat import ensure_torchvision

    ensure_torchvision()
    import timm

    return timm


def create_from_arguments(arguments: dict[str, Any]) -> Any:
    """Return ``timm.models.vision_transformer.VisionTransformer(**arguments)``."""
    import_timm()
    from timm.models.vision_transformer import VisionTransformer

    return VisionTransformer(**arguments)


def create_plain(name: str, device: str = "cpu") -> Any:
    """Return the timm model of that name with timm's initial weights.

    A model that timm defines without a classifier gets one of 1,000 classes; missing QKV biases become zeros.

    Args:
        name: a timm name, without pretrained weights.
        device: ``meta`` for the shapes alone.

    Raises:
        InputError: timm does not know the name, or the model has a part that the accelerator does not run; the part
            is named.
    """
    import torch
    from torch import nn

    timm = import_timm()
    if not timm.is_model(name):
        raise InputError(f"Network must be fmnist_vit_tiny, a timm name or 'vit:dim=24,depth=2,...', not {name!r}")
    try:
        vit = timm.create_model(name, pretrained=False, device=torch.device(device))
    except TypeError:  # an architecture whose constructor takes no device is no VisionTransformer
        raise InputError(f"Network {name!r} must be a plain ViT: its model class must be VisionTransformer") from None
    if isinstance(getattr(vit, "head", None), nn.Identity) and hasattr(vit, "reset_classifier"):
        vit.reset_classifier(1000)
        vit.head.to(device)
    _refuse_unless_plain(name, vit)
    for block in vit.blocks:
        if block.attn.qkv.bias is None:
            block.attn.qkv.bias = nn.Parameter(torch.zeros(3 * vit.embed_dim, device=device))
    return vit


def _refuse_unless_plain(name: str, vit: Any) -> None:
    """Raise InputError naming the first part of ``vit`` that the accelerator does not run."""
    from timm.models.vision_transformer import VisionTransformer

    if type(vit) is not VisionTransformer:
        raise InputError(
            f"Network {name!r} must be a plain ViT: its model class must be VisionTransformer, not {type(vit).__name__}"
        )
    problem = _first_problem(vit)
    for index, block in enumerate(vit.blocks):
        found = _first_block_problem(block) if problem is None else None
        problem = f"block {index}: {found}" if found else problem
    if problem is not None:
        raise InputError(f"Network {name!r} must be a plain ViT: {problem}")


def _first_problem(vit: Any) -> str | None:
    from timm.layers import PatchEmbed
    from torch import nn

    embed = vit.patch_embed
    checks = (
        (vit.cls_token is not None, "it has no class token"),
        (vit.num_prefix_tokens <= 1, "it has register tokens"),
        (vit.pos_embed is not None, "it has no learned position embeddings"),
        (vit.attn_pool is None and vit.global_pool == "token", f"it pools by {vit.global_pool!r}, not 'token'"),
        (isinstance(vit.norm_pre, nn.Identity), "it has a norm before its blocks (norm_pre)"),
        (isinstance(vit.norm, nn.LayerNorm), f"its final norm is {type(vit.norm).__name__}, not LayerNorm"),
        (isinstance(vit.fc_norm, nn.Identity), "it has a norm after pooling (fc_norm)"),
        (isinstance(vit.head, nn.Linear), f"its head is {type(vit.head).__name__}, not Linear"),
        (type(embed) is PatchEmbed, f"its patch embedding is {type(embed).__name__}, not PatchEmbed"),
        (isinstance(getattr(embed, "norm", None), nn.Identity), "its patch embedding has a norm"),
        (getattr(getattr(embed, "proj", None), "bias", None) is not None, "its patch embedding has no bias"),
        (len(set(getattr(embed, "patch_size", ()))) == 1, "its patches are not square"),
    )
    return next((problem for holds, problem in checks if not holds), None)


def _first_block_problem(block: Any) -> str | None:
    from timm.layers import LayerScale, Mlp
    from timm.models.vision_transformer import Attention, Block
    from torch import nn

    if type(block) is not Block:
        return f"it is {type(block).__name__}, not Block"
    attention, mlp, absent = block.attn, block.mlp, nn.Identity
    norms = (getattr(attention, part, absent()) for part in ("q_norm", "k_norm"))
    if type(attention) is not Attention:
        return f"its attention is {type(attention).__name__}, not Attention"
    if type(mlp) is not Mlp:
        return f"its MLP is {type(mlp).__name__}, not Mlp"
    checks = (
        (isinstance(block.norm1, nn.LayerNorm), f"norm1 is {type(block.norm1).__name__}, not LayerNorm"),
        (isinstance(block.norm2, nn.LayerNorm), f"norm2 is {type(block.norm2).__name__}, not LayerNorm"),
        (all(isinstance(norm, absent) for norm in norms), "it normalises q and k (qk_norm)"),
        (isinstance(getattr(attention, "norm", absent()), absent), "its attention has a norm before the projection"),
        (attention.proj.bias is not None and mlp.fc1.bias is not None, "it has no biases (proj_bias)"),
        (isinstance(mlp.norm, absent), "its MLP has a norm"),
        (type(mlp.act).__name__ in ("GELU", "GELUTanh"), f"its activation is {type(mlp.act).__name__}, not GELU"),
        (isinstance(block.ls1, (absent, LayerScale)), f"its scale is {type(block.ls1).__name__}, not LayerScale"),
        (isinstance(block.ls2, (absent, LayerScale)), f"its scale is {type(block.ls2).__name__}, not LayerScale"),
    )
    return next((problem for holds, problem in checks if not holds), None)
