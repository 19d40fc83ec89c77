"""AXI4-Lite slave: handshakes, one response per access, written values read back."""

from amaranth.hdl import Array, Cat, Const, Mux, Signal

from hw import isa
from hw.control.registers import IDENTITY, VERSION, Registers
from hw.formal.harness import Harness, drive_freely
from hw.formal.proof import Mutant, Proof
from hw.presets import PRESETS

_MODULE = "hw.control.registers"
_WRITABLE = [name for name, access, _ in isa.REGISTERS if access == "rw"]
_PATIENCE = 3
"""Cycles within which every request is accepted and every accepted one is answered, when the master waits for nothing."""


def _handshakes(h: Harness, bus) -> None:
    """The master's side of the rules is assumed, the slave's is proven."""
    h.assume(h.held(bus.awvalid, bus.awready, bus.awaddr))
    h.assume(h.held(bus.wvalid, bus.wready, bus.wdata, bus.wstrb))
    h.assume(h.held(bus.arvalid, bus.arready, bus.araddr))
    h.prove("BVALID stays until BREADY, BRESP with it", h.held(bus.bvalid, bus.bready, bus.bresp))
    h.prove("RVALID stays until RREADY, RDATA and RRESP with it", h.held(bus.rvalid, bus.rready, bus.rdata, bus.rresp))
    h.prove("every response is OKAY", (bus.bresp == 0) & (bus.rresp == 0))


def _outstanding(h: Harness, begins, ends) -> Signal:
    """Accepted requests without a response."""
    count = Signal(3)
    h.m.d.sync += count.eq(count + begins - ends)
    return count


def _waited(h: Harness, condition) -> Signal:
    """Cycles in a row, up to now, in which a condition held."""
    before = Signal(range(_PATIENCE + 2))
    now = Signal(range(_PATIENCE + 3))
    h.m.d.comb += now.eq(Mux(condition, before + 1, 0))
    h.m.d.sync += before.eq(Mux(now > _PATIENCE, _PATIENCE + 1, now))
    return now


def _answers(h: Harness, bus) -> tuple[Signal, Signal, Signal]:
    """One response per access, and within bounded time."""
    answered = bus.bvalid & bus.bready
    addresses = _outstanding(h, bus.awvalid & bus.awready, answered)
    values = _outstanding(h, bus.wvalid & bus.wready, answered)
    reads = _outstanding(h, bus.arvalid & bus.arready, bus.rvalid & bus.rready)
    h.prove("a write response only for an address and a value that were accepted", ~bus.bvalid | ((addresses != 0) & (values != 0)))
    h.prove(
        "no more than two writes in hand, of which one waits for its response",
        (addresses <= 1 + bus.bvalid) & (values <= 1 + bus.bvalid),
    )
    h.prove("a read response exactly while one read is in hand", (reads <= 1) & (bus.rvalid == (reads == 1)))
    waits = {
        "a complete write is answered": (addresses != 0) & (values != 0) & ~bus.bvalid,
        "an address is accepted once the value is there and responses are taken": bus.awvalid
        & ~bus.awready
        & bus.bready
        & bus.wvalid,
        "a value is accepted once the address is there and responses are taken": bus.wvalid
        & ~bus.wready
        & bus.bready
        & bus.awvalid,
        "a read address is accepted once responses are taken": bus.arvalid & ~bus.arready & bus.rready,
    }
    for text, condition in waits.items():
        h.prove(f"{text} within {_PATIENCE} cycles", _waited(h, condition) < _PATIENCE)
    return addresses, values, reads


def _describe(h: Harness) -> None:
    registers = Registers(PRESETS["nano"])
    opened = h.add(registers)
    drive_freely(h.m, registers)
    bus = registers.bus
    _handshakes(h, bus)
    addresses, values, _ = _answers(h, bus)

    # The write that takes effect in this cycle, and one register of any number as it should be.
    m = h.m
    word, data, strobe = Signal(10), Signal(32), Signal(4)
    with m.If(bus.awvalid & bus.awready):
        m.d.sync += word.eq(bus.awaddr[2:])
    with m.If(bus.wvalid & bus.wready):
        m.d.sync += [data.eq(bus.wdata), strobe.eq(bus.wstrb)]
    effect = ~bus.bvalid & (addresses != 0) & (values != 0)
    chosen = h.any_constant(range(len(_WRITABLE)), "chosen")
    h.assume(chosen < len(_WRITABLE))
    number = Signal(10)
    m.d.comb += number.eq(Array([isa.register_offset(name) // 4 for name in _WRITABLE])[chosen])
    expected = Signal(32)
    for byte in range(4):
        with m.If(effect & (word == number) & strobe[byte]):
            m.d.sync += expected.word_select(byte, 8).eq(data.word_select(byte, 8))
    h.invariant(
        "the chosen register holds what was written", Array([opened.signal(name) for name in _WRITABLE])[chosen] == expected
    )
    for flag, count, name in ((bus.awready, addresses, "address"), (bus.wready, values, "value")):
        h.invariant(f"{name} is held while it waits for its write", count == ~flag + bus.bvalid)
    h.invariant(
        "what is held is what was accepted",
        (opened.signal("word") == word) & (opened.signal("value") == data) & (opened.signal("strobe") == strobe),
    )

    fresh = h.past(bus.arvalid & bus.arready)
    asked = h.past(bus.araddr[2:])
    h.prove(
        "a read gives the bytes last written, each under its strobe, to this register and to no other",
        ~(fresh & (asked == number)) | (bus.rdata == h.past(expected)),
    )
    fixed = {"identity": IDENTITY, "version": VERSION, "control": 0}
    for name, value in fixed.items():
        h.prove(
            "identity, version and control read as constants",
            ~(fresh & (asked == isa.register_offset(name) // 4)) | (bus.rdata == value),
        )
    for position, (name, _) in enumerate(isa.COUNTERS):
        h.prove(
            "a counter reads as it was when the address was accepted",
            ~(fresh & (asked == isa.register_offset(name) // 4)) | (bus.rdata == h.past(registers.counters[position])),
        )
    known = len(isa.REGISTERS) + len(isa.COUNTERS)
    h.prove("an unknown offset reads 0", ~(fresh & (asked >= known)) | (bus.rdata == 0))
    pulses = Cat(registers.batch.start, registers.batch.soft_reset, registers.batch.clear_interrupt)
    commanded = effect & (word == isa.register_offset("control") // 4) & strobe[0]
    h.prove(
        "start, soft_reset and clear_interrupt come once per write of their bit", pulses == Mux(commanded, data[:3], Const(0, 3))
    )


PROOFS = (
    Proof(
        "registers",
        "hw.control.registers.Registers",
        "preset nano",
        _describe,
        5,
        mutants=(
            Mutant("a write overtakes the response before it", _MODULE, "~bus.wready & ~bus.bvalid)", "~bus.wready)"),
            Mutant("a response is taken back", _MODULE, "with m.Elif(bus.bready):", "with m.Else():"),
            Mutant("a read is accepted while data waits", _MODULE, "bus.arready.eq(~bus.rvalid)", "bus.arready.eq(1)"),
            Mutant("strobes are ignored", _MODULE, "with m.If(strobe[byte]):", "with m.If(1):"),
            Mutant(
                "an address that waits is overwritten",
                _MODULE,
                "bus.awready.eq(~have_address)",
                "bus.awready.eq(~have_address | ~have_value)",
            ),
            Mutant("the address is not given back", _MODULE, "have_address.eq(0), have_value.eq(0), ", "have_value.eq(0), "),
        ),
    ),
)
