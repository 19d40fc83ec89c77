"""From descriptors to commands: fetch, issue, drain sequencer and gate of one image."""

from amaranth.hdl import Module
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from hw import commands, signatures
from hw.config import AcceleratorConfig
from hw.control.drain_sequencer import DrainSequencer
from hw.control.fetch import Fetch
from hw.control.gate import Gate
from hw.control.issue import Issue
from hw.memory.jobs import side_job
from hw.row.lane import logit
from hw.weights.jobs import weight_job


class Sequencer(wiring.Component):
    """Executes the descriptors of one image; reset between images.

    Members:
        image, descriptors, row_commands, parameters, logit_read: signatures of `hw.signatures`; so are all credits and events.
        weight_job, side_job: streams of jobs, as `Fetch` gives them.
        weight: `commands.weight_command`, in step with the rows' feed commands.
        logits: of row 0.
    """

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        super().__init__(
            {
                "image": In(signatures.image(config)),
                "descriptors": Out(signatures.descriptor_read(config)),
                "weight_job": Out(stream.Signature(weight_job(config))),
                "side_job": Out(stream.Signature(side_job(config))),
                "row_commands": Out(signatures.row_commands(config)),
                "weight": Out(commands.weight_command(config)),
                "weight_credits": Out(signatures.weight_credits(config)),
                "parameter_credits": Out(signatures.parameter_credits()),
                "table_credits": Out(signatures.table_credits()),
                "load_rows": Out(signatures.load_rows()),
                "parameters": Out(signatures.parameter_read(config)),
                "logits": In(logit(config)),
                "logit_read": In(signatures.logit_read(config)),
                "fetch_events": Out(signatures.fetch_events()),
                "issue_events": Out(signatures.issue_events()),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        m.submodules.fetch = fetch = Fetch(self._config)
        m.submodules.issue = issue = Issue(self._config)
        m.submodules.drain_sequencer = drain = DrainSequencer(self._config)
        m.submodules.gate = gate = Gate(self._config)
        wiring.connect(m, fetch.entries, issue.entries)
        outward = {
            "descriptors": fetch.descriptors, "weight_job": fetch.weight_job, "side_job": fetch.side_job,
            "fetch_events": fetch.events, "issue_events": issue.events, "weight_credits": issue.weight_credits,
            "table_credits": issue.table_credits, "load_rows": issue.load_rows, "parameters": drain.parameters,
            "logit_read": gate.read,
        }  # fmt: skip
        for name, inside in outward.items():
            wiring.connect(m, wiring.flipped(getattr(self, name)), inside)
        rows = self.row_commands
        m.d.comb += [
            *(getattr(rows, name).eq(getattr(issue, name)) for name in ("feed", "norm")),
            *([rows.softmax.eq(issue.softmax)] if self._config.softmax_pass else []),
            rows.lane.eq(drain.lane),
            self.weight.eq(issue.weight),
            drain.tile.eq(issue.tile),
            issue.parameter_loaded.eq(self.parameter_credits.loaded),
            self.parameter_credits.release.eq(drain.parameter_release),
            gate.logit_valid.eq(self.logits.valid),
            gate.logit.eq(self.logits.value),
        ]
        self._image(m, fetch, issue, gate)
        return m

    def _image(self, m: Module, fetch: Fetch, issue: Issue, gate: Gate) -> None:
        """Start, stop and gate of the image."""
        image = self.image
        m.d.comb += [
            fetch.start.eq(image.start),
            fetch.settings.eq(image.settings),
            fetch.image_address.eq(image.address),
            fetch.flush.eq(image.flush),
            issue.stop.eq(image.flush),
            fetch.proceed.eq(image.proceed),
            issue.gate.proceed.eq(image.proceed),
            gate.start.eq(issue.gate.start),
            gate.classes.eq(issue.gate.classes),
            image.settled.eq(issue.settled),
            image.index.eq(issue.index),
            image.error.eq(fetch.error),
            image.gate_end.eq(issue.gate.end),
            image.classes.eq(issue.gate.classes),
            image.gate_done.eq(gate.done),
            image.entropy.eq(gate.entropy),
            image.top1.eq(gate.top1),
        ]
