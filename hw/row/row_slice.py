"""One row of the machine: everything that happens to one token of a row tile."""

from typing import Any

from amaranth import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw import tokens
from hw.config import AcceleratorConfig
from hw.isa import Post, Target
from hw.row.activation_bank import ActivationBank
from hw.row.collector_stage import CollectorStage
from hw.row.feed import Feed
from hw.row.lane import Lane, logit
from hw.row.normalizer import LayerNorm
from hw.row.processing_pair import ProcessingPair, pair_signature
from hw.row.reciprocal import Reciprocal
from hw.row.residual_bank import ResidualBank
from hw.timing import Timing
from hw.verilog import SharedModule

PASSED_DOWN = ("feed", "weights", "lane", "norm", "load", "table_write", "collector")
"""Members of a `RowSlice` whose ``_below`` twin drives the next row."""


def row_signature(config: AcceleratorConfig) -> wiring.Signature:
    """Ports of a `RowSlice`."""
    layouts = {
        "feed": tokens.feed_token(config),
        "weights": tokens.row_weights(config),
        "lane": tokens.lane_token(config),
        "norm": tokens.norm_token(config),
        "load": tokens.load_word(config),
        "table_write": tokens.table_write(config),
        "collector": tokens.collector_word(config),
    }
    members = {name: In(layout) for name, layout in layouts.items()}
    members |= {f"{name}_below": Out(layout) for name, layout in layouts.items()}
    return wiring.Signature(members | {"logits": Out(logit(config))})


