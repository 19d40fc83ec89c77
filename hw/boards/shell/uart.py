"""A UART of 8 data bits, no parity, one stop bit, as two streams of bytes."""

from amaranth.hdl import Cat, Const, Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

FRAME_BITS = 10
"""Bits of a byte on the line: start bit 0, data from bit 0 up, stop bit 1."""
LEAST_DIVISOR = 4
"""Fewest cycles of a bit, so that the middle of a bit can be told from its ends."""


class UartReceiver(wiring.Component):
    """Bytes from a line.

    Args:
        divisor: cycles of a bit, at least LEAST_DIVISOR; the two ends may differ by 4 %.

    Members:
        line: synchronous to the clock; 1 while idle.
        data: each byte from the middle of its stop bit on. A byte that is not taken before the next one ends is lost; one
            without a stop bit is dropped, and the next one starts with the line's next fall.
    """

    def __init__(self, divisor: int):
        self._divisor = divisor
        super().__init__({"line": In(1, init=1), "data": Out(stream.Signature(8))})

    def elaborate(self, platform) -> Module:
        m = Module()
        timer = Signal(range(self._divisor + self._divisor // 2 + 1))
        left = Signal(range(FRAME_BITS))
        bits = Signal(8, reset_less=True)
        before = Signal(init=1)
        m.d.sync += before.eq(self.line)
        with m.If(self.data.ready):
            m.d.sync += self.data.valid.eq(0)
        with m.If(left == 0):
            with m.If(before & ~self.line):
                m.d.sync += [left.eq(FRAME_BITS - 1), timer.eq(self._divisor + self._divisor // 2 - 1)]
        with m.Elif(timer != 0):
            m.d.sync += timer.eq(timer - 1)
        with m.Else():
            m.d.sync += [timer.eq(self._divisor - 1), left.eq(left - 1), bits.eq(Cat(bits[1:], self.line))]
            with m.If((left == 1) & self.line):
                m.d.sync += [self.data.valid.eq(1), self.data.payload.eq(bits)]
        return m


class UartTransmitter(wiring.Component):
    """Bytes to a line.

    Args:
        divisor: cycles of a bit.

    Members:
        data: taken when the byte before has left, its stop bit included.
        line: 1 while idle.
    """

    def __init__(self, divisor: int):
        self._divisor = divisor
        super().__init__({"data": In(stream.Signature(8)), "line": Out(1, init=1)})

    def elaborate(self, platform) -> Module:
        m = Module()
        timer = Signal(range(self._divisor))
        left = Signal(range(FRAME_BITS + 1))
        bits = Signal(FRAME_BITS, init=-1)
        m.d.comb += [self.line.eq(bits[0]), self.data.ready.eq(left == 0)]
        with m.If(left == 0):
            with m.If(self.data.valid):
                m.d.sync += [bits.eq(Cat(Const(0, 1), self.data.payload, Const(1, 1)))]
                m.d.sync += [left.eq(FRAME_BITS), timer.eq(self._divisor - 1)]
        with m.Elif(timer != 0):
            m.d.sync += timer.eq(timer - 1)
        with m.Else():
            m.d.sync += [timer.eq(self._divisor - 1), left.eq(left - 1), bits.eq(Cat(bits[1:], Const(1, 1)))]
        return m
