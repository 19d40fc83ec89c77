"""Everything behind the system port: descriptor reads, the side loader and the result writer on one AXI4 master."""

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.composition import connect_outward, outward_members, same
from hw.config import AcceleratorConfig
from hw.memory.axi import AXI4ReadSignature, AXI4Signature, AXI4WriteSignature
from hw.memory.burst_reader import BurstReader
from hw.memory.read_arbiter import ReadArbiter
from hw.memory.result_writer import ResultWriter
from hw.memory.side_loader import SideLoader

_READER = {"command": "command", "beats": "data"}
_SIDE = same(
    "parameter_write", "parameter_tile_done", "parameter_release", "table_write", "table_done", "table_release", "load",
    "rows_go", "rows_done", "address_error",
) | {"side_job": "job"}  # fmt: skip
_WRITER = same("record", "logit_address", "logit") | {"record_start": "start", "record_done": "done"}


class SystemPort(wiring.Component):
    """One AXI4 master for all that is not weights.

    Members are those of `BurstReader` (descriptors: ``command``, ``beats``), `SideLoader` (``side_job`` and its outputs) and
    `ResultWriter` (``record_start``, ``record``, ``record_done``, ``logit_address``, ``logit``), plus:

        axi: AXI4 master.
        abort, idle, error: as `BurstReader`, of all three.
        read_beat, written_beat: pulse with each data beat.
    """

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        self._reader, self._side, self._writer = BurstReader(config), SideLoader(config), ResultWriter(config)
        super().__init__(
            outward_members(self._reader, _READER)
            | outward_members(self._side, _SIDE)
            | outward_members(self._writer, _WRITER)
            | {
                "axi": Out(AXI4Signature(config.address_width, config.axi_bytes)),
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
        m.submodules.reader = reader = self._reader
        m.submodules.side_loader = side = self._side
        m.submodules.result_writer = writer = self._writer
        for part, names in ((reader, _READER), (side, _SIDE), (writer, _WRITER)):
            connect_outward(m, self, part, names)
            m.d.comb += part.abort.eq(self.abort)
        wiring.connect(m, reader.axi, arbiter.fetch)
        wiring.connect(m, side.axi, arbiter.side)
        memory = (self._config.address_width, self._config.axi_bytes)
        for master, signature in ((arbiter.axi, AXI4ReadSignature(*memory)), (writer.axi, AXI4WriteSignature(*memory))):
            for name, member in signature.members.items():
                outside, inside = getattr(self.axi, name), getattr(master, name)
                m.d.comb += outside.eq(inside) if member.flow == Out else inside.eq(outside)
        m.d.comb += [
            self.idle.eq(reader.idle & side.idle & writer.idle),
            self.error.eq(reader.error | side.error | writer.error),
            self.read_beat.eq(reader.beat_accepted | side.beat_accepted),
            self.written_beat.eq(writer.beat_accepted),
        ]
        return m
