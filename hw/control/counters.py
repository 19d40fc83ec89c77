"""Event counters of a batch."""

from amaranth.hdl import Module
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw import isa, signatures
from hw.config import AcceleratorConfig


class Counters(wiring.Component):
    """`isa.COUNTERS`, 32 bits each, wrapping; every input counts in the cycle in which it is high.

    Members:
        batch, issue, fetch: events of `hw.signatures`; stalls and operations count while the batch is busy.
        weight_beats: beats that the weight ports accepted in this cycle.
        read_beat, written_beat: a beat that the system port accepted.
        values: the counters, in order.
    """

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        super().__init__(
            {
                "batch": In(signatures.batch_events()),
                "issue": In(signatures.issue_events()),
                "fetch": In(signatures.fetch_events()),
                "weight_beats": In(range(config.weight_ports + 1)),
                "read_beat": In(1),
                "written_beat": In(1),
                "values": Out(data.ArrayLayout(32, len(isa.COUNTERS))),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        busy, issue, beat_bytes = self.batch.busy, self.issue, self._config.axi_bytes
        increments = {
            "cycles": busy,
            **{f"{unit}_cycles": getattr(issue, unit) for unit in ("array", "attention_array", "norm", "gate")},
            "tiles": issue.tiles,
            "descriptors": self.fetch.descriptors,
            "descriptors_skipped": self.fetch.descriptors_skipped,
            "exits_low": self.batch.exits_low,
            **{f"stall_{cause}": busy & issue.stall[cause] for cause in issue.stall.shape().members},
            "weight_bytes": self.weight_beats * beat_bytes,
            "system_bytes_read": self.read_beat * beat_bytes,
            "system_bytes_written": self.written_beat * beat_bytes,
            **{f"operation_{op.name.lower()}": busy & (issue.operation == op) for op in isa.Operation},
        }
        for number, (name, _) in enumerate(isa.COUNTERS):
            m.d.sync += self.values[number].eq(self.values[number] + increments[name])
        with m.If(self.batch.clear):
            m.d.sync += [value.eq(0) for value in self.values]
        return m
