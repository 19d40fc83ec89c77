"""Re-packs beats into words of another size."""

from collections.abc import Sequence

import numpy as np
from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.commands import index_width


class Gearbox(wiring.Component):
    """Joins the valid units of successive beats and cuts them into words; a beat with `last` ends a run, whose last word is
    filled up with zeros.

    A beat in and a word out per cycle; 2 cycles from a beat to its first word. Units are as wide as alignment allows: bytes
    for rows at any address.

    Args:
        unit_width: bits of a unit.
        beat_units: units of a beat.
        word_units: sizes of words, in units; `size` of a beat chooses one, the same for all beats of a run.

    Members:
        beats: stream of ``data``; ``first``, the first valid unit; ``count``, how many are valid, at least 1; ``size``,
            index into `word_units`; ``last``, the run ends; ``final``, with ``last``, handed through.
        words: stream of ``data``, a word in the low units, what lies above is meaningless; ``last`` word of its run; ``final``.
    """

    def __init__(self, *, unit_width: int, beat_units: int, word_units: Sequence[int]):
        self._unit_width, self._beat_units, self._word_units = unit_width, beat_units, tuple(word_units)
        beat = data.StructLayout(
            {
                "data": beat_units * unit_width,
                "first": index_width(beat_units),
                "count": index_width(beat_units + 1),
                "size": index_width(len(self._word_units)),
                "last": 1,
                "final": 1,
            }
        )
        word = data.StructLayout({"data": max(self._word_units) * unit_width, "last": 1, "final": 1})
        super().__init__({"beats": In(stream.Signature(beat)), "words": Out(stream.Signature(word))})

    @staticmethod
    def model(run: np.ndarray, word_units: int) -> np.ndarray:
        """Words of one run.

        Args:
            run: its valid units in order, one dimension.
            word_units: units of a word.

        Returns:
            [words, word_units], the last one filled up with zeros.
        """
        words = -(-len(run) // word_units)
        return np.pad(run, (0, words * word_units - len(run))).reshape(words, word_units)

    def elaborate(self, platform) -> Module:
        unit, most = self._unit_width, max(self._word_units)
        m = Module()
        # Stage 1: valid units moved down to unit 0, zeros above.
        held = Signal(self.beats.payload.shape())
        held_valid = Signal()
        kept = Signal(self._beat_units * unit)
        for index in range(self._beat_units):
            m.d.comb += kept[index * unit : (index + 1) * unit].eq((self.beats.payload.count > index).replicate(unit))
        take = Signal()
        m.d.comb += self.beats.ready.eq(~held_valid | take)
        with m.If(self.beats.ready):
            m.d.sync += [
                held_valid.eq(self.beats.valid),
                held.eq(self.beats.payload),
                held.data.eq((self.beats.payload.data >> (self.beats.payload.first * unit)) & kept),
            ]

        # Stage 2: the buffer holds `level` units, zeros above; a run's end (`flush`) empties it before the next run enters.
        buffer = Signal((most - 1 + self._beat_units) * unit)
        level = Signal(range(most + self._beat_units))
        size_index = Signal(held.size.shape())
        flush = Signal()
        final = Signal()
        size = Signal(range(most + 1))
        shifted = Signal(buffer.shape())
        with m.Switch(size_index):
            for index, units in enumerate(self._word_units):
                with m.Case(index):
                    m.d.comb += [size.eq(units), shifted.eq(buffer >> (units * unit))]
        fire = Signal()
        remaining = Signal(level.shape())
        emptied = Signal()
        m.d.comb += [
            self.words.payload.data.eq(buffer[: most * unit]),
            self.words.payload.last.eq(flush & (level <= size)),
            self.words.payload.final.eq(final & self.words.payload.last),
            self.words.valid.eq(flush | ((level >= size) & (level != 0))),
            fire.eq(self.words.valid & self.words.ready),
            emptied.eq(fire & self.words.payload.last),
            remaining.eq(Mux(emptied, 0, Mux(fire, level - size, level))),
            take.eq(held_valid & (~flush | emptied) & (remaining < most)),
        ]
        m.d.sync += [
            buffer.eq(Mux(fire, shifted, buffer) | Mux(take, held.data << (remaining[: index_width(most)] * unit), 0)),
            level.eq(remaining + Mux(take, held.count, 0)),
        ]
        with m.If(take):
            m.d.sync += [flush.eq(held.last), final.eq(held.final), size_index.eq(held.size)]
        with m.Elif(emptied):
            m.d.sync += flush.eq(0)
        return m
