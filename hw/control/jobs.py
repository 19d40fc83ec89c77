"""What fetch hands to the units behind it: one layout per queue."""

from amaranth.lib import data

from hw import isa
from hw.config import AcceleratorConfig
from hw.tokens import index_width


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


def weight_job(config: AcceleratorConfig) -> data.StructLayout:
    """Weights of one GEMM: port m reads ``weight_port_bytes`` from ``weights + m * weight_port_bytes`` of the Program."""
    return data.StructLayout({"weights": 32, "k_words": 16, "column_tiles": 16})


def side_job(config: AcceleratorConfig) -> data.StructLayout:
    """Parameters of a GEMM, a table, or a LOAD for the side loader; exactly one of the first three bits is set.

    ``column_tiles`` belongs to parameters, ``exponential`` (the kind of the table) to a table; a LOAD uses ``image``
    (`isa.FLAG_IMAGE`) and the fields from ``base`` on, as `isa.DESCRIPTOR_FIELDS` gives them.
    """
    return data.StructLayout(
        {
            "parameters": 1,
            "table": 1,
            "load": 1,
            "exponential": 1,
            "image": 1,
            "index": 16,  # of the descriptor, for error reports
            "address": 32,
            "column_tiles": 16,
            "base": 16,
            "stride": 16,
            "first_row": 16,
            "first_row_tile": 16,
            "target": 1,
            "segment_bytes": 16,
            "segments": 16,
            "tokens_inner": 16,
            "tokens_outer": 16,
            "segment_stride": 32,
            "inner_stride": 32,
            "outer_stride": 32,
        }
    )


def compute_entry(config: AcceleratorConfig) -> data.StructLayout:
    """A checked descriptor on its way to the issue."""
    return data.StructLayout({"index": 16, "descriptor": isa.DESCRIPTOR_BYTES * 8})


def error_report() -> data.StructLayout:
    """An `isa.Error` and the index of the descriptor that it belongs to; no error while ``code`` is 0."""
    return data.StructLayout({"code": 8, "index": 16})


def record(config: AcceleratorConfig) -> data.StructLayout:
    """`isa.RECORD_FIELDS` of one image, as the result writer takes them (the reserved words are left out)."""
    return data.StructLayout(
        {"exit": 1, "entropy": 32, "gate_entropy": 32, "top1": 32, "classes": index_width(config.classes + 1), "cycles": 32}
    )
