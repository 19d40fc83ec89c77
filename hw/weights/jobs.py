"""What the weight side is asked for, and what it asks its ports for."""

from amaranth.lib import data
from amaranth.utils import bits_for

from hw.config import AcceleratorConfig
from hw.memory.burst_reader import BEATS_WIDTH


def weight_job(config: AcceleratorConfig) -> data.StructLayout:
    """One GEMM's weights: absolute ``address`` of port 0's region, aligned to a beat; ``k_words`` from 1 to
    ``weight_words``; ``column_tiles`` at least 1; ``repeats``, at least 1: how often the regions are streamed. Port m's region
    follows port m - 1's."""
    return data.StructLayout(
        {"address": config.address_width, "k_words": bits_for(config.weight_words), "column_tiles": 16, "repeats": 16}
    )


def port_job(config: AcceleratorConfig) -> data.StructLayout:
    """One pass over one port's region: ``beats`` from ``address``; the last beat has ``last_bytes`` bytes of weights."""
    return data.StructLayout(
        {
            "address": config.address_width,
            "beats": BEATS_WIDTH,
            "last_bytes": bits_for(config.axi_bytes),
            "k_words": bits_for(config.weight_words),
            "column_tiles": 16,
        }
    )
