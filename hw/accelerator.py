"""The whole machine, and its Verilog."""

import re

from amaranth.hdl import Module, ResetInserter
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw import isa
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

    Arguments:
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
        wiring.connect(m, wiring.flipped(self.s_axi), registers.bus)
        wiring.connect(m, wiring.flipped(self.m0_axi), system.axi)
        for port, axi in enumerate(weights.axi):
            wiring.connect(m, wiring.flipped(getattr(self, f"m{port + 1}_axi")), axi)
        wiring.connect(m, sequencer.command, system.command)
        wiring.connect(m, system.beats, sequencer.beats)
        wiring.connect(m, sequencer.side_job, system.side_job)
        wiring.connect(m, sequencer.weight_job, weights.job)
        m.d.comb += [
            # weights and activations
            weights.command.eq(sequencer.weight),
            weights.collected.eq(rows.collector),
            *(word.eq(source) for word, source in zip(rows.weights, weights.weights, strict=True)),
            *(getattr(rows, name).eq(getattr(sequencer, name)) for name in ("feed", "lane", "norm")),
            *(getattr(rows, name).eq(getattr(system, name)) for name in ("load", "table_write")),
            sequencer.logits.eq(rows.logits),
            # credits
            sequencer.weight_available.eq(weights.tile_available),
            weights.tile_take.eq(sequencer.weight_take),
            weights.release.eq(sequencer.weight_release),
            weights.release_words.eq(sequencer.weight_release_words),
            sequencer.parameter_loaded.eq(system.parameter_tile_done),
            system.parameter_release.eq(sequencer.parameter_release),
            sequencer.table_loaded.eq(system.table_done),
            system.table_release.eq(sequencer.table_release),
            system.rows_go.eq(sequencer.rows_go),
            sequencer.rows_done.eq(system.rows_done),
            # requantization parameters
            parameters.write.eq(system.parameter_write),
            parameters.slot.eq(sequencer.slot),
            parameters.column.eq(sequencer.column),
            sequencer.parameters.eq(parameters.parameters),
            # result record
            system.logit.eq(sequencer.logit),
            sequencer.logit_address.eq(system.logit_address),
            system.record_start.eq(loop.record_start),
            system.record.eq(loop.record),
            loop.record_done.eq(system.record_done),
        ]
        if config.softmax_pass:
            m.d.comb += rows.softmax.eq(sequencer.softmax)
        self._connect_control(m, registers, counters, loop, sequencer)
        m.d.comb += [
            loop.idle.eq(system.idle & weights.idle & sequencer.settled),
            loop.axi_error.eq(system.error | weights.error),
            loop.unit_error.eq(sequencer.error),
            system.abort.eq(loop.flush),
            weights.abort.eq(loop.flush),
            counters.weight_beats.eq(weights.beats_accepted),
            counters.read_beat.eq(system.read_beat),
            counters.written_beat.eq(system.written_beat),
        ]
        with m.If(system.address_error):
            m.d.comb += [loop.unit_error.code.eq(isa.Error.ADDRESS), loop.unit_error.index.eq(sequencer.index)]
        return m

    def _connect_control(self, m: Module, registers: Registers, counters: Counters, loop: ImageLoop, sequencer: Sequencer) -> None:
        """Registers, counters and the loop over images with the sequencer."""
        m.d.comb += [
            *(getattr(loop, name).eq(getattr(registers, name)) for name in ("start", "soft_reset", "clear_interrupt", "settings")),
            *(getattr(registers, name).eq(getattr(loop, name)) for name in ("busy", "done", "error", "images_done", "pending")),
            *(
                getattr(loop, name).eq(getattr(sequencer, name))
                for name in ("index", "gate_end", "gate_classes", "gate_done", "entropy", "top1")
            ),
            sequencer.settings.eq(registers.settings),
            sequencer.image_address.eq(loop.image_address),
            sequencer.start.eq(loop.image_start),
            sequencer.proceed.eq(loop.proceed),
            sequencer.flush.eq(loop.flush),
            counters.clear.eq(loop.clear_counters),
            counters.busy.eq(loop.busy),
            counters.operation.eq(sequencer.operation),
            *(getattr(counters, name).eq(getattr(sequencer, name)) for name in ("array", "attention_array", "tiles", "stall")),
            counters.norm.eq(sequencer.normalizes),
            counters.gate.eq(sequencer.gate_busy),
            counters.descriptors.eq(sequencer.executed),
            counters.descriptors_skipped.eq(sequencer.skipped),
            counters.exits_low.eq(loop.exited_low),
            registers.counters.eq(counters.values),
            self.interrupt.eq(registers.interrupt),
        ]


def generate_verilog(config: AcceleratorConfig, *, dsp48: bool = False) -> str:
    """Verilog of the module ``accelerator`` and everything below it.

    Ports: ``clk``, ``rst``, ``interrupt``, ``s_axi_*`` (control), ``m0_axi_*`` (system) and ``m1_axi_*`` … (weights).

    Arguments:
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
