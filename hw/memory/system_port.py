"""Everything behind the system port: descriptor reads, the side loader and the result writer on one AXI4 master."""

from amaranth.hdl import Module
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from hw import commands, signatures
from hw.config import AcceleratorConfig
from hw.memory.axi import AXI4ReadSignature, AXI4Signature, AXI4WriteSignature
from hw.memory.burst_reader import BurstReader
from hw.memory.jobs import side_job
from hw.memory.read_arbiter import ReadArbiter
from hw.memory.result_writer import ResultWriter
from hw.memory.side_loader import SideLoader


class SystemPort(wiring.Component):
    """One AXI4 master for all that is not weights.

    Members:
        axi: AXI4 master.
        descriptors: `signatures.descriptor_read`.
        side_job, parameter_write, parameter_credits, table_credits, row_writes, load_rows, address_error: of the `SideLoader`.
        record, logits: of the `ResultWriter`.
        abort, idle, error: as `BurstReader`, of all three.
        read_beat, written_beat: pulse with each data beat.
    """

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        super().__init__(
            {
                "axi": Out(AXI4Signature(config.address_width, config.axi_bytes)),
                "descriptors": In(signatures.descriptor_read(config)),
                "side_job": In(stream.Signature(side_job(config))),
                "parameter_write": Out(commands.parameter_write(config)),
                "parameter_credits": In(signatures.parameter_credits()),
                "table_credits": In(signatures.table_credits()),
                "row_writes": Out(signatures.row_writes(config)),
                "load_rows": In(signatures.load_rows()),
                "address_error": Out(1),
                "record": In(signatures.record(config)),
                "logits": Out(signatures.logit_read(config)),
                "abort": In(1),
                "idle": Out(1),
                "error": Out(1),
                "read_beat": Out(1),
                "written_beat": Out(1),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        m.submodules.arbiter = arbiter = ReadArbiter(self._config)
        m.submodules.reader = reader = BurstReader(self._config)
        m.submodules.side_loader = side = SideLoader(self._config)
        m.submodules.result_writer = writer = ResultWriter(self._config)
        wiring.connect(m, wiring.flipped(self.descriptors.command), reader.command)
        wiring.connect(m, reader.data, wiring.flipped(self.descriptors.beats))
        wiring.connect(m, wiring.flipped(self.side_job), side.job)
        for name in ("parameter_credits", "table_credits", "row_writes", "load_rows"):
            wiring.connect(m, wiring.flipped(getattr(self, name)), getattr(side, name))
        wiring.connect(m, wiring.flipped(self.record), writer.record)
        wiring.connect(m, wiring.flipped(self.logits), writer.logits)
        wiring.connect(m, reader.axi, arbiter.fetch)
        wiring.connect(m, side.axi, arbiter.side)
        memory = (self._config.address_width, self._config.axi_bytes)
        for master, signature in ((arbiter.axi, AXI4ReadSignature(*memory)), (writer.axi, AXI4WriteSignature(*memory))):
            for name, member in signature.members.items():
                outside, inside = getattr(self.axi, name), getattr(master, name)
                m.d.comb += outside.eq(inside) if member.flow == Out else inside.eq(outside)
        m.d.comb += [
            *(part.abort.eq(self.abort) for part in (reader, side, writer)),
            self.parameter_write.eq(side.parameter_write),
            self.address_error.eq(side.address_error),
            self.idle.eq(reader.idle & side.idle & writer.idle),
            self.error.eq(reader.error | side.error | writer.error),
            self.read_beat.eq(reader.beat_accepted | side.beat_accepted),
            self.written_beat.eq(writer.beat_accepted),
        ]
        return m
