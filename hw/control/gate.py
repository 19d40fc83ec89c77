"""Entropy and greatest class of the logits."""

from itertools import pairwise

import numpy as np
from amaranth.hdl import Array, Module, Mux, Signal, signed
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from hw import numerics, signatures
from hw.commands import index_width
from hw.config import AcceleratorConfig

DISTANCE_WIDTH = 16
"""Bits of max - logit; greater distances count as the greatest, 16 nat, whose exp is below 2^-23."""
EXP_FRACTION = 24
"""Fractional bits of an exp: 1,023 roundings then move the entropy by less than 0.002 nat."""
FINE_FRACTION = 16
"""Fractional bits of the table over the distance's low byte."""
LOG_BITS = 10
"""Bits after the leading one that look up the logarithm."""
PIPELINE = 6
"""Cycles from a logit's address to its last sum."""

EVALUATE_CYCLES = PIPELINE + DISTANCE_WIDTH + 2
"""Cycles from `start` to `done`, less the classes."""

COARSE_TABLE = np.rint(np.exp(-np.arange(256) / 16) * (1 << EXP_FRACTION)).astype(np.int64)
"""exp(-i / 16) in 2^-EXP_FRACTION, int64 [256]."""
FINE_TABLE = np.rint(np.exp(-np.arange(256) / numerics.UNITS_PER_NAT) * (1 << FINE_FRACTION)).astype(np.int64)
"""exp(-i / 4096) in 2^-FINE_FRACTION, int64 [256]."""
LOG_TABLE = np.rint(np.log1p(np.arange(1 << LOG_BITS) / (1 << LOG_BITS)) * numerics.UNITS_PER_NAT).astype(np.int64)
"""ln(1 + i / 2^LOG_BITS) in 2^-12 nat, int64; 0 of a single class stays exact."""
EXPONENT_TABLE = np.rint(np.arange(11) * np.log(2) * numerics.UNITS_PER_NAT).astype(np.int64)
"""i * ln 2 in 2^-12 nat, int64 [11]: the sum of at most 1,024 exps is below 2^11."""


