"""Two processing elements that share one packed product per element: the systolic array's cell."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from amaranth import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw import numerics
from hw.config import AcceleratorConfig
from hw.tokens import pair_weights

PACKED_SHIFT = 18
"""Bit position of the second weight in a packed product, and bits of the low field."""

_FLOAT32_BLOCK = (1 << 24) // (128 * 128)  # products of int8 whose sum float32 holds exactly


def word_layout(config: AcceleratorConfig) -> data.ArrayLayout:
    """One activation word: ``depth`` int8."""
    return data.ArrayLayout(signed(8), config.depth)


def chain_layout(config: AcceleratorConfig) -> data.StructLayout:
    """One slot of the drain chain: an accumulator, or an empty slot."""
    return data.StructLayout({"valid": 1, "value": signed(config.accumulator_width)})


def packed_operand(weight: data.View) -> Value:
    """``w1 * 2^18 + w0``, signed 27: the DSP48E2's wide operand, of an element of `tokens.pair_weights` of 2 columns."""
    return Cat(weight.low, weight.low[-1].replicate(PACKED_SHIFT - len(weight.low)), weight.high).as_signed()


def chain_fields(chain: Value) -> tuple[Value, Value, Value]:
    """Both columns' sums out of the sum of at most `numerics.PACKED_CHAIN` packed products.

    The low column's sum lies in [-130,048, 131,072], one beyond 18 bits: the field's sign bit alone does not tell 2^17 from
    -2^17, but a negative sum is at least 1,024 above -2^17 and so has one of the bits 10 to 16 set.

    Returns:
        The low sum, signed 19; the high sum less the borrow; the borrow, 1 where the low sum is negative.
    """
    negative = chain[PACKED_SHIFT - 1] & chain[10 : PACKED_SHIFT - 1].any()
    return Cat(chain[:PACKED_SHIFT], negative).as_signed(), chain[PACKED_SHIFT:].as_signed(), negative


def balanced_sum(terms: Sequence[Value]) -> Value:
    """Sum of the terms as a tree of adders of the least depth."""
    while len(terms) > 1:
        terms = [sum(terms[index + 1 : index + 2], terms[index]) for index in range(0, len(terms), 2)]
    return terms[0]


def pair_signature(config: AcceleratorConfig, columns: int) -> wiring.Signature:
    """Ports of a `ProcessingPair`."""
    word = word_layout(config)
    weights = pair_weights(config, columns)
    return wiring.Signature(
        {
            "activation": In(word),
            "valid": In(1),
            "first": In(1),
            "last": In(1),
            "weights": In(weights),
            "chain_in": In(chain_layout(config)),
            "activation_next": Out(word),
            "valid_next": Out(1),
            "first_next": Out(1),
            "last_next": Out(1),
            "weights_below": Out(weights),
            "chain_out": Out(chain_layout(config)),
        }
    )


