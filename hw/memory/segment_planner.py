"""Takes the side loader's jobs apart into segments of memory."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw import tokens
from hw.config import PARAMETER_BYTES, TABLE_ENTRIES, AcceleratorConfig
from hw.memory.jobs import WORD_SIZES, JobKind, placement_layout, side_job
from hw.memory.segment_reader import segment_layout

BYTES_WIDTH = 26
"""Bits of a segment's length: 2^16 column tiles of 64 columns of 8 bytes would be 2^25."""


class SegmentPlanner(wiring.Component):
    """One segment for PARAMETERS and TABLE; outer, inner and segment loop for ROWS, a segment every 2 cycles at most.

    Members:
        job: stream of `side_job`; taken with its last segment.
        placement: stream of `placement_layout`, one per job, before its first segment.
        segment: stream of `segment_layout`; a run is a token of ROWS, ``final`` marks the job's last run.
        rows_go, address_error: as `SideLoader`.
    """

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        super().__init__(
            {
                "job": In(stream.Signature(side_job(config))),
                "placement": Out(stream.Signature(placement_layout(config))),
                "segment": Out(stream.Signature(segment_layout(config, WORD_SIZES))),
                "rows_go": In(1),
                "address_error": Out(1),
            }
        )

    def elaborate(self, platform) -> Module:
        config = self._config
        address_bits = (config.axi_bytes - 1).bit_length()
        # Every end is checked before a stride is added, so one bit above the wider of address and stride cannot overflow.
        width = max(config.address_width, 32) + 1
        m = Module()
        job, rows = self.job.payload, self.job.payload.rows
        is_rows = Signal()
        go = Signal()
        row_tile_words = Signal(tokens.bank_address_width(config))
        m.d.comb += is_rows.eq(job.kind == JobKind.ROWS)
        m.d.sync += row_tile_words.eq(rows.first_row_tile[: tokens.index_width(config.row_tiles)] * rows.stride)
        with m.If(self.rows_go):
            m.d.sync += go.eq(1)

        run, token, segment = Signal(width), Signal(width), Signal(width)  # addresses where the loops stand
        runs_left, tokens_left, segments_left = Signal(16), Signal(16), Signal(16)
        last_segment, last_token, last_run = Signal(), Signal(), Signal()
        size_bytes = Signal(BYTES_WIDTH)
        covered = Signal(BYTES_WIDTH + 1)
        m.d.comb += [
            last_segment.eq(~is_rows | (segments_left == 1)),
            last_token.eq(~is_rows | (tokens_left == 1)),
            last_run.eq(~is_rows | (runs_left == 1)),
            covered.eq(segment[:address_bits] + size_bytes),
        ]
        with m.Switch(job.kind):
            with m.Case(JobKind.PARAMETERS):
                m.d.sync += size_bytes.eq(job.column_tiles * (config.cols * PARAMETER_BYTES))
            with m.Case(JobKind.TABLE):
                m.d.sync += size_bytes.eq(TABLE_ENTRIES)
            with m.Default():
                m.d.sync += size_bytes.eq(rows.segment_bytes)

        place, send = self.placement.payload, self.segment.payload
        m.d.comb += [
            place.kind.eq(job.kind),
            place.exponential.eq(job.exponential),
            place.target.eq(rows.target[0]),
            place.base.eq(rows.base + row_tile_words),
            place.stride.eq(rows.stride),
            place.row.eq(rows.first_row),
        ]
        with m.FSM():
            with m.State("JOB"):
                m.d.sync += [
                    run.eq(job.address), token.eq(job.address), segment.eq(job.address),
                    runs_left.eq(rows.tokens_outer), tokens_left.eq(rows.tokens_inner), segments_left.eq(rows.segments),
                ]  # fmt: skip
                with m.If(self.job.valid & (~is_rows | go)):
                    m.next = "PLACE"
                    with m.If(is_rows):
                        m.d.sync += go.eq(0)
            with m.State("PLACE"):
                m.d.comb += self.placement.valid.eq(1)
                with m.If(self.placement.ready):
                    m.next = "CHECK"
            with m.State("CHECK"):
                m.d.sync += [
                    send.address.eq(segment),
                    send.beats.eq((covered + (config.axi_bytes - 1)) >> address_bits),
                    send.last_bytes.eq((covered - 1)[:address_bits] + 1),
                    send.size.eq(Mux(is_rows, JobKind.ROWS + rows.target[0], job.kind)),
                    send.last.eq(last_segment),
                    send.final.eq(last_token & last_run),
                ]
                m.next = "SEND"
                with m.If(is_rows & (segment + rows.segment_bytes > job.limit)):
                    m.d.comb += self.address_error.eq(1)
                    m.next = "HALT"
            with m.State("SEND"):
                m.d.comb += self.segment.valid.eq(1)
                with m.If(self.segment.ready):
                    m.d.comb += self.job.ready.eq(last_segment & last_token & last_run)
                    m.next = "CHECK"
                    with m.If(self.job.ready):
                        m.next = "JOB"
                    self._advance(m, (run, token, segment), (runs_left, tokens_left, segments_left), rows)
            with m.State("HALT"):
                pass
        return m

    @staticmethod
    def _advance(m: Module, addresses: tuple, left: tuple, rows: data.View) -> None:
        """Step of the three loops: to the next segment, else the next token, else the next run."""
        run, token, segment = addresses
        runs_left, tokens_left, segments_left = left
        with m.If(segments_left != 1):
            m.d.sync += [segment.eq(segment + rows.segment_stride), segments_left.eq(segments_left - 1)]
        with m.Else():
            m.d.sync += segments_left.eq(rows.segments)
            with m.If(tokens_left != 1):
                following = token + rows.inner_stride
                m.d.sync += [token.eq(following), segment.eq(following), tokens_left.eq(tokens_left - 1)]
            with m.Else():
                following = run + rows.outer_stride
                m.d.sync += [run.eq(following), token.eq(following), segment.eq(following)]
                m.d.sync += [tokens_left.eq(rows.tokens_inner), runs_left.eq(runs_left - 1)]
