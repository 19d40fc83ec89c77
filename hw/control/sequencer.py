"""From descriptors to commands: fetch, issue, drain sequencer and gate of one image."""

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In

from hw.composition import connect_outward, outward_members, same
from hw.config import AcceleratorConfig
from hw.control.drain_sequencer import DrainSequencer
from hw.control.fetch import Fetch
from hw.control.gate import Gate
from hw.control.issue import Issue
from hw.row.lane import logit

_FETCH = same(
    "settings", "image_address", "start", "flush", "command", "beats", "weight_job", "side_job", "error", "skipped", "executed"
)
_ISSUE = same(
    "feed", "weight", "norm", "weight_available", "weight_take", "weight_release", "weight_release_words", "parameter_loaded",
    "table_loaded", "table_release", "rows_go", "rows_done", "gate_start", "gate_end", "gate_classes", "settled", "operation",
    "index", "array", "attention_array", "tiles", "normalizes", "gate_busy", "stall",
)  # fmt: skip
_DRAIN = same("slot", "column", "parameters", "parameter_release", "lane")
_GATE = same("entropy", "top1") | {"gate_done": "done", "logit_address": "read_address", "logit": "read_data"}


def _issue_members(config: AcceleratorConfig) -> dict[str, str]:
    """Members of the issue that face outwards."""
    return _ISSUE | same("softmax") if config.softmax_pass else _ISSUE


class Sequencer(wiring.Component):
    """Executes the descriptors of one image; reset between images.

    Members are those of `Fetch`, `Issue`, `DrainSequencer` and `Gate` that face outwards, under their own names but for the
    gate's (``gate_done``, and ``logit_address`` with ``logit`` one cycle later for the record), plus:

        logits: of row 0.
        proceed: one cycle high after `gate_done`: go on behind a GATE.
    """

    def __init__(self, config: AcceleratorConfig):
        self._fetch, self._issue, self._issue_members = Fetch(config), Issue(config), _issue_members(config)
        self._drain, self._gate = DrainSequencer(config), Gate(config)
        super().__init__(
            outward_members(self._fetch, _FETCH)
            | outward_members(self._issue, self._issue_members)
            | outward_members(self._drain, _DRAIN)
            | outward_members(self._gate, _GATE)
            | {"logits": In(logit(config)), "proceed": In(1)}
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        m.submodules.fetch = fetch = self._fetch
        m.submodules.issue = issue = self._issue
        m.submodules.drain_sequencer = drain = self._drain
        m.submodules.gate = gate = self._gate
        for part, names in ((fetch, _FETCH), (issue, self._issue_members), (drain, _DRAIN), (gate, _GATE)):
            connect_outward(m, self, part, names)
        wiring.connect(m, fetch.entries, issue.entries)
        m.d.comb += [
            issue.stop.eq(self.flush),
            issue.proceed.eq(self.proceed),
            fetch.proceed.eq(self.proceed),
            drain.tile.eq(issue.tile),
            gate.logit_valid.eq(self.logits.valid),
            gate.logit.eq(self.logits.value),
            gate.start.eq(issue.gate_start),
            gate.classes.eq(issue.gate_classes),
        ]
        return m
