"""Named machines."""

from hw.config import AcceleratorConfig
from hw.errors import InputError

PRESETS: dict[str, AcceleratorConfig] = {
    # Tiny, for tests: Verilates in seconds, holds the default 17-token, 96-channel network.
    "nano": AcceleratorConfig(
        rows=4, cols=4, pe_depth=4, activation_words=1024, residual_words=256, normalized_words=256, weight_words=256,
        kv_words=256, parameter_tiles=64, row_tiles=16, classes=16, clock_mhz=200,
    ),
    # For a ULX3S-85F (ECP5) with its memory on the chip; holds the default network's tensors.
    "edge": AcceleratorConfig(
        rows=4, cols=4, pe_depth=4, activation_words=1024, residual_words=256, normalized_words=256, weight_words=256,
        kv_words=256, parameter_tiles=64, row_tiles=8, classes=16, axi_bytes=8, outstanding=2, clock_mhz=25,
    ),
    # The flagship for the ZCU102 (XCZU9EG): 4,224 MAC a cycle; buffers sized for DeiT-B at 197 tokens.
    "zcu102": AcceleratorConfig(
        rows=33, cols=16, pe_depth=8, activation_words=4096, residual_words=768, normalized_words=768, weight_words=2048,
        kv_words=512, parameter_tiles=512, row_tiles=16, classes=1024, norm_elements=2, weight_ports=3, outstanding=8,
        queue_depth=16, address_width=40, clock_mhz=300,
    ),
    # PIVOT's published machine: 36 PEs of 64 multipliers, one exp a cycle; buffers sized for DeiT-S and LV-ViT-S at 197 tokens.
    "pivot": AcceleratorConfig(
        rows=36, cols=1, pe_depth=64, activation_words=512, residual_words=128, normalized_words=64, weight_words=2048,
        kv_words=512, parameter_tiles=512, row_tiles=16, classes=1024, norm_elements=2, axi_bytes=32, outstanding=8,
        queue_depth=16, address_width=40, exp_units=1, clock_mhz=200,
    ),
}  # fmt: skip


def find_preset(name: str) -> AcceleratorConfig:
    """Configuration of a preset.

    Raises:
        InputError: for an unknown name; the message lists the known ones.
    """
    if name not in PRESETS:
        raise InputError(f"preset must be one of {', '.join(PRESETS)}, not {name!r}")
    return PRESETS[name]
