"""A column's weight ring and its bank of the K and V buffer."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from hw import commands
from hw.config import AcceleratorConfig


class ColumnMemory(wiring.Component):
    """``weight_words`` and ``kv_words`` words of ``pe_depth`` bytes; written words are readable by the next cycle's command.

    Args:
        config: the machine.
        column: which one; it takes lane `lane` of group `group` of the writes of weight port `port`.

    Members:
        command: `commands.weight_command`.
        word: WEIGHT_READ_LATENCY cycles after a command; element j at byte j.
        write: `commands.weight_write` of the column's port.
        collected: `commands.collector_word` of this cycle, then of the last cycle …, ``key_slot_words`` in all, since a slot's word
            j is written j cycles later. Slots that would write in the same cycle must not come (`Timing.drain_interval`).
    """

    def __init__(self, config: AcceleratorConfig, column: int):
        self._config, self._column = config, column
        index, self.lane = divmod(column, config.columns_per_beat)
        self.group, self.port = divmod(index, config.weight_ports)
        super().__init__(
            {
                "command": In(commands.weight_command(config)),
                "word": Out(8 * config.pe_depth),
                "write": In(commands.weight_write(config)),
                "collected": In(commands.collector_word(config)).array(config.key_slot_words),
            }
        )

    def elaborate(self, platform) -> Module:
        config = self._config
        m = Module()
        m.submodules.ring = ring = Memory(shape=8 * config.pe_depth, depth=config.weight_words, init=[])
        m.submodules.kv = kv = Memory(shape=8 * config.pe_depth, depth=config.kv_words, init=[])
        ring_write, ring_read = ring.write_port(), ring.read_port()
        kv_write, kv_read = kv.write_port(granularity=8), kv.read_port()

        word_width = 8 * config.pe_depth
        m.d.comb += [
            ring_write.en.eq(self.write.valid & (self.write.group == self.group)),
            ring_write.addr.eq(self.write.address),
            ring_write.data.eq(self.write.data[self.lane * word_width : (self.lane + 1) * word_width]),
        ]
        slot, *earlier = self.collected
        key = slot.valid if config.gathers else slot.valid & ~slot.value & (slot.index == self._column)
        by_column = 0 if config.gathers else slot.value  # a byte for each column, not a word for one
        value_byte = slot.data.word_select(self._column, 8)
        m.d.comb += [
            kv_write.addr.eq(slot.address),
            kv_write.data.eq(Mux(by_column, value_byte.replicate(config.pe_depth), slot.data[:word_width])),
            kv_write.en.eq(Mux(key, slot.mask[: config.pe_depth], 0)),
        ]
        if not config.gathers:
            with m.If(slot.valid & slot.value & slot.mask[self._column]):
                m.d.comb += kv_write.en.eq(1 << slot.index)
        for word, slot in enumerate(earlier, 1):
            with m.If(slot.valid & ~slot.value & (slot.index == self._column)):
                m.d.comb += [
                    kv_write.addr.eq(slot.address + word),
                    kv_write.data.eq(slot.data.word_select(word, word_width)),
                    kv_write.en.eq(slot.mask.word_select(word, config.pe_depth)),
                ]

        from_kv = Signal()
        m.d.comb += [
            ring_read.en.eq(self.command.valid & ~self.command.kv),
            kv_read.en.eq(self.command.valid & self.command.kv),
            ring_read.addr.eq(self.command.address),
            kv_read.addr.eq(self.command.address),
        ]
        m.d.sync += [from_kv.eq(self.command.kv), self.word.eq(Mux(from_kv, kv_read.data, ring_read.data))]
        return m
