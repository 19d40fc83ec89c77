"""Reads runs of beats from an AXI4 memory in bursts, with data space reserved before each burst."""

from amaranth.hdl import Module, Signal
from amaranth.lib import data, fifo, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.config import AcceleratorConfig
from hw.memory.axi import BOUNDARY, BURST_INCR, AXI4ReadSignature

BEATS_WIDTH = 28
"""Bits of a command's number of beats, at most 2^27."""


def read_command(config: AcceleratorConfig) -> data.StructLayout:
    """``address`` in bytes, aligned to a beat, and ``beats`` from 1 to 2^27."""
    return data.StructLayout({"address": config.address_width, "beats": BEATS_WIDTH})


def read_beat(config: AcceleratorConfig) -> data.StructLayout:
    """``data`` of a beat; ``last`` marks the last beat of its command."""
    return data.StructLayout({"data": 8 * config.axi_bytes, "last": 1})


class BurstReader(wiring.Component):
    """Turns commands into INCR bursts and their data into one stream, in order.

    A burst has at most ``burst_beats`` beats and stays within 4 KiB; at most ``outstanding`` are in flight, and a burst is
    issued only when the data FIFO (``outstanding * burst_beats`` beats) has room for all of it, so ``rready`` is always 1.
    The next command's first burst may be issued in the cycle after the last burst of the one before.

    Members:
        command: stream of `read_command`.
        data: stream of `read_beat`; a beat appears 2 cycles after R at the earliest.
        axi: AXI4 read master; ``arid`` is 0. A command's first ``arvalid`` comes 2 cycles after the command.
        abort: while 1: issues no burst (one that waits for ``arready`` stays), takes and drops commands, shows no data.
            Once `idle`, a reset is safe, and needed before going on.
        idle: no burst is in flight or waits for ``arready``.
        error: pulse with each beat that answers SLVERR or DECERR; its data goes on as any other.
        beat_accepted: pulse with each beat, for counters.
    """

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        super().__init__(
            {
                "command": In(stream.Signature(read_command(config))),
                "data": Out(stream.Signature(read_beat(config))),
                "axi": Out(AXI4ReadSignature(config.address_width, config.axi_bytes)),
                "abort": In(1),
                "idle": Out(1),
                "error": Out(1),
                "beat_accepted": Out(1),
            }
        )

    def elaborate(self, platform) -> Module:
        config = self._config
        m = Module()
        capacity = config.outstanding * config.burst_beats
        address_bits = (config.axi_bytes - 1).bit_length()
        boundary_beats = BOUNDARY // config.axi_bytes

        # Of two places the FIFO's output register is one, and while it fills the other takes nothing: rready could not stay 1.
        depth = 3 if capacity == 2 else capacity
        m.submodules.beats = beats = fifo.SyncFIFOBuffered(width=read_beat(config).size, depth=depth)
        m.submodules.finals = finals = fifo.SyncFIFO(width=1, depth=config.outstanding)
        beat = data.View(read_beat(config), beats.w_data)

        # Planning: the address and beats still to be asked for.
        address = Signal(config.address_width - address_bits)
        left = Signal(BEATS_WIDTH)
        to_boundary = Signal(range(boundary_beats + 1))
        size = Signal(range(config.burst_beats + 1))
        m.d.comb += to_boundary.eq(boundary_beats - address[: (boundary_beats - 1).bit_length()])
        m.d.comb += size.eq(config.burst_beats)
        with m.If((left < config.burst_beats) & (left <= to_boundary)):
            m.d.comb += size.eq(left)
        with m.Elif(to_boundary < config.burst_beats):
            m.d.comb += size.eq(to_boundary)

        free = Signal(range(capacity + 1), init=capacity)
        flying = Signal(range(config.outstanding + 1))
        final = Signal()
        issue = Signal()
        m.d.comb += [
            final.eq(left == size),
            issue.eq(
                (left != 0) & (~self.axi.arvalid | self.axi.arready) & (free >= size) & (flying != config.outstanding) & ~self.abort
            ),
        ]
        with m.If(self.axi.arready):
            m.d.sync += self.axi.arvalid.eq(0)
        with m.If(issue):
            m.d.sync += [
                self.axi.arvalid.eq(1),
                self.axi.araddr.eq(address << address_bits),
                self.axi.arlen.eq(size - 1),
                address.eq(address + size),
                left.eq(left - size),
            ]
        m.d.comb += [
            self.axi.arsize.eq(address_bits),
            self.axi.arburst.eq(BURST_INCR),
            finals.w_en.eq(issue),
            finals.w_data.eq(final),
            self.command.ready.eq((left == 0) | (issue & final) | self.abort),
        ]
        with m.If(self.abort):
            m.d.sync += left.eq(0)
        with m.Elif(self.command.valid & self.command.ready):
            m.d.sync += [
                address.eq(self.command.payload.address >> address_bits),
                left.eq(self.command.payload.beats),
            ]

        accepted = self.axi.rvalid & self.axi.rready
        pop = self.data.valid & self.data.ready
        m.d.comb += [
            self.axi.rready.eq(1),
            self.beat_accepted.eq(accepted),
            self.error.eq(accepted & self.axi.rresp[1]),
            beats.w_en.eq(accepted),
            beat.data.eq(self.axi.rdata),
            beat.last.eq(self.axi.rlast & finals.r_data),
            finals.r_en.eq(accepted & self.axi.rlast),
            self.data.valid.eq(beats.r_rdy & ~self.abort),
            self.data.payload.eq(beats.r_data),
            beats.r_en.eq(pop),
            self.idle.eq((flying == 0) & ~self.axi.arvalid),
        ]
        m.d.sync += [
            free.eq(free - issue * size + pop),
            flying.eq(flying + issue - (accepted & self.axi.rlast)),
        ]
        return m
