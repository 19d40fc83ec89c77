"""The whole machine, and its Verilog."""

import re

from amaranth.hdl import Module, ResetInserter
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.config import AcceleratorConfig
from hw.control.counters import Counters
from hw.control.image_loop import ImageLoop
from hw.control.registers import ADDRESS_WIDTH, Registers
from hw.control.sequencer import Sequencer
from hw.memory.axi import AXI4LiteSignature, AXI4ReadSignature, AXI4Signature
from hw.memory.system_port import SystemPort
from hw.row.row_stack import RowStack, shared_modules
from hw.verilog import to_rtlil, to_verilog
from hw.weights.parameter_ring import ParameterRing
from hw.weights.weight_side import WeightSide

PRODUCTS_IN_TABLES = ("system", "weights")
"""Units whose products are made of tables on a device with DSP48E2s, nearly all of which the rows take."""


class Accelerator(wiring.Component):
    """Runs Programs from memory on images from memory and leaves result records there.

    Args:
        config: the machine.
        shared: rows as instances of one Verilog module (see `RowStack`); plain submodules for Amaranth's simulator.
        dsp48: with ``shared``, the rows' modules have cascades of DSP48E2s (`shared_modules`), so weights come as these want them.

    Members:
        s_axi: AXI4-Lite slave with the registers of `hw.isa`.
        m0_axi: AXI4 master of descriptors, parameters, tables, images and records.
        m1_axi …: ``weight_ports`` AXI4 read masters.
        interrupt: a batch is done or has failed, while enabled.
    """

    def __init__(self, config: AcceleratorConfig, *, shared: bool, dsp48: bool = False):
        self.config = config
        self.shared = shared
        self.dsp48 = dsp48
        memory = (config.address_width, config.axi_bytes)
        weights = {f"m{port + 1}_axi": Out(AXI4ReadSignature(*memory)) for port in range(config.weight_ports)}
        super().__init__(
            {
                "s_axi": In(AXI4LiteSignature(ADDRESS_WIDTH)),
                "m0_axi": Out(AXI4Signature(*memory)),
                **weights,
                "interrupt": Out(1),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        config = self.config
        m.submodules.registers = registers = Registers(config)
        m.submodules.counters = counters = Counters(config)
        m.submodules.image_loop = loop = ImageLoop(config)
        m.submodules.rows = rows = RowStack(config, shared=self.shared)
        sequencer, system = Sequencer(config), SystemPort(config)
        weights, parameters = WeightSide(config, dsp48=self.dsp48), ParameterRing(config)
        for name, unit in (("sequencer", sequencer), ("system", system), ("weights", weights), ("parameters", parameters)):
            m.submodules[name] = ResetInserter(loop.unit_reset)(unit)
        arrows = [
            # the host's side
            (wiring.flipped(self.s_axi), registers.bus),
            (registers.batch, loop.batch),
            (loop.image, sequencer.image),
            (loop.record, system.record),
            # from descriptors to rows
            (sequencer.descriptors, system.descriptors),
            (sequencer.side_job, system.side_job),
            (sequencer.weight_job, weights.job),
            (sequencer.parameters, parameters.read),
            (sequencer.row_commands, rows.commands),
            (system.row_writes, rows.writes),
            (weights.columns, rows.columns),
            (system.logits, sequencer.logit_read),
            # credits
            (sequencer.weight_credits, weights.credits),
            (sequencer.parameter_credits, system.parameter_credits),
            (sequencer.table_credits, system.table_credits),
            (sequencer.load_rows, system.load_rows),
            # counters
            (loop.events, counters.batch),
            (sequencer.fetch_events, counters.fetch),
            (sequencer.issue_events, counters.issue),
            # memory
            (wiring.flipped(self.m0_axi), system.axi),
            *((wiring.flipped(getattr(self, f"m{port + 1}_axi")), axi) for port, axi in enumerate(weights.axi)),
        ]
        for one, other in arrows:
            wiring.connect(m, one, other)
        m.d.comb += [
            weights.command.eq(sequencer.weight),
            parameters.write.eq(system.parameter_write),
            sequencer.logits.eq(rows.logits),
            *(unit.abort.eq(loop.image.flush) for unit in (system, weights)),
            loop.idle.eq(system.idle & weights.idle),
            loop.axi_error.eq(system.error | weights.error),
            loop.address_error.eq(system.address_error),
            counters.weight_beats.eq(weights.beats_accepted),
            counters.read_beat.eq(system.read_beat),
            counters.written_beat.eq(system.written_beat),
            registers.counters.eq(counters.values),
            self.interrupt.eq(registers.interrupt),
        ]
        return m


def generate_verilog(config: AcceleratorConfig, *, dsp48: bool = False) -> str:
    """Verilog of the module ``accelerator`` and everything below it.

    Ports: ``clk``, ``rst``, ``interrupt``, ``s_axi_*`` (control), ``m0_axi_*`` (system) and ``m1_axi_*`` … (weights).

    Args:
        config: the machine.
        dsp48: PE pairs of explicit DSP48E2 instances, for UltraScale+; else of arithmetic for any device and simulation. Both do
            the same in every cycle.
    """
    machine = to_rtlil(Accelerator(config, shared=True, dsp48=dsp48), "accelerator")
    text = to_verilog([machine, *shared_modules(config, dsp48=dsp48)])
    if dsp48:
        units = "|".join(PRODUCTS_IN_TABLES)
        text = re.sub(rf"^(?=module \\accelerator\.(?:{units})\b)", '(* use_dsp = "no" *)\n', text, flags=re.MULTILINE)
    return re.sub(r"\b([sm]\d*_axi)__", r"\1_", text)
