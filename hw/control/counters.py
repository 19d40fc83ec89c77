"""Event counters of a batch."""

from amaranth.hdl import Module
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw import isa
from hw.config import AcceleratorConfig
from hw.control.issue import stall_causes

SINGLE_EVENTS = (
    "array",
    "attention_array",
    "norm",
    "gate",
    "tiles",
    "descriptors",
    "descriptors_skipped",
    "exits_low",
)
"""Events that happen at most once a cycle, counted under their name or, for units at work, under ``<name>_cycles``."""


class Counters(wiring.Component):
    """`isa.COUNTERS`, 32 bits each, wrapping; every input counts in the cycle in which it is high.

    Members:
        clear: sets all to 0, over any event.
        busy: counts `cycles` and the counter of `operation` (an `isa.Operation`).
        array … exits_low: `SINGLE_EVENTS`; ``attention_array`` is ``array`` of an attention's descriptor.
        stall: the issue's cause.
        weight_beats: beats that the weight ports accepted in this cycle.
        read_beat, written_beat: a beat that the system port accepted.
        values: the counters, in order.
    """

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        super().__init__(
            {
                "clear": In(1),
                "busy": In(1),
                "operation": In(4),
                **{name: In(1) for name in SINGLE_EVENTS},
                "stall": In(stall_causes()),
                "weight_beats": In(range(config.weight_ports + 1)),
                "read_beat": In(1),
                "written_beat": In(1),
                "values": Out(data.ArrayLayout(32, len(isa.COUNTERS))),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        beat_bytes = self._config.axi_bytes
        increments = {
            "cycles": self.busy,
            **{f"{name}_cycles": getattr(self, name) for name in SINGLE_EVENTS[:4]},
            **{name: getattr(self, name) for name in SINGLE_EVENTS[4:]},
            **{f"stall_{cause}": self.busy & self.stall[cause] for cause in stall_causes().members},
            "weight_bytes": self.weight_beats * beat_bytes,
            "system_bytes_read": self.read_beat * beat_bytes,
            "system_bytes_written": self.written_beat * beat_bytes,
            **{f"operation_{op.name.lower()}": self.busy & (self.operation == op) for op in isa.Operation},
        }
        for number, (name, _) in enumerate(isa.COUNTERS):
            m.d.sync += self.values[number].eq(self.values[number] + increments[name])
        with m.If(self.clear):
            m.d.sync += [value.eq(0) for value in self.values]
        return m
