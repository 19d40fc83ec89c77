"""One AXI master that streams weights into the rings of its columns."""

from math import gcd

from amaranth.hdl import Module, Signal
from amaranth.lib import data, fifo, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import bits_for

from hw import tokens
from hw.config import AcceleratorConfig
from hw.memory.axi import AXI4ReadSignature
from hw.memory.burst_reader import BEATS_WIDTH, BurstReader
from hw.memory.gearbox import Gearbox


def port_job(config: AcceleratorConfig) -> data.StructLayout:
    """One GEMM's weights for one port: ``beats`` from ``address``; the last beat has ``last_bytes`` bytes of weights."""
    return data.StructLayout(
        {
            "address": config.address_width,
            "beats": BEATS_WIDTH,
            "last_bytes": bits_for(config.axi_bytes),
            "k_words": bits_for(config.weight_words),
            "column_tiles": 16,
        }
    )


class WeightPort(wiring.Component):
    """Reads regions of weights and writes them to the rings, as far as the rings have room.

    A column tile starts when the ring has k_words free words; they are taken at once. Reading runs ahead of the rings by
    the reader's FIFO. One beat or one word per cycle, whichever takes longer; no gap between tiles or jobs.

    Members:
        job: stream of `port_job`; ``queue_depth`` jobs may be read but not yet written.
        axi: AXI4 read master.
        write: `tokens.weight_write`, a register.
        tile_done: pulse with the last write of a column tile.
        release: words given back, 0 for none.
        abort, idle, error, beat_accepted: as `BurstReader`.
        busy: a job is in work.
    """

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        super().__init__(
            {
                "job": In(stream.Signature(port_job(config))),
                "axi": Out(AXI4ReadSignature(config.address_width, config.axi_bytes)),
                "write": Out(tokens.weight_write(config)),
                "tile_done": Out(1),
                "release": In(bits_for(config.weight_words)),
                "abort": In(1),
                "idle": Out(1),
                "error": Out(1),
                "busy": Out(1),
                "beat_accepted": Out(1),
            }
        )
