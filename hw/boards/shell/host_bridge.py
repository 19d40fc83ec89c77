"""A host's reads and writes, as bytes, on the machine's control bus and in its memory."""

from enum import IntEnum, unique

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from hw.config import AcceleratorConfig
from hw.control.registers import ADDRESS_WIDTH
from hw.memory.axi import BURST_INCR, AXI4LiteSignature, AXI4Signature

HEADER_BYTES = 7
"""Bytes before a frame's data: `Command`, address (4 bytes), words less 1 (2 bytes); little-endian."""
WORD_BYTES = 4
"""Bytes of a word, on either bus."""
MOST_WORDS = 1 << 16
"""Words of one frame at most."""


@unique
class Command(IntEnum):
    """First byte of a frame; any other byte there is dropped."""

    READ_REGISTERS = 1
    WRITE_REGISTERS = 2
    READ_MEMORY = 3
    WRITE_MEMORY = 4


class HostBridge(wiring.Component):
    """Answers frames of bytes; a word at a time, at consecutive addresses.

    A frame is its header and, for a write, its words. The answer is the words of a read, then one byte: 0, or all AXI
    responses of the frame or-ed (2: an address outside the memory). The answer to one frame ends before the next is taken.

    Args:
        config: the machine.

    Members:
        received: bytes from the host; taken within 32 cycles each while the buses answer within 16.
        sent: bytes to the host.
        control: AXI4-Lite master of the registers; the address is taken modulo 4 KiB.
        memory: AXI4 master of bursts of one beat, of whose bytes a write changes one word.
    """

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        super().__init__(
            {
                "received": In(stream.Signature(8)),
                "sent": Out(stream.Signature(8)),
                "control": Out(AXI4LiteSignature(ADDRESS_WIDTH)),
                "memory": Out(AXI4Signature(config.address_width, config.axi_bytes)),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        command, address, left = Signal(8), Signal(32), Signal(16)  # left: words after the one in hand
        header = Cat(address, left)
        word, status = Signal(8 * WORD_BYTES), Signal(8)
        count = Signal(range(HEADER_BYTES))  # bytes after the one in hand
        to_memory, write = Signal(), Signal()
        m.d.comb += [
            to_memory.eq((command == Command.READ_MEMORY) | (command == Command.WRITE_MEMORY)),
            write.eq((command == Command.WRITE_REGISTERS) | (command == Command.WRITE_MEMORY)),
        ]
        bus = self._bus(m, to_memory, address, word)
        received, sent = self.received, self.sent
        known = (received.payload >= min(Command)) & (received.payload <= max(Command))
        with m.FSM():
            with m.State("command"):
                m.d.comb += received.ready.eq(1)
                m.d.sync += [command.eq(received.payload), count.eq(HEADER_BYTES - 2), status.eq(0)]
                with m.If(received.valid & known):
                    m.next = "header"
            with m.State("header"):
                m.d.comb += received.ready.eq(1)
                with m.If(received.valid):
                    m.d.sync += [header.eq(Cat(header[8:], received.payload)), count.eq(count - 1)]
                    with m.If(count == 0):
                        m.d.sync += [count.eq(WORD_BYTES - 1), bus["arvalid"].eq(~write)]
                        with m.If(write):
                            m.next = "receive"
                        with m.Else():
                            m.next = "read"
            with m.State("receive"):
                m.d.comb += received.ready.eq(1)
                with m.If(received.valid):
                    m.d.sync += [word.eq(Cat(word[8:], received.payload)), count.eq(count - 1)]
                    with m.If(count == 0):
                        m.d.sync += [bus["awvalid"].eq(1), bus["wvalid"].eq(1)]
                        m.next = "write"
            with m.State("write"):
                with m.If(bus["bvalid"]):
                    m.d.sync += [status.eq(status | bus["bresp"]), address.eq(address + WORD_BYTES)]
                    m.d.sync += [left.eq(left - 1), count.eq(WORD_BYTES - 1)]
                    with m.If(left == 0):
                        m.next = "status"
                    with m.Else():
                        m.next = "receive"
            with m.State("read"):
                with m.If(bus["rvalid"]):
                    m.d.sync += [word.eq(bus["rdata"]), status.eq(status | bus["rresp"]), count.eq(WORD_BYTES - 1)]
                    m.next = "send"
            with m.State("send"):
                m.d.comb += [sent.valid.eq(1), sent.payload.eq(word)]
                with m.If(sent.ready):
                    m.d.sync += [word.eq(word[8:]), count.eq(count - 1)]
                    with m.If(count == 0):
                        m.d.sync += [address.eq(address + WORD_BYTES), left.eq(left - 1), bus["arvalid"].eq(left != 0)]
                        with m.If(left == 0):
                            m.next = "status"
                        with m.Else():
                            m.next = "read"
            with m.State("status"):
                m.d.comb += [sent.valid.eq(1), sent.payload.eq(status)]
                with m.If(sent.ready):
                    m.next = "command"
        return m

    def _bus(self, m: Module, to_memory: Signal, address: Signal, word: Signal) -> dict[str, Signal]:
        """Signals of one bus by AXI's names that are the memory's or the registers': valids to set, which fall when they are
        taken, and what came back. Responses are always taken at once."""
        control, memory = self.control, self.memory
        words = self._config.axi_bytes // WORD_BYTES
        lane = address[2 : 2 + words.bit_length() - 1]
        bus = {name: Signal(name=name) for name in ("awvalid", "wvalid", "arvalid", "bvalid", "rvalid")}
        bus |= {"bresp": Signal(2, name="bresp"), "rresp": Signal(2, name="rresp"), "rdata": Signal(len(word), name="rdata")}
        for name in ("awvalid", "wvalid", "arvalid"):
            ready = name.replace("valid", "ready")
            m.d.comb += [getattr(control, name).eq(bus[name] & ~to_memory), getattr(memory, name).eq(bus[name] & to_memory)]
            with m.If(Mux(to_memory, getattr(memory, ready), getattr(control, ready))):
                m.d.sync += bus[name].eq(0)
        for name in ("bvalid", "rvalid", "bresp", "rresp"):
            m.d.comb += bus[name].eq(Mux(to_memory, getattr(memory, name), getattr(control, name)))
        size = (self._config.axi_bytes - 1).bit_length()
        beat_address = Cat(Const(0, size), address[size:])
        m.d.comb += [
            bus["rdata"].eq(Mux(to_memory, memory.rdata.word_select(lane, len(word)), control.rdata)),
            *(port.bready.eq(1) for port in (control, memory)),
            *(port.rready.eq(1) for port in (control, memory)),
            *(port.eq(address) for port in (control.awaddr, control.araddr)),
            *(port.eq(beat_address) for port in (memory.awaddr, memory.araddr)),
            *(port.eq(size) for port in (memory.awsize, memory.arsize)),
            *(port.eq(BURST_INCR) for port in (memory.awburst, memory.arburst)),
            control.wdata.eq(word),
            control.wstrb.eq(-1),
            memory.wdata.eq(word.replicate(words)),
            memory.wstrb.eq(Const((1 << WORD_BYTES) - 1, self._config.axi_bytes) << (lane * WORD_BYTES)),
            memory.wlast.eq(1),
        ]
        return bus
