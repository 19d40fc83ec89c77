"""Two processing elements that share one packed product per element: the systolic array's cell."""

import numpy as np
from amaranth import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw import numerics
from hw.commands import weight_word
from hw.config import AcceleratorConfig
from hw.row.dsp48e2 import Dsp48Chain, Dsp48E2, chain_fields
from hw.row.element_skew import TWIN_LATENCY, delay_line
from hw.timing import PAIR_LATENCY, Timing

_FLOAT32_BLOCK = (1 << 24) // (128 * 128)  # products of int8 whose sum float32 holds exactly


def word_layout(config: AcceleratorConfig) -> data.ArrayLayout:
    """One activation word: ``pe_depth`` int8, as a weight word."""
    return weight_word(config)


def chain_layout(config: AcceleratorConfig) -> data.StructLayout:
    """One slot of the drain chain: an accumulator, or an empty slot.

    ``second`` is the odd column's accumulator beside the even one's, in slots of ``wide`` tiles; else it has no meaning.
    """
    accumulator = signed(config.accumulator_width)
    return data.StructLayout({"valid": 1, "value": accumulator, "second": accumulator})


def _sum_with_carry(first: Value, second: Value, carry: Value) -> Value:
    """Sum of three by one adder."""
    return (Cat(carry, first).as_signed() + Cat(Const(1, 1), second).as_signed())[1:].as_signed()


def _tree_sum(m: Module, addends: list[tuple[Value, Value | None]], name: str) -> tuple[Value, Value | None]:
    """Sum of (sum, borrow to add where there is one) by a tree of adders with a register behind each level, `Timing.tree_latency`
    in all; each adder takes one borrow as its carry, so one is left."""
    level = 0
    while len(addends) > 1:
        sums: list[tuple[Value, Value | None]] = []
        for number in range(0, len(addends), 2):
            value, carry = addends[number]
            if number + 1 < len(addends):
                other, left = addends[number + 1]
                value, carry = (value + other if carry is None else _sum_with_carry(value, other, carry)), left
            register = Signal(value.shape(), name=f"{name}_{level}_{number}", reset_less=True)
            m.d.sync += register.eq(value)
            if carry is not None:
                carry = delay_line(m, carry, 1, f"{name}_borrow_{level}_{number}")
            sums.append((register, carry))
        addends, level = sums, level + 1
    return addends[0]


def pair_signature(config: AcceleratorConfig, columns: int) -> wiring.Signature:
    """Ports of a `ProcessingPair`."""
    operands = {"activation": word_layout(config), "valid": 1, "first": 1, "last": 1, "wide": 1}
    weights = weight_word(config)
    return wiring.Signature(
        {
            **{name: In(shape) for name, shape in operands.items()},
            **{f"{name}_next": Out(shape) for name, shape in operands.items()},
            "weights": In(weights).array(columns),
            "weights_below": Out(weights).array(columns),
            "chain_in": In(chain_layout(config)),
            "chain_out": Out(chain_layout(config)),
        }
    )


