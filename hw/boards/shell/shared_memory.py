"""A memory on the chip behind several AXI4 masters."""

from itertools import pairwise

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In

from hw.config import AcceleratorConfig
from hw.errors import InputError
from hw.memory.axi import BOUNDARY, AXI4ReadSignature, AXI4WriteSignature

SLVERR = 2
"""Response to a burst whose first address lies outside the memory."""


def check_size(config: AcceleratorConfig, size: int) -> None:
    """Check that a machine's memory can have ``size`` bytes.

    Raises:
        InputError: when it cannot.
    """
    if size < BOUNDARY or size & (size - 1):
        raise InputError(f"Memory must have a power of two of at least {BOUNDARY} bytes, not {size}")
    least = (size - 1).bit_length()
    if config.address_width < least:
        raise InputError(f"address_width must be at least {least} for a memory of {size} bytes, not {config.address_width}")


class SharedMemory(wiring.Component):
    """Block RAM of one read and one write port; one burst of each direction is in hand at a time.

    Bursts are INCR, of full-width beats, and stay within 4 KiB. Of the masters that wait the first in order is served. The first
    beat of a burst is valid 3 cycles after its address, the others follow one a cycle; between two bursts one cycle is lost.
    The memory is 0 after configuration; a beat read in the cycle in which it is written is the old one.

    Args:
        config: the machine: width of addresses and of beats.
        size: bytes, a power of two and at least BOUNDARY.
        readers, writers: numbers of masters.

    Members:
        readers, writers: their read and write channels.

    Raises:
        InputError: as `check_size`.
    """

    def __init__(self, config: AcceleratorConfig, *, size: int, readers: int, writers: int):
        check_size(config, size)
        self._config, self._size = config, size
        memory = (config.address_width, config.axi_bytes)
        super().__init__(
            {
                "readers": In(AXI4ReadSignature(*memory)).array(readers),
                "writers": In(AXI4WriteSignature(*memory)).array(writers),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        beats = self._size // self._config.axi_bytes
        m.submodules.memory = memory = Memory(shape=8 * self._config.axi_bytes, depth=beats, init=[])
        self._read(m, memory.read_port())
        self._write(m, memory.write_port(granularity=8))
        return m

    def _place(self, address) -> tuple:
        """(beat, whether it lies outside the memory) of a byte address."""
        size = (self._config.axi_bytes - 1).bit_length()
        bits = (self._size - 1).bit_length()
        return address[size:bits], address[bits:].any()

    def _read(self, m: Module, port) -> None:
        """Stages: the beat that is addressed, the RAM's output, the channels' register; all move or none."""
        busy, left = Signal(), Signal(8)
        beat = Signal(len(port.addr))
        stages = [
            {name: Signal(width, name=f"{name}_{stage}") for name, width in (("valid", 1), *self._labels())} for stage in range(3)
        ]
        addressed, _, last = stages
        advance, data = Signal(), Signal(len(port.data), reset_less=True)
        taken = Signal()
        for index, reader in enumerate(self.readers):
            ours = last["valid"] & (last["owner"] == index)
            with m.If(ours & reader.rready):
                m.d.comb += taken.eq(1)
            m.d.comb += [
                reader.rvalid.eq(ours),
                reader.rid.eq(last["id"]),
                reader.rdata.eq(data),
                reader.rresp.eq(Mux(last["bad"], SLVERR, 0)),
                reader.rlast.eq(last["final"]),
            ]
        m.d.comb += [
            advance.eq(~last["valid"] | taken),
            port.en.eq(advance),
            port.addr.eq(beat),
            addressed["valid"].eq(busy),
            addressed["final"].eq(left == 0),
        ]
        with m.If(advance):
            for before, after in pairwise(stages):
                m.d.sync += [after[name].eq(before[name]) for name in before]
            m.d.sync += [data.eq(port.data), beat.eq(beat + 1), left.eq(left - 1)]
            with m.If(left == 0):
                m.d.sync += busy.eq(0)
        with m.If(~busy):
            for index, reader in enumerate(self.readers):
                with m.If(reader.arvalid) if index == 0 else m.Elif(reader.arvalid):
                    m.d.comb += reader.arready.eq(1)
                    place, outside = self._place(reader.araddr)
                    m.d.sync += [busy.eq(1), beat.eq(place), left.eq(reader.arlen)]
                    m.d.sync += [addressed["owner"].eq(index), addressed["id"].eq(reader.arid), addressed["bad"].eq(outside)]

    def _labels(self) -> tuple[tuple[str, int], ...]:
        """What travels beside a beat, with its bits."""
        return (("owner", (len(self.readers) - 1).bit_length()), ("id", 1), ("bad", 1), ("final", 1))

    def _write(self, m: Module, port) -> None:
        busy, answering, bad, identifier = Signal(), Signal(), Signal(), Signal()
        owner = Signal(range(len(self.writers)))
        beat = Signal(len(port.addr))
        m.d.comb += port.addr.eq(beat)
        for index, writer in enumerate(self.writers):
            ours = owner == index
            m.d.comb += [
                writer.wready.eq(busy & ours),
                writer.bvalid.eq(answering & ours),
                writer.bid.eq(identifier),
                writer.bresp.eq(Mux(bad, SLVERR, 0)),
            ]
            with m.If(ours):
                m.d.comb += port.data.eq(writer.wdata)
            with m.If(busy & ours & writer.wvalid):
                m.d.comb += port.en.eq(Mux(bad, 0, writer.wstrb))
                m.d.sync += beat.eq(beat + 1)
                with m.If(writer.wlast):
                    m.d.sync += [busy.eq(0), answering.eq(1)]
            with m.If(answering & ours & writer.bready):
                m.d.sync += answering.eq(0)
        with m.If(~busy & ~answering):
            for index, writer in enumerate(self.writers):
                with m.If(writer.awvalid) if index == 0 else m.Elif(writer.awvalid):
                    m.d.comb += writer.awready.eq(1)
                    place, outside = self._place(writer.awaddr)
                    m.d.sync += [busy.eq(1), owner.eq(index), beat.eq(place), bad.eq(outside), identifier.eq(writer.awid)]
