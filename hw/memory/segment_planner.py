"""Takes the side loader's jobs apart into segments of memory."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw import commands
from hw.config import PARAMETER_BYTES, TABLE_ENTRIES, AcceleratorConfig
from hw.memory.jobs import WORD_SIZES, JobKind, placement_layout, side_job
from hw.memory.segment_reader import segment_layout

BYTES_WIDTH = 30
"""Bits of a segment's length: 64 * 256 tokens of less than 2^16 contiguous bytes are less than 2^30."""


class SegmentPlanner(wiring.Component):
    """One segment for TABLE, one per repeat for PARAMETERS; outer, inner and segment loop for ROWS, where contiguous tokens of the
    inner loop are one segment; a segment every 2 cycles at most.

    Members:
        job: stream of `side_job`; taken with its last segment.
        placement: stream of `placement_layout`, one per job, before its first segment.
        segment: stream of `segment_layout`; a run is a token of ROWS, the whole job if ``contiguous``, else a segment;
            ``final`` marks the job's last run.
        halted: a segment of the job whose placement was the last one would end beyond `limit`; nothing more is planned until reset.
    """

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        super().__init__(
            {
                "job": In(stream.Signature(side_job(config))),
                "placement": Out(stream.Signature(placement_layout(config))),
                "segment": Out(stream.Signature(segment_layout(config, WORD_SIZES))),
                "halted": Out(1),
            }
        )

    def elaborate(self, platform) -> Module:
        config = self._config
        address_bits = (config.axi_bytes - 1).bit_length()
        # Every end is checked before a stride is added, so one bit above the wider of address and stride cannot overflow.
        width = max(config.address_width, 32) + 1
        m = Module()
        job, rows = self.job.payload, self.job.payload.rows
        is_rows, contiguous = Signal(), Signal()
        row_tile_words = Signal(commands.bank_address_width(config))
        m.d.comb += [is_rows.eq(job.kind == JobKind.ROWS), contiguous.eq(is_rows & job.contiguous)]
        m.d.sync += row_tile_words.eq(rows.first_row_tile[: commands.index_width(config.row_tiles)] * rows.stride)

        run, token, segment = Signal(width), Signal(width), Signal(width)  # addresses where the loops stand
        runs_left, tokens_left, segments_left = Signal(16), Signal(16), Signal(16)
        last_segment, last_token, last_run = Signal(), Signal(), Signal()
        size_bytes = Signal(BYTES_WIDTH)
        covered = Signal(BYTES_WIDTH + 1)
        m.d.comb += [
            last_segment.eq(~is_rows | (segments_left == 1)),
            last_token.eq(~is_rows | job.contiguous | (tokens_left == 1)),
            last_run.eq(runs_left == 1),
            covered.eq(segment[:address_bits] + size_bytes),
        ]
        contiguous_bytes = Signal(BYTES_WIDTH)
        m.d.sync += contiguous_bytes.eq(rows.tokens_inner * rows.segment_bytes)
        with m.Switch(job.kind):
            with m.Case(JobKind.PARAMETERS):
                m.d.sync += size_bytes.eq(job.column_tiles * (config.cols * PARAMETER_BYTES))
            with m.Case(JobKind.TABLE):
                m.d.sync += size_bytes.eq(TABLE_ENTRIES)
            with m.Default():
                # two cycles after a job is seen, when it is first used, the product is here too
                m.d.sync += size_bytes.eq(Mux(contiguous, contiguous_bytes, rows.segment_bytes))

        place, send = self.placement.payload, self.segment.payload
        m.d.comb += [
            place.kind.eq(job.kind),
            place.exponential.eq(job.exponential),
            place.target.eq(rows.target[0]),
            place.base.eq(rows.base + row_tile_words),
            place.stride.eq(rows.stride),
            place.row.eq(rows.first_row),
            place.contiguous.eq(job.contiguous),
            place.tokens.eq(Mux(job.contiguous, rows.tokens_inner, 1)),
            place.segments.eq(Mux(job.contiguous, rows.segments, 1)),
            place.segment_words.eq(rows.segment_words),
        ]
        with m.FSM():
            with m.State("JOB"):
                m.d.sync += [
                    run.eq(job.address), token.eq(job.address), segment.eq(job.address),
                    tokens_left.eq(rows.tokens_inner), segments_left.eq(rows.segments),
                ]  # fmt: skip
                with m.Switch(job.kind):
                    with m.Case(JobKind.PARAMETERS):
                        m.d.sync += runs_left.eq(job.repeats)
                    with m.Case(JobKind.TABLE):
                        m.d.sync += runs_left.eq(1)
                    with m.Default():
                        m.d.sync += runs_left.eq(rows.tokens_outer)
                with m.If(self.job.valid):
                    m.next = "PLACE"
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
                    # contiguous segments are whole words, so their words need no flush
                    send.last.eq(last_segment & (last_run | ~contiguous)),
                    send.final.eq(last_token & last_run),
                ]
                m.next = "SEND"
                with m.If(is_rows & (segment + size_bytes > job.limit)):
                    m.next = "HALT"
            with m.State("SEND"):
                m.d.comb += self.segment.valid.eq(1)
                with m.If(self.segment.ready):
                    m.d.comb += self.job.ready.eq(last_segment & last_token & last_run)
                    m.next = "CHECK"
                    with m.If(self.job.ready):
                        m.next = "JOB"
                    with m.If(is_rows):
                        self._advance(m, (run, token, segment), (runs_left, tokens_left, segments_left), rows, last_token)
                    with m.Else():
                        m.d.sync += runs_left.eq(runs_left - 1)
            with m.State("HALT"):
                m.d.comb += self.halted.eq(1)
        return m

    @staticmethod
    def _advance(m: Module, addresses: tuple, left: tuple, rows: data.View, last_token: Signal) -> None:
        """Step of the three loops: to the next segment, else the next token, else the next run."""
        run, token, segment = addresses
        runs_left, tokens_left, segments_left = left
        with m.If(segments_left != 1):
            m.d.sync += [segment.eq(segment + rows.segment_stride), segments_left.eq(segments_left - 1)]
        with m.Else():
            m.d.sync += segments_left.eq(rows.segments)
            with m.If(~last_token):
                following = token + rows.inner_stride
                m.d.sync += [token.eq(following), segment.eq(following), tokens_left.eq(tokens_left - 1)]
            with m.Else():
                following = run + rows.outer_stride
                m.d.sync += [run.eq(following), token.eq(following), segment.eq(following)]
                m.d.sync += [tokens_left.eq(rows.tokens_inner), runs_left.eq(runs_left - 1)]
