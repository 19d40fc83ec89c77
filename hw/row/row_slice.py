"""One row of the machine: everything that happens to one token of a row tile."""

from typing import Any

from amaranth import C, Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw import commands
from hw.config import AcceleratorConfig
from hw.isa import Post, Target
from hw.row.activation_bank import ActivationBank
from hw.row.collector_stage import CollectorStage
from hw.row.element_skew import delay_line
from hw.row.feed import Feed
from hw.row.lane import Lane, logit
from hw.row.normalizer import LayerNorm
from hw.row.processing_pair import ProcessingPair, pair_signature
from hw.row.reciprocal import Reciprocal
from hw.row.residual_bank import ResidualBank
from hw.row.softmax_unit import SoftmaxUnit
from hw.timing import Timing
from hw.verilog import SharedModule


def passed_down(config: AcceleratorConfig) -> tuple[str, ...]:
    """Members of a `RowSlice` whose ``_below`` twin drives the next row, beside the columns' weights."""
    names = ("feed", "lane", "norm", "load", "table_write", "collector")
    return (*names, "softmax") if config.softmax_pass else names


def row_signature(config: AcceleratorConfig) -> wiring.Signature:
    """Ports of a `RowSlice`."""
    layouts = {
        "feed": commands.feed_command(config),
        "lane": commands.lane_command(config),
        "norm": commands.norm_command(config),
        "load": commands.load_word(config),
        "table_write": commands.table_write(config),
        "collector": commands.collector_word(config),
    }
    if config.softmax_pass:
        layouts["softmax"] = commands.softmax_command(config)
    members = {name: In(layout) for name, layout in layouts.items()}
    members |= {f"{name}_below": Out(layout) for name, layout in layouts.items()}
    weights = commands.weight_word(config)
    members |= {"weights": In(weights).array(config.cols), "weights_below": Out(weights).array(config.cols)}
    return wiring.Signature(members | {"logits": Out(logit(config))})


