"""Delay of operand words before the first PE pair, once for all pairs: element by element, or whole words."""

from amaranth import Module, Signal
from amaranth.hdl import Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw import numerics
from hw.commands import weight_word
from hw.config import AcceleratorConfig
from hw.timing import PAIR_LATENCY, Timing

TWIN_LATENCY = 3
"""Operands at the input of a `ProcessingPair` without DSP48E2s to its captured accumulators: input, sum, accumulate."""


def operand_delay(config: AcceleratorConfig, *, dsp48: bool) -> int:
    """Cycles by which the last element of a word, and ``valid``, ``first``, ``last`` and ``wide`` with it, come to the first pair
    after the word would without skew. The twin's pairs have fewer registers, and wait here for what they lack."""
    return Timing(config).skew + (0 if dsp48 else PAIR_LATENCY - TWIN_LATENCY)


def element_delays(config: AcceleratorConfig, *, dsp48: bool) -> list[int]:
    """Delay of each element of a word, in cycles: a cascade adds one product a cycle; the twin adds all at once."""
    if dsp48:
        return [k % numerics.PACKED_CHAIN for k in range(config.pe_depth)]
    return [operand_delay(config, dsp48=False)] * config.pe_depth


def delay_line(m: Module, value: Value, cycles: int, name: str) -> Value:
    """``value`` so many cycles later; registers without a reset or an enable, as shift register LUTs want them."""
    for cycle in range(cycles):
        delayed = Signal.like(value, name=f"{name}_{cycle}", reset_less=True)
        m.d.sync += delayed.eq(value)
        value = delayed
    return value


class ElementSkew(wiring.Component):
    """Delays an activation or weight word as the first PE pair wants it.

    Args:
        config: the machine.
        dsp48: pairs are cascades of DSP48E2s, so element k is delayed by ``k % numerics.PACKED_CHAIN`` cycles; else all elements
            by `operand_delay`.

    Members:
        word: ``pe_depth`` int8.
        skewed: the same, delayed.
    """

    def __init__(self, config: AcceleratorConfig, *, dsp48: bool = False):
        self._config = config
        self._dsp48 = dsp48
        super().__init__({"word": In(weight_word(config)), "skewed": Out(weight_word(config))})

    def elaborate(self, platform) -> Module:
        m = Module()
        if not self._dsp48:
            m.d.comb += self.skewed.eq(delay_line(m, self.word, operand_delay(self._config, dsp48=False), "word"))
            return m
        for k, cycles in enumerate(element_delays(self._config, dsp48=True)):
            m.d.comb += self.skewed[k].eq(delay_line(m, self.word[k], cycles, f"element_{k}"))
        return m