class RowSlice(wiring.Component):
    """Banks, feed, PE pairs, drain delay, lane, LayerNorm and collector stage of one row.

    Arguments:
        config: the machine.
        shared: PE pairs are instances of the modules that `shared_modules` emits, not submodules.

    Members:
        feed, lane, norm, load, table_write: tokens of `hw.tokens`; the lane token comes `Timing.drain_latency` after the last
            feed token.
        weights: word of pair p `FEED_LATENCY` + p cycles after its feed token.
        collector: the collector's slot from the row above.
        feed_below … collector_below: the same for the row below, one cycle later.
        logits: drained logits of this row's token.
    """

    def __init__(self, config: AcceleratorConfig, *, shared: bool = False):
        self.config = config
        self.shared = shared
        super().__init__(row_signature(config))

    def elaborate(self, platform) -> Module:
        m = Module()
        config = self.config
        m.submodules.bank = bank = ActivationBank(config)
        m.submodules.feed = feed = Feed(config)
        m.submodules.reciprocal = reciprocal = Reciprocal(config)
        m.submodules.lane = lane = Lane(config)
        m.submodules.residual_bank = residual_bank = ResidualBank(config)
        m.submodules.layer_norm = layer_norm = LayerNorm(config)
        m.submodules.collector = collector = CollectorStage(config)
        m.d.comb += [
            feed.token.eq(self.feed),
            feed.table_write.eq(self.table_write),
            feed.bank_word.eq(bank.read_data),
            feed.row_max.eq(lane.row_max),
            bank.read_address.eq(feed.bank_address),
            lane.max_row_tile.eq(feed.max_row_tile),
            lane.token.eq(self.lane),
            lane.column.eq(self._columns(m, feed)),
            lane.table_write.eq(self.table_write),
            lane.quotient.eq(reciprocal.quotient),
            lane.exponent.eq(reciprocal.exponent),
            lane.residual_word.eq(residual_bank.word),
            reciprocal.start.eq(feed.sum_start),
            reciprocal.row_tile.eq(lane.reciprocal_row_tile),
            residual_bank.lane_read.eq(lane.residual_read),
            residual_bank.lane_write.eq(lane.residual_write),
            residual_bank.norm_read.eq(layer_norm.residual_read),
            layer_norm.token.eq(self.norm),
            layer_norm.update.eq(lane.statistics),
            layer_norm.residual_word.eq(residual_bank.word),
            collector.above.eq(self.collector),
            collector.word.eq(lane.collector),
            self.collector_below.eq(collector.below),
            self.logits.eq(lane.logits),
        ]
        self._write_banks(m, bank, residual_bank, lane.activation_write, layer_norm.activation_write)
        self._pass_down(m)
        return m

    def _columns(self, m: Module, feed: Feed) -> Signal:
        """The PE pairs, and behind their drain chain the delay line that waits for a division."""
        config = self.config
        before: Any = None
        for number in range(config.pairs):
            columns, name = min(2, config.cols - 2 * number), f"pair_{number}"
            pair: Any
            if self.shared:
                pair = SharedModule(pair_signature(config, columns), pair_module_name(columns))
            else:
                pair = ProcessingPair(config, columns)
            m.submodules[name] = pair
            m.d.comb += [pair.weights.eq(self.weights[name]), self.weights_below[name].eq(pair.weights_below)]
            for member in ("activation", "valid", "first", "last"):
                source = getattr(feed, member) if before is None else getattr(before, f"{member}_next")
                m.d.comb += getattr(pair, member).eq(source)
            if before is not None:
                m.d.comb += pair.chain_in.eq(before.chain_out)
            before = pair
        column = before.chain_out.value
        timing = Timing(config)
        for cycle in range(timing.drain_latency - timing.chain_latency):
            delayed = Signal.like(column, name=f"column_{cycle}", reset_less=True)
            m.d.sync += delayed.eq(column)
            column = delayed
        return column

    def _write_banks(self, m: Module, bank: ActivationBank, residual_bank: ResidualBank, lane_write, norm_write) -> None:
        """LOAD, NORM and GEMM never write at the same time."""
        depth, load = self.config.depth, self.load
        load_activation, load_residual = Signal(), Signal()
        m.d.comb += [
            load_activation.eq(load.valid & (load.rows_left == 0) & (load.target == Target.ACTIVATION)),
            load_residual.eq(load.valid & (load.rows_left == 0) & (load.target == Target.RESIDUAL)),
            residual_bank.load_write.valid.eq(load_residual),
            residual_bank.load_write.address.eq(load.address),
            residual_bank.load_write.data.eq(load.data),
            bank.write_address.eq(lane_write.address),
            bank.write_enable.eq(lane_write.valid << lane_write.element),
            bank.write_data.eq(lane_write.data.replicate(depth)),
        ]
        with m.If(norm_write.valid):
            m.d.comb += [
                bank.write_address.eq(norm_write.address),
                bank.write_enable.eq(norm_write.mask),
                bank.write_data.eq(norm_write.data),
            ]
        with m.If(load_activation):
            m.d.comb += [
                bank.write_address.eq(load.address),
                bank.write_enable.eq((1 << depth) - 1),
                bank.write_data.eq(load.data),
            ]

    def _pass_down(self, m: Module) -> None:
        for name in ("feed", "lane", "norm", "load", "table_write"):
            m.d.sync += getattr(self, f"{name}_below").eq(getattr(self, name))
        m.d.sync += [
            self.load_below.valid.eq(self.load.valid & (self.load.rows_left != 0)),
            self.load_below.rows_left.eq(self.load.rows_left - 1),
            self.lane_below.tokens_left.eq(self.lane.tokens_left - (self.lane.tokens_left != 0)),
        ]
        value = self.lane.post == Post.VALUE
        with m.If((self.lane.post == Post.KEY) | value):
            m.d.sync += self.lane_below.kv_index.eq(self.lane.kv_index + 1)
            with m.If(self.lane.kv_index == Mux(value, self.config.depth, self.config.cols) - 1):
                m.d.sync += [
                    self.lane_below.kv_index.eq(0),
                    self.lane_below.address.eq(self.lane.address + self.lane.kv_stride),
                ]


def pair_module_name(columns: int) -> str:
    """Name of the shared module of PE pairs with 2 columns, or 1."""
    return "processing_pair" if columns == 2 else "processing_single"
