"""Reads descriptors ahead of use, drops skipped attentions, checks the rest and hands them to the units."""

from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from hw.config import AcceleratorConfig
from hw.control.jobs import compute_entry, error_report, settings, side_job, weight_job


class Fetch(wiring.Component):
    """Descriptors of one image, in order.

    Members:
        settings: stable from `start` on.
        start: one cycle high; begins at the Program's first descriptor.
        proceed: one cycle high; goes on after a GATE.
        flush: while high, the beats that still arrive are dropped and nothing else happens.
        request: address and bytes of each read from the system port (a whole number of descriptors).
        beats: the answer, in order.
        weight_jobs, side_jobs, entries: queues of ``queue_depth`` each; a GEMM's table precedes its parameters.
        error: stays until reset.
        skipped: one cycle high per descriptor that a path mask drops.
        executed: one cycle high per descriptor that is handed on.
    """

    def __init__(self, config: AcceleratorConfig):
        self.config = config
        super().__init__(
            {
                "settings": In(settings(config)),
                "start": In(1),
                "proceed": In(1),
                "flush": In(1),
                "beats": In(stream.Signature(config.axi_bytes * 8)),
                "weight_jobs": Out(stream.Signature(weight_job(config))),
                "side_jobs": Out(stream.Signature(side_job(config))),
                "entries": Out(stream.Signature(compute_entry(config))),
                "error": Out(error_report()),
                "skipped": Out(1),
                "executed": Out(1),
            }
        )