class ProcessingPair(wiring.Component):
    """Output-stationary dot products of one activation word stream with two weight word streams.

    Stages: input, products, chain sums, accumulate; so a tile's accumulators are captured ``timing.PAIR_LATENCY`` cycles
    after its last operands, and the chain register holds column 0 of an empty chain one cycle later. A product is
    ``(w1 * 2^18 + w0) * a``, in one DSP48E2; sums of at most `numerics.PACKED_CHAIN` of them are split by `chain_fields`, so
    every int8 operand is exact, -128 included.

    Arguments:
        config: the machine.
        columns: 2, or 1 for the last pair of an odd number of columns.

    Members:
        activation, valid, first, last: operand word; ``first`` restarts the accumulators, ``last`` captures them.
        weights: `tokens.pair_weights`, beside the activation.
        chain_in, chain_out: drain chain; the value is an accumulator of 27 bits. A captured value enters the chain, even
            column first, where the incoming slot is empty.
        activation_next, valid_next, first_next, last_next: the operands one cycle later, for the next pair.
        weights_below: the weights one cycle later, for the row below.
    """

    def __init__(self, config: AcceleratorConfig, columns: int = 2):
        self.config = config
        self.columns = columns
        super().__init__(pair_signature(config, columns))

    @staticmethod
    def model(activations: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Accumulators of a whole GEMM, exactly (no wrap: the compiler keeps them below 2^26).

        Arguments:
            activations: int8 [..., tokens, K].
            weights: int8 [K, N], or [..., K, N] with the same leading axes.

        Returns:
            int64 [..., tokens, N].
        """
        k = activations.shape[-1]
        left, right = activations.astype(np.float32), weights.astype(np.float32)
        if right.ndim == 2:  # one large product is much faster than many small ones
            left = left.reshape(-1, k)
        total = np.matmul(left[..., :_FLOAT32_BLOCK], right[..., :_FLOAT32_BLOCK, :]).astype(np.int64)
        for start in range(_FLOAT32_BLOCK, k, _FLOAT32_BLOCK):
            block = slice(start, start + _FLOAT32_BLOCK)
            total += np.matmul(left[..., block], right[..., block, :]).astype(np.int64)
        return total.reshape(*activations.shape[:-1], weights.shape[-1])

    def elaborate(self, platform):
        m = Module()
        first, last, valid, chains = self._pipeline(m)
        captured, pending = [], []
        for column in range(self.columns):
            accumulator, total, capture = (
                Signal(signed(self.config.accumulator_width), name=f"{name}_{column}", reset_less=True)
                for name in ("accumulator", "total", "captured")
            )
            value = Mux(first, 0, accumulator)
            for chain in chains:
                value = self._accumulate(chain, column, value)
            m.d.comb += total.eq(value)
            with m.If(valid):
                m.d.sync += accumulator.eq(total)
            with m.If(valid & last):
                m.d.sync += capture.eq(total)
            captured.append(capture)
            pending.append(Signal(name=f"pending_{column}"))
        self._drain(m, captured, pending)
        with m.If(valid & last):  # wins over the drain, which at the least interval takes the last value just now
            m.d.sync += [waiting.eq(1) for waiting in pending]
        return m

    def _pipeline(self, m: Module) -> tuple[Signal, Signal, Signal, list[Signal]]:
        """Input registers, products and chain sums; returns ``first``, ``last`` and ``valid`` beside the sums."""
        activation = Signal(word_layout(self.config), reset_less=True)
        weights = Signal(pair_weights(self.config, self.columns), reset_less=True)
        first, last = ([Signal(name=f"{name}_{i}", reset_less=True) for i in range(3)] for name in ("first", "last"))
        valid = [Signal(name=f"valid_{i}") for i in range(3)]
        m.d.sync += [activation.eq(self.activation), weights.eq(self.weights)]
        for stages, source in ((first, self.first), (last, self.last), (valid, self.valid)):
            m.d.sync += [stage.eq(before) for before, stage in pairwise([source, *stages])]
        m.d.comb += [
            self.activation_next.eq(activation),
            self.weights_below.eq(weights),
            self.first_next.eq(first[0]),
            self.last_next.eq(last[0]),
            self.valid_next.eq(valid[0]),
        ]
        products = []
        for k in range(self.config.depth):
            operand = packed_operand(weights[k]) if self.columns == 2 else weights[k]
            # the largest product is (-128 * 2^18 - 128) * -128, so its 35th bit would only repeat the sign
            product = Signal(signed(34 if self.columns == 2 else 16), name=f"product_{k}", reset_less=True)
            m.d.sync += product.eq(operand * activation[k])
            products.append(product)
        chains = []
        for start in range(0, self.config.depth, numerics.PACKED_CHAIN):
            total = balanced_sum(products[start : start + numerics.PACKED_CHAIN])
            chain = Signal(total.shape(), name=f"chain_{start}", reset_less=True)
            m.d.sync += chain.eq(total)
            chains.append(chain)
        return first[-1], last[-1], valid[-1], chains

    def _accumulate(self, chain: Signal, column: int, value: Value) -> Value:
        """A column's sum out of a chain, added to ``value``; the high field's borrow goes into the adder's carry."""
        if self.columns == 1:
            return chain + value
        low, high, borrow = chain_fields(chain)
        if column == 0:
            return low + value
        return (Cat(borrow, high).as_signed() + Cat(Const(1, 1), value).as_signed())[1:].as_signed()

    def _drain(self, m: Module, captured: list[Signal], pending: list[Signal]) -> None:
        value = Signal(signed(self.config.accumulator_width), name="chain_value", reset_less=True)
        m.d.comb += self.chain_out.value.eq(value)
        valid = Signal(name="chain_valid")
        m.d.comb += self.chain_out.valid.eq(valid)
        m.d.sync += valid.eq(self.chain_in.valid | pending[0] | pending[-1])
        with m.If(self.chain_in.valid):
            m.d.sync += value.eq(self.chain_in.value)
        with m.Elif(pending[0]):
            m.d.sync += [value.eq(captured[0]), pending[0].eq(0)]
        with m.Else():
            m.d.sync += [value.eq(captured[-1]), pending[-1].eq(0)]