class ProcessingPair(wiring.Component):
    """Output-stationary dot products of one activation word stream with two weight word streams.

    With ``dsp48``, element k of a word is to come ``k % numerics.PACKED_CHAIN`` cycles after the word, and the control bits with
    the last element of a chain: `Dsp48Chain` sums packed products, and a tile's accumulators are captured ``timing.PAIR_LATENCY``
    cycles after its last control bits. Without, all elements and the control bits come at once: plain dot products, captured
    `TWIN_LATENCY` cycles later. Where a word is longer than a chain, both sum `numerics.PACKED_CHAIN` elements at a time, and the
    sums in `Timing.tree_latency` further cycles. With the delays of `hw.row.element_skew` before, both are captured in the same
    cycle. The chain register holds column 0 of an empty chain one cycle after that. Every int8 operand is exact, -128 included.

    Args:
        config: the machine.
        columns: 2, or 1 for the last pair of an odd number of columns.
        dsp48: products in explicit DSP48E2s, else the behavioural twin.
        link: what the cascades are made of.

    Members:
        activation, valid, first, last: operand word; ``first`` restarts the accumulators, ``last`` captures them.
        wide: with ``last``: both columns leave in one slot; only where ``score_columns`` is 2.
        weights: by column, beside the activation.
        chain_in, chain_out: drain chain; values are accumulators of 27 bits. A captured value enters the chain, even column first,
            where the incoming slot is empty. Captures may be ``cols`` cycles apart, ``cols / 2`` after a ``wide`` one.
        activation_next, valid_next, first_next, last_next, wide_next: the operands one cycle later, for the next pair.
        weights_below: the weights one cycle later, for the row below.
    """

    def __init__(self, config: AcceleratorConfig, columns: int = 2, dsp48: bool = False, *, link: type[Dsp48E2] = Dsp48E2):
        self.config = config
        self.columns = columns
        self.dsp48 = dsp48
        self.link = link
        super().__init__(pair_signature(config, columns))

    @staticmethod
    def model(activations: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Accumulators of a whole GEMM, exactly (no wrap: the compiler keeps them below 2^26).

        Args:
            activations: int8 [..., tokens, K].
            weights: int8 [K, N], or [..., K, N] with the same leading axes.

        Returns:
            int32 [..., tokens, N].
        """
        k = activations.shape[-1]
        left, right = activations.astype(np.float32), weights.astype(np.float32)
        if right.ndim == 2:  # one large product is much faster than many small ones
            left = left.reshape(-1, k)
        total = np.matmul(left[..., :_FLOAT32_BLOCK], right[..., :_FLOAT32_BLOCK, :]).astype(np.int32)
        for start in range(_FLOAT32_BLOCK, k, _FLOAT32_BLOCK):
            block = slice(start, start + _FLOAT32_BLOCK)
            total += np.matmul(left[..., block], right[..., block, :]).astype(np.int32)
        return total.reshape(*activations.shape[:-1], weights.shape[-1])

    def elaborate(self, platform) -> Module:
        m = Module()
        sums = self._cascades(m) if self.dsp48 else self._dot_products(m)
        latency = (PAIR_LATENCY if self.dsp48 else TWIN_LATENCY) + Timing(self.config).tree_latency
        valid, first, last, wide = self._control(m, latency - 1)
        captured, pending = [], []
        for column, addends in enumerate(sums):
            addend, borrow = _tree_sum(m, addends, f"tree_{column}")
            accumulator, total, capture = (
                Signal(signed(self.config.accumulator_width), name=f"{name}_{column}", reset_less=True)
                for name in ("accumulator", "total", "captured")
            )
            value: Value = Mux(first, 0, accumulator)
            value = addend + value if borrow is None else _sum_with_carry(addend, value, borrow)
            m.d.comb += total.eq(value)
            with m.If(valid):
                m.d.sync += accumulator.eq(total)
            with m.If(valid & last):
                m.d.sync += capture.eq(total)
            captured.append(capture)
            pending.append(Signal(name=f"pending_{column}"))
        self._drain(m, captured, pending)
        with m.If(valid & last):  # wins over the drain, which at the least interval takes the last value just now
            m.d.sync += [pending[0].eq(1), *(waiting.eq(~wide) for waiting in pending[1:])]
        return m

    def _control(self, m: Module, stages: int) -> list[Signal]:
        """``valid``, ``first``, ``last`` and ``wide`` so many cycles later, on their way to the next pair after one."""
        delayed = []
        for name in ("valid", "first", "last", "wide"):
            bit = getattr(self, name)
            for stage in range(stages):
                register = Signal(name=f"{name}_{stage}", reset_less=name != "valid")
                m.d.sync += register.eq(bit)
                bit = register
                if stage == 0:
                    m.d.comb += getattr(self, f"{name}_next").eq(register)
            delayed.append(bit)
        return delayed

    def _registers(self, m: Module) -> tuple[Signal, list[Signal]]:
        """Activation and weight words one cycle later, which the next pair and the row below get."""
        activation = Signal(word_layout(self.config), reset_less=True)
        m.d.sync += activation.eq(self.activation)
        m.d.comb += self.activation_next.eq(activation)
        weights = []
        for column in range(self.columns):
            word = Signal(word_layout(self.config), name=f"weights_{column}", reset_less=True)
            m.d.sync += word.eq(self.weights[column])
            m.d.comb += self.weights_below[column].eq(word)
            weights.append(word)
        return activation, weights

    def _dot_products(self, m: Module) -> list[list[tuple[Value, Value | None]]]:
        """By column, its sums of at most `numerics.PACKED_CHAIN` products, each as (sum, borrow to add where there is one)."""
        activation, weights = self._registers(m)
        sums: list[list[tuple[Value, Value | None]]] = [[] for _ in weights]
        for column, word in enumerate(weights):
            for start in range(0, self.config.pe_depth, numerics.PACKED_CHAIN):
                elements = range(start, min(start + numerics.PACKED_CHAIN, self.config.pe_depth))
                products = [word[k] * activation[k] for k in elements]
                name = f"sum_{column}_{start}" if start else f"sum_{column}"
                total = Signal(signed(16 + (len(elements) - 1).bit_length()), name=name, reset_less=True)
                m.d.sync += total.eq(sum(products[1:], products[0]))
                sums[column].append((total, None))
        return sums

    def _cascades(self, m: Module) -> list[list[tuple[Value, Value | None]]]:
        """As `_dot_products`, of each cascade; its inputs have registers of their own, beside those for the next pair."""
        self._registers(m)
        sums: list[list[tuple[Value, Value | None]]] = [[] for _ in range(self.columns)]
        for start in range(0, self.config.pe_depth, numerics.PACKED_CHAIN):
            elements = range(start, min(start + numerics.PACKED_CHAIN, self.config.pe_depth))
            m.submodules[f"chain_{start}"] = chain = Dsp48Chain(self.columns, len(elements), self.link)
            for place, k in enumerate(elements):
                m.d.comb += chain.activation[place].eq(self.activation[k])
                m.d.comb += [chain.weights[column][place].eq(self.weights[column][k]) for column in range(self.columns)]
            # a shorter cascade ends earlier
            total = delay_line(m, chain.total, Timing(self.config).skew + 1 - len(elements), f"total_{start}")
            if self.columns == 1:
                sums[0].append((total, None))
            else:
                low, high, borrow = chain_fields(total)
                sums[0].append((low, None))
                sums[1].append((high, borrow))
        return sums

    def _drain(self, m: Module, captured: list[Signal], pending: list[Signal]) -> None:
        slot = Signal(chain_layout(self.config), name="chain", reset_less=True)
        valid = Signal(name="chain_valid")
        m.d.comb += [self.chain_out.eq(slot), self.chain_out.valid.eq(valid)]
        m.d.sync += valid.eq(self.chain_in.valid | pending[0] | pending[-1])
        if self.config.score_columns == 2:
            m.d.sync += slot.second.eq(Mux(self.chain_in.valid, self.chain_in.second, captured[-1]))
        with m.If(self.chain_in.valid):
            m.d.sync += slot.value.eq(self.chain_in.value)
        with m.Elif(pending[0]):
            m.d.sync += [slot.value.eq(captured[0]), pending[0].eq(0)]
        with m.Else():
            m.d.sync += [slot.value.eq(captured[-1]), pending[-1].eq(0)]
