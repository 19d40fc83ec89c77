"""AXI4-Lite slave with the registers and counters of `hw.isa`."""

from amaranth.hdl import Cat, Module, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw import isa, signatures
from hw.config import AcceleratorConfig
from hw.memory.axi import AXI4LiteSignature

IDENTITY = int.from_bytes(b"PIVT", "big")
"""What the identity register reads."""
VERSION = 1
"""Version of the register interface."""
ADDRESS_WIDTH = 12
"""Bits of a register's byte address."""


class Registers(wiring.Component):
    """Registers and counters at the offsets of `isa.register_offset`; an unknown offset reads 0 and ignores writes.

    A write takes effect, and its response is valid, 2 cycles after the later of address and data; read data is valid one
    cycle after the address. One access of each direction is in hand at a time; responses are always OKAY.

    Members:
        bus: AXI4-Lite slave.
        batch: `signatures.batch`; pulses come when the control register's bit is written.
        counters: `isa.COUNTERS`, in order.
        interrupt: the batch's ``pending``, while enabled.
    """

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        super().__init__(
            {
                "bus": In(AXI4LiteSignature(ADDRESS_WIDTH)),
                "batch": Out(signatures.batch(config)),
                "counters": In(data.ArrayLayout(32, len(isa.COUNTERS))),
                "interrupt": Out(1),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        batch = self.batch
        written = {name: Signal(32, name=name) for name, access, _ in isa.REGISTERS if access == "rw"}
        read_only = {
            "identity": IDENTITY,
            "version": VERSION,
            "control": 0,
            "status": self._status(),
            "images_done": batch.images_done,
        }
        for name in batch.settings.shape().members:
            value = written[name] if name in written else Cat(written[f"{name}_low"], written[f"{name}_high"])
            m.d.comb += batch.settings[name].eq(value)
        m.d.comb += self.interrupt.eq(batch.pending & written["interrupt_enable"][0])
        self._write_channel(m, written)
        self._read_channel(m, [written.get(name, read_only.get(name)) for name, _, _ in isa.REGISTERS])
        return m

    def _status(self) -> Value:
        batch, error = self.batch, self.batch.error
        values = {
            "busy": batch.busy, "done": batch.done, "error": error.code != 0, "error_code": error.code,
            "descriptor_index": error.index,
        }  # fmt: skip
        word = Cat()
        for name, low, _, _ in isa.REGISTER_BITS["status"]:
            gap = [Signal(low - len(word))] if low > len(word) else []
            word = Cat(word, *gap, values[name])
        return word

    def _write_channel(self, m: Module, written: dict[str, Signal]) -> None:
        bus = self.bus
        word = Signal(ADDRESS_WIDTH - 2)
        value = Signal(32)
        strobe = Signal(4)
        write = Signal()
        m.d.comb += write.eq(~bus.awready & ~bus.wready & ~bus.bvalid)
        have_address = Signal()
        have_value = Signal()
        m.d.comb += [bus.awready.eq(~have_address), bus.wready.eq(~have_value)]
        with m.If(bus.awvalid & bus.awready):
            m.d.sync += [word.eq(bus.awaddr[2:]), have_address.eq(1)]
        with m.If(bus.wvalid & bus.wready):
            m.d.sync += [value.eq(bus.wdata), strobe.eq(bus.wstrb), have_value.eq(1)]
        with m.If(write):
            m.d.sync += [have_address.eq(0), have_value.eq(0), bus.bvalid.eq(1)]
            with m.Switch(word):
                for name, register in written.items():
                    with m.Case(isa.register_offset(name) // 4):
                        for byte in range(4):
                            with m.If(strobe[byte]):
                                m.d.sync += register[8 * byte : 8 * byte + 8].eq(value[8 * byte : 8 * byte + 8])
                with m.Case(isa.register_offset("control") // 4):
                    pulses = Cat(getattr(self.batch, name) for name, _, _, _ in isa.REGISTER_BITS["control"])
                    m.d.comb += pulses.eq(value[: len(pulses)] & strobe[0].replicate(len(pulses)))
        with m.Elif(bus.bready):
            m.d.sync += bus.bvalid.eq(0)

    def _read_channel(self, m: Module, registers: list) -> None:
        bus = self.bus
        m.d.comb += bus.arready.eq(~bus.rvalid)
        with m.If(bus.arvalid & bus.arready):
            m.d.sync += [bus.rvalid.eq(1), bus.rdata.eq(0)]
            with m.Switch(bus.araddr[2:]):
                for number, value in enumerate(registers + list(self.counters)):
                    with m.Case(number):
                        m.d.sync += bus.rdata.eq(value)
        with m.Elif(bus.rready):
            m.d.sync += bus.rvalid.eq(0)
