"""Writes an image's result record."""

import numpy as np
from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw import isa, signatures
from hw.config import AcceleratorConfig, ceil_div
from hw.memory.axi import BOUNDARY, BURST_INCR, AXI4WriteSignature
from hw.memory.jobs import record_layout

RECORD_WORDS = len(isa.RECORD_FIELDS)
"""32-bit words before the logits."""


class ResultWriter(wiring.Component):
    """Result record of `isa.RECORD_FIELDS`, logits sign-extended to 32 bits, zeros up to a whole beat.

    One 32-bit word a cycle; INCR bursts of at most ``burst_beats`` beats that stay within 4 KiB.

    Members:
        record: `signatures.record`.
        logits: `signatures.logit_read`.
        error: pulse with each write response that is SLVERR or DECERR.
        abort: while 1: the burst in flight ends regularly, then no more.
        idle: nothing in work; no burst without its response.
        beat_accepted: pulse with each data beat.
        axi: AXI4 write master; ``awid`` is 0, all bytes enabled.
    """

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        super().__init__(
            {
                "record": In(signatures.record(config)),
                "logits": Out(signatures.logit_read(config)),
                "error": Out(1),
                "abort": In(1),
                "idle": Out(1),
                "beat_accepted": Out(1),
                "axi": Out(AXI4WriteSignature(config.address_width, config.axi_bytes)),
            }
        )

    @staticmethod
    def model(config: AcceleratorConfig, head: dict[str, int], logits: np.ndarray) -> bytes:
        """Bytes of a record.

        Args:
            config: the machine.
            head: fields of `isa.RECORD_FIELDS`; those left out are 0.
            logits: [classes] integers of 24 bits.
        """
        words = np.array([head.get(name, 0) for name, _ in isa.RECORD_FIELDS], dtype="<u4")
        record = words.tobytes() + np.asarray(logits, dtype="<i4").tobytes()
        return record + bytes(-len(record) % config.axi_bytes)

    def elaborate(self, platform) -> Module:
        config = self._config
        m = Module()
        address_bits = (config.axi_bytes - 1).bit_length()
        beat_words = config.axi_bytes // 4
        boundary_beats = BOUNDARY // config.axi_bytes
        total_words = config.classes + RECORD_WORDS
        record = Signal(record_layout(config))
        address = Signal(config.address_width - address_bits)
        beats_left = Signal(range(ceil_div(4 * total_words, config.axi_bytes) + 1))
        burst_left = Signal(range(config.burst_beats + 1))
        pending = Signal(len(beats_left))  # bursts without a response

        to_boundary = Signal(range(boundary_beats + 1))
        size = Signal(range(config.burst_beats + 1))
        m.d.comb += [
            to_boundary.eq(boundary_beats - address[: (boundary_beats - 1).bit_length()]),
            size.eq(config.burst_beats),
        ]
        with m.If((beats_left < config.burst_beats) & (beats_left <= to_boundary)):
            m.d.comb += size.eq(beats_left)
        with m.Elif(to_boundary < config.burst_beats):
            m.d.comb += size.eq(to_boundary)

        m.submodules.words = words = RecordWords(config)
        wiring.connect(m, wiring.flipped(self.logits), words.logits)
        m.d.comb += [
            words.record.eq(record),
            words.restart.eq(self.record.start & self.idle),
        ]
        axi = self.axi
        slot = Signal(range(beat_words))
        answered = Signal()
        m.d.comb += [
            axi.awsize.eq(address_bits), axi.awburst.eq(BURST_INCR), axi.awaddr.eq(address << address_bits),
            axi.awlen.eq(size - 1), axi.wstrb.eq(~0), axi.wlast.eq(burst_left == 1), axi.bready.eq(1),
            answered.eq(axi.bvalid & axi.bready), self.error.eq(answered & axi.bresp[1]),
            self.beat_accepted.eq(axi.wvalid & axi.wready),
        ]  # fmt: skip
        m.d.sync += pending.eq(pending + (axi.awvalid & axi.awready) - answered)
        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += self.idle.eq(1)
                with m.If(self.record.start & ~self.abort):
                    m.d.sync += [
                        record.eq(self.record.head),
                        address.eq(self.record.head.address >> address_bits),
                        beats_left.eq((4 * (self.record.head.classes + RECORD_WORDS) + config.axi_bytes - 1) >> address_bits),
                    ]
                    m.next = "BURST"
            with m.State("BURST"):
                m.d.comb += axi.awvalid.eq(1)
                m.d.sync += burst_left.eq(size)
                with m.If(axi.awready):
                    m.d.sync += [address.eq(address + size), beats_left.eq(beats_left - size)]
                    m.next = "FILL"
            with m.State("FILL"):
                m.d.comb += words.advance.eq(1)
                m.d.sync += [axi.wdata.word_select(slot, 32).eq(words.word), slot.eq(slot + 1)]
                with m.If(slot == beat_words - 1):
                    m.d.sync += [axi.wvalid.eq(1), slot.eq(0)]
                    m.next = "SEND"
            with m.State("SEND"):
                with m.If(axi.wready):
                    m.d.sync += [axi.wvalid.eq(0), burst_left.eq(burst_left - 1)]
                    m.next = "FILL"
                    with m.If(axi.wlast):
                        m.next = "BURST"
                        with m.If((beats_left == 0) | self.abort):
                            m.next = "RESPONSE"
            with m.State("RESPONSE"):
                with m.If(pending == 0):
                    m.d.comb += self.record.done.eq(beats_left == 0)
                    m.next = "IDLE"
        return m


class RecordWords(wiring.Component):
    """A record's 32-bit words in order: head, logits, zeros.

    Members:
        restart: the next `word` is the first.
        advance: `word` is taken; the next one follows one cycle later.
        word: the current word.
        record: `record_layout`, holds still.
        logits: as `ResultWriter`.
    """

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        super().__init__(
            {
                "restart": In(1),
                "advance": In(1),
                "word": Out(32),
                "record": In(record_layout(config)),
                "logits": Out(signatures.logit_read(config)),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        words = RECORD_WORDS + self._config.classes + self._config.axi_bytes // 4
        index = Signal(range(words + 1))
        following = Signal.like(index)
        m.d.comb += [
            following.eq(Mux(self.restart, 0, index + self.advance)),
            self.logits.address.eq(following - RECORD_WORDS),
        ]
        m.d.sync += index.eq(following)
        with m.Switch(index):
            for position, (name, _) in enumerate(isa.RECORD_FIELDS):
                with m.Case(position):
                    m.d.comb += self.word.eq(0 if name.startswith("reserved") else self.record[name])
            with m.Default():
                with m.If(index < self.record.classes + RECORD_WORDS):
                    m.d.comb += self.word.eq(self.logits.logit)
        return m
