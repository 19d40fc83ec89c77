"""The weight side: ports, columns' memories, and the credits between them."""

from amaranth.hdl import Module, Signal
from amaranth.lib import data, fifo, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import bits_for

from hw import tokens
from hw.config import AcceleratorConfig
from hw.memory.axi import AXI4ReadSignature


def weight_job(config: AcceleratorConfig) -> data.StructLayout:
    """One GEMM's weights: absolute ``address`` of port 0's region, aligned to a beat; ``k_words`` from 1 to
    ``weight_words``; ``column_tiles`` at least 1. Port m's region follows port m - 1's."""
    return data.StructLayout(
        {"address": config.address_width, "k_words": bits_for(config.weight_words), "column_tiles": 16}
    )


class WeightSide(wiring.Component):
    """Streams weights into the columns' rings and serves weight tokens from the rings or the K and V buffer.

    Members:
        job: stream of `weight_job`; a queue of ``queue_depth``, then every port's own.
        axi: ``weight_ports`` AXI4 read masters.
        token: `tokens.weight_token`, in the cycle of row 0's feed token.
        weights: ``cols`` words of ``depth`` bytes, element j at byte j; columns 2p and 2p + 1 hold pair p's words
            FEED_LATENCY + p cycles after the token, meaningless without one.
        collected: `tokens.collector_word` from the bottom row; in its memory for tokens from the next cycle on.
        tile_available: every port holds a column tile that was not taken.
        tile_take: pulse, with or before the first weight token of a column tile; only while `tile_available`.
        release: pulse with the last weight token of a column tile's last row tile.
        release_words: with `release`: the tile's k_words.
        abort, idle, error: as `BurstReader`, of all ports.
        busy: a job is in the queue or in work.
        beats_accepted: beats that the ports accept in this cycle.
    """

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        ports = config.weight_ports
        super().__init__(
            {
                "job": In(stream.Signature(weight_job(config))),
                "axi": Out(AXI4ReadSignature(config.address_width, config.axi_bytes)).array(ports),
                "token": In(tokens.weight_token(config)),
                "weights": Out(8 * config.depth).array(config.cols),
                "collected": In(tokens.collector_word(config)),
                "tile_available": Out(1),
                "tile_take": In(1),
                "release": In(1),
                "release_words": In(bits_for(config.weight_words)),
                "abort": In(1),
                "idle": Out(1),
                "error": Out(1),
                "busy": Out(1),
                "beats_accepted": Out(range(ports + 1)),
            }
        )
