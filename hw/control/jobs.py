"""What the parts of the sequencer hand to each other."""

from amaranth.lib import data

from hw import isa
from hw.config import AcceleratorConfig


def settings(config: AcceleratorConfig) -> data.StructLayout:
    """What the host writes into the registers before it starts a batch."""
    return data.StructLayout(
        {
            "program_base": config.address_width,
            "program_bytes": 32,
            "descriptor_count": 32,
            "image_base": config.address_width,
            "image_stride": 32,
            "image_count": 32,
            "result_base": config.address_width,
            "result_stride": 32,
            "path_mask_low": 32,
            "path_mask_high": 32,
            "threshold": 32,
            "deadline": 32,
        }
    )


def compute_entry(config: AcceleratorConfig) -> data.StructLayout:
    """A checked descriptor on its way to the issue."""
    return data.StructLayout({"index": 16, "descriptor": isa.DESCRIPTOR_BYTES * 8})


def error_report() -> data.StructLayout:
    """An `isa.Error` and the index of the descriptor that it belongs to; no error while ``code`` is 0."""
    return data.StructLayout({"code": 8, "index": 16})


def stall_causes() -> data.StructLayout:
    """Why the issue does nothing in a cycle; at most one bit is set."""
    return data.StructLayout({"weights": 1, "parameters": 1, "table": 1, "drain": 1, "norm": 1, "load": 1, "fetch": 1})