class Gate(wiring.Component):
    """Keeps the logits of an image and evaluates them on request: `done` comes ``classes + EVALUATE_CYCLES`` cycles after `start`.

    Members:
        logit_valid, logit: logits in class order; the first one after reset or after `start` is class 0.
        start: one cycle high, with `classes` (1 to ``classes`` of the configuration) stable until `done`.
        done: one cycle high; `entropy` (2^-12 nat) and `top1` (lowest class with the greatest logit) stay until the
            next `start`.
        read: `signatures.logit_read`, while nothing is evaluated.
    """

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        super().__init__(
            {
                "logit_valid": In(1),
                "logit": In(signed(numerics.LOGIT_WIDTH)),
                "start": In(1),
                "classes": In(16),
                "done": Out(1),
                "entropy": Out(numerics.LOGIT_WIDTH),
                "top1": Out(index_width(config.classes)),
                "read": In(signatures.logit_read(config)),
            }
        )

    @staticmethod
    def model(logits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Entropy and class of int [..., classes] logits in 2^-12 nat: int64 [...] in 2^-12 nat and int64 [...]."""
        logits = np.asarray(logits, dtype=np.int64)
        greatest = logits.max(axis=-1)
        distance = np.minimum(greatest[..., None] - logits, (1 << DISTANCE_WIDTH) - 1)
        exps = (COARSE_TABLE[distance >> 8] * FINE_TABLE[distance & 255]) >> FINE_FRACTION
        total = exps.sum(axis=-1)
        weighted = (exps * distance).sum(axis=-1)
        leading = np.frexp(total.astype(np.float64))[1] - 1  # exact: the sum is below 2^53
        mantissa = (total >> (leading - LOG_BITS)) & ((1 << LOG_BITS) - 1)
        entropy = EXPONENT_TABLE[leading - EXP_FRACTION] + LOG_TABLE[mantissa] + weighted // total
        return entropy, logits.argmax(axis=-1)

    def elaborate(self, platform) -> Module:
        m = Module()
        classes = self._config.classes
        logits = memory.Memory(shape=signed(numerics.LOGIT_WIDTH), depth=classes, init=[])
        m.submodules.logits = logits
        write, read = logits.write_port(), logits.read_port()

        # The greatest logit is known when the last one arrives.
        position = Signal(range(classes + 1))
        greatest = Signal(signed(numerics.LOGIT_WIDTH))
        m.d.comb += [
            write.addr.eq(position),
            write.data.eq(self.logit),
            write.en.eq(self.logit_valid & (position != classes)),
            self.read.logit.eq(read.data),
        ]
        with m.If(write.en):
            m.d.sync += position.eq(position + 1)
            with m.If((position == 0) | (self.logit > greatest)):
                m.d.sync += [greatest.eq(self.logit), self.top1.eq(position)]

        address = Signal(range(classes + 1))
        scanning = Signal()
        m.d.comb += read.addr.eq(Mux(scanning, address, self.read.address))
        m.submodules.sums = sums = _Sums()
        m.submodules.entropy = entropy = _Entropy()
        m.d.comb += [
            sums.clear.eq(self.start),
            sums.greatest.eq(greatest),
            sums.logit.eq(read.data),
            entropy.total.eq(sums.total),
            entropy.weighted.eq(sums.weighted),
            self.entropy.eq(entropy.entropy),
            self.done.eq(entropy.done),
        ]
        m.d.sync += sums.valid.eq(scanning)
        with m.If(scanning):
            m.d.sync += address.eq(address + 1)
            with m.If(address + 1 == self.classes):
                m.d.sync += scanning.eq(0)
        with m.If(self.start):
            m.d.sync += [scanning.eq(1), address.eq(0), position.eq(0)]
        draining = Signal(PIPELINE)
        m.d.sync += draining.eq((draining << 1) | (scanning & (address + 1 == self.classes)))
        m.d.comb += entropy.start.eq(draining[-1])
        return m


class _Sums(wiring.Component):
    """Sums of e and of e * distance of one logit a cycle; complete 5 cycles after the last `valid`."""

    clear: In(1)
    valid: In(1)
    logit: In(signed(numerics.LOGIT_WIDTH))
    greatest: In(signed(numerics.LOGIT_WIDTH))
    total: Out(EXP_FRACTION + 11)
    weighted: Out(EXP_FRACTION + 11 + DISTANCE_WIDTH)

    def elaborate(self, platform) -> Module:
        m = Module()
        full = Signal(numerics.LOGIT_WIDTH)
        m.d.comb += full.eq(self.greatest - self.logit)
        distances = [Signal(DISTANCE_WIDTH, name=f"distance{stage}") for stage in range(3)]
        valid = Signal(4)
        m.d.sync += [
            distances[0].eq(Mux(full[DISTANCE_WIDTH:].any(), (1 << DISTANCE_WIDTH) - 1, full)),
            *(late.eq(early) for early, late in pairwise(distances)),
            valid.eq((valid << 1) | self.valid),
        ]
        tables = {"coarse": (COARSE_TABLE, distances[0][8:]), "fine": (FINE_TABLE, distances[0][:8])}
        factors = []
        for name, (entries, index) in tables.items():
            rom = memory.Memory(shape=int(entries.max()).bit_length(), depth=256, init=entries.tolist())
            m.submodules[name] = rom
            port = rom.read_port()
            m.d.comb += port.addr.eq(index)
            factors.append(port.data)
        exp = Signal(EXP_FRACTION + 1)
        product = Signal(EXP_FRACTION + 1 + DISTANCE_WIDTH)
        m.d.sync += [exp.eq((factors[0] * factors[1]) >> FINE_FRACTION), product.eq(exp * distances[2])]
        with m.If(valid[2]):
            m.d.sync += self.total.eq(self.total + exp)
        with m.If(valid[3]):
            m.d.sync += self.weighted.eq(self.weighted + product)
        with m.If(self.clear):
            m.d.sync += [self.total.eq(0), self.weighted.eq(0)]
        return m


class _Entropy(wiring.Component):
    """ln of the sum by leading bit and table, plus weighted / total bit by bit; `done` 18 cycles after `start`."""

    start: In(1)
    total: In(EXP_FRACTION + 11)
    weighted: In(EXP_FRACTION + 11 + DISTANCE_WIDTH)
    done: Out(1)
    entropy: Out(numerics.LOGIT_WIDTH)

    def elaborate(self, platform) -> Module:
        m = Module()
        # Logarithm: the sum is at least 1.0, so its leading bit is one of 11.
        exponent = Signal(range(11))
        for bit in range(11):
            with m.If(self.total[EXP_FRACTION + bit]):
                m.d.comb += exponent.eq(bit)
        mantissa = Signal(LOG_BITS)
        rom = memory.Memory(shape=numerics.ENTROPY_FRACTION, depth=1 << LOG_BITS, init=LOG_TABLE.tolist())
        m.submodules.logarithm = rom
        port = rom.read_port()
        m.d.sync += mantissa.eq(self.total >> (EXP_FRACTION - LOG_BITS + exponent))
        m.d.comb += port.addr.eq(mantissa)

        # Mean distance: below 2^16 by construction, so 16 bits of restoring division.
        rest = Signal(EXP_FRACTION + 12)
        bits = Signal(DISTANCE_WIDTH)
        quotient = Signal(DISTANCE_WIDTH)
        doubled = Signal(EXP_FRACTION + 13)
        m.d.comb += doubled.eq((rest << 1) | bits[-1])
        step = Signal(range(DISTANCE_WIDTH + 4))
        with m.If(self.start):
            m.d.sync += [step.eq(1), rest.eq(self.weighted >> DISTANCE_WIDTH), bits.eq(self.weighted)]
        with m.Elif(step > DISTANCE_WIDTH):
            constants = Array(EXPONENT_TABLE.tolist())
            m.d.sync += [step.eq(0), self.entropy.eq(constants[exponent] + port.data + quotient)]
        with m.Elif(step != 0):
            fits = doubled >= self.total
            m.d.sync += [
                step.eq(step + 1),
                rest.eq(Mux(fits, doubled - self.total, doubled)),
                quotient.eq((quotient << 1) | fits),
                bits.eq(bits << 1),
            ]
        m.d.sync += self.done.eq(step > DISTANCE_WIDTH)
        return m