class RowSlice(wiring.Component):
    """Banks, feed, PE pairs, drain delay, lane, LayerNorm and collector stage of one row.

    Args:
        config: the machine.
        shared: PE pairs are instances of the modules that `shared_modules` emits, not submodules.
        dsp48: PE pairs are cascades of DSP48E2s, else their behavioural twins.

    Members:
        feed, lane, norm, load, table_write: commands of `hw.commands`; the lane command comes `Timing.drain_latency` after the last
            feed command. With ``softmax_pass`` also softmax.
        weights: by column; of pair p `FEED_LATENCY` + p cycles after the feed command, and an element's `element_delays`.
        collector: the collector's slot from the row above.
        feed_below … collector_below: the same for the row below, one cycle later.
        logits: drained logits of this row's token.
    """

    def __init__(self, config: AcceleratorConfig, *, shared: bool = False, dsp48: bool = False):
        self.config = config
        self.shared = shared
        self.dsp48 = dsp48
        super().__init__(row_signature(config))

    def elaborate(self, platform) -> Module:
        m = Module()
        config = self.config
        m.submodules.bank = bank = ActivationBank(config)
        m.submodules.normalized_bank = normalized_bank = ActivationBank(config, config.normalized_words)
        m.submodules.feed = feed = Feed(config, dsp48=self.dsp48)
        m.submodules.reciprocal = reciprocal = Reciprocal(config)
        m.submodules.lane = lane = Lane(config)
        m.submodules.residual_bank = residual_bank = ResidualBank(config)
        m.submodules.layer_norm = layer_norm = LayerNorm(config)
        m.submodules.collector = collector = CollectorStage(config)
        unit = SoftmaxUnit(config) if config.softmax_pass else None
        exps, read_address = unit or feed, feed.bank_address
        if unit is not None:
            m.submodules.softmax_unit = unit
            read_address = Mux(unit.reading, unit.bank_address, feed.bank_address)
            self._pass_scores(m, unit, bank)
        m.d.comb += [
            feed.command.eq(self.feed),
            exps.table_write.eq(self.table_write),
            feed.bank_word.eq(bank.read_data),
            exps.row_max.eq(lane.row_max),
            bank.read_address.eq(read_address),
            feed.normalized_word.eq(normalized_bank.read_data),
            normalized_bank.read_address.eq(feed.normalized_address),
            lane.max_row_tile.eq(exps.max_row_tile),
            lane.command.eq(self.lane),
            lane.borrowed.eq(layer_norm.borrowed),
            layer_norm.borrow.eq(lane.borrow),
            lane.table_write.eq(self.table_write),
            lane.quotient.eq(reciprocal.quotient),
            lane.exponent.eq(reciprocal.exponent),
            lane.residual_word.eq(residual_bank.lane_word),
            reciprocal.start.eq(feed.sum_start),
            reciprocal.row_tile.eq(lane.reciprocal_row_tile),
            residual_bank.lane_read.eq(lane.residual_read),
            residual_bank.lane_write.eq(lane.residual_write),
            residual_bank.norm_read.eq(layer_norm.residual_read),
            layer_norm.command.eq(self.norm),
            layer_norm.update.eq(lane.statistics),
            layer_norm.residual_word.eq(residual_bank.norm_word),
            collector.above.eq(self.collector),
            collector.word.eq(lane.collector),
            self.collector_below.eq(collector.below),
            self.logits.eq(lane.logits),
        ]
        self._connect_columns(m, feed, lane)
        self._write_banks(m, bank, residual_bank, lane.activation_write, unit)
        norm_write = layer_norm.normalized_write
        m.d.comb += [
            normalized_bank.write_address.eq(norm_write.address),
            normalized_bank.write_enable.eq(Mux(norm_write.valid, norm_write.mask, 0)),
            normalized_bank.write_data.eq(norm_write.data),
        ]
        self._pass_down(m)
        return m

    def _pass_scores(self, m: Module, unit: SoftmaxUnit, bank: ActivationBank) -> None:
        """The pass that turns scores into exps has the bank for itself."""
        command, below = self.softmax, self.softmax_below
        m.d.comb += [unit.command.eq(command), unit.bank_word.eq(bank.read_data)]
        with m.If(command.valid):
            m.d.sync += [below.eq(command), below.skip.eq(command.skip - (command.skip != 0))]
            m.d.sync += below.units.eq(command.units - (command.skip == 0))
        m.d.sync += below.valid.eq(command.valid & ((command.skip != 0) | (command.units != 1)))

    def _connect_columns(self, m: Module, feed: Feed, lane: Lane) -> None:
        """The PE pairs, and behind their drain chain the delay line that waits for a division."""
        config = self.config
        before: Any = None
        for number in range(config.pairs):
            first, columns = 2 * number, min(2, config.cols - 2 * number)
            pair: Any
            if self.shared:
                pair = SharedModule(pair_signature(config, columns), pair_module_name(columns))
            else:
                pair = ProcessingPair(config, columns, self.dsp48)
            m.submodules[f"pair_{number}"] = pair
            for column in range(columns):
                m.d.comb += [
                    pair.weights[column].eq(self.weights[first + column]),
                    self.weights_below[first + column].eq(pair.weights_below[column]),
                ]
            for member in ("activation", "valid", "first", "last", "wide"):
                source = getattr(feed, member) if before is None else getattr(before, f"{member}_next")
                m.d.comb += getattr(pair, member).eq(source)
            if before is not None:
                m.d.comb += pair.chain_in.eq(before.chain_out)
            before = pair
        timing = Timing(config)
        wait = timing.drain_latency - timing.chain_latency
        m.d.comb += lane.column.eq(delay_line(m, before.chain_out.value, wait, "column"))
        if config.score_columns == 2:
            m.d.comb += lane.second.eq(delay_line(m, before.chain_out.second, wait, "second"))

    def _write_banks(
        self, m: Module, bank: ActivationBank, residual_bank: ResidualBank, lane_write, unit: SoftmaxUnit | None
    ) -> None:
        """LOAD, GEMM and SOFTMAX never write at the same time."""
        depth, load = self.config.pe_depth, self.load
        load_activation, load_residual = Signal(), Signal()
        enable = lane_write.valid << lane_write.element
        data = lane_write.data.replicate(depth)
        if self.config.score_columns == 2:
            enable |= lane_write.second_valid << lane_write.element << 1
            data = Cat(lane_write.data, lane_write.second).replicate(depth // 2)
        m.d.comb += [
            load_activation.eq(load.valid & (load.rows_left == 0) & (load.target == Target.ACTIVATION)),
            load_residual.eq(load.valid & (load.rows_left == 0) & (load.target == Target.RESIDUAL)),
            residual_bank.load_write.valid.eq(load_residual),
            residual_bank.load_write.address.eq(load.address),
            residual_bank.load_write.data.eq(load.data),
            bank.write_address.eq(lane_write.address),
            bank.write_enable.eq(enable),
            bank.write_data.eq(data),
        ]
        if unit is not None:
            with m.If(unit.write.valid):
                m.d.comb += [
                    bank.write_address.eq(unit.write.address),
                    bank.write_enable.eq(1 << unit.write.element),
                    bank.write_data.eq(Cat(unit.write.data, C(0, 1)).replicate(depth)),
                ]
        with m.If(load_activation):
            m.d.comb += [
                bank.write_address.eq(load.address),
                bank.write_enable.eq((1 << depth) - 1),
                bank.write_data.eq(load.data),
            ]

    def _pass_down(self, m: Module) -> None:
        """Commands a cycle later; what an empty one holds does not count."""
        flags = {"norm": ("valid", "statistics", "capture")}
        for name in ("feed", "lane", "norm", "load", "table_write"):
            command, below = getattr(self, name), getattr(self, f"{name}_below")
            with m.If(Cat(command[flag] for flag in flags.get(name, ("valid",))).any()):
                m.d.sync += below.eq(command)
            m.d.sync += [below[flag].eq(command[flag]) for flag in flags.get(name, ("valid",))]
        m.d.sync += self.load_below.valid.eq(self.load.valid & (self.load.rows_left != 0))
        with m.If(self.load.valid):
            m.d.sync += self.load_below.rows_left.eq(self.load.rows_left - 1)
        with m.If(self.lane.valid):
            m.d.sync += self.lane_below.tokens_left.eq(self.lane.tokens_left - (self.lane.tokens_left != 0))
            m.d.sync += self.lane_below.blank.eq(self.lane.blank >> 1)
        value = self.lane.post == Post.VALUE
        with m.If(self.lane.valid & ((self.lane.post == Post.KEY) | value)):
            m.d.sync += self.lane_below.kv_index.eq(self.lane.kv_index + 1)
            with m.If(self.lane.kv_index == Mux(value, self.config.pe_depth, self.config.cols) - 1):
                m.d.sync += [
                    self.lane_below.kv_index.eq(0),
                    self.lane_below.address.eq(self.lane.address + self.lane.kv_stride),
                ]


def pair_module_name(columns: int) -> str:
    """Name of the shared module of PE pairs with 2 columns, or 1."""
    return "processing_pair" if columns == 2 else "processing_single"
