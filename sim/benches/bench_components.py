"""Cocotb benches of single components: the emitted Verilog, under Verilator, against the components' own models."""

import json
import os
import random
from typing import Any

import cocotb
import numpy as np
from cocotb.clock import Clock
from cocotb.triggers import FallingEdge, RisingEdge
from cocotbext.axi import AxiRamRead, AxiReadBus

from hw import numerics
from hw.config import AcceleratorConfig
from hw.control.gate import EVALUATE_CYCLES, Gate
from hw.row.element_skew import TWIN_LATENCY
from hw.row.processing_pair import ProcessingPair
from hw.row.requantizer import REQUANTIZER_LATENCY, Saturation
from hw.timing import DIVIDE_LATENCY

CLOCK_PERIOD_NS = 2
SEEDS = (1, 2)
SATURATIONS: tuple[tuple[Any, int], ...] = (
    (Saturation.BYTE, 8),
    (Saturation.RESIDUAL, numerics.RESIDUAL_WIDTH),
    (Saturation.LOGIT, numerics.LOGIT_WIDTH),
)
"""Member and bits of each saturation of the requantizer."""


async def _begin(dut, seed: int, **inputs: int) -> random.Random:
    """Clock, inputs at their first values, one reset; the random numbers of a seed."""
    Clock(dut.clk, CLOCK_PERIOD_NS, unit="ns").start()
    for name, value in inputs.items():
        getattr(dut, name).value = value
    dut.rst.value = 1
    await FallingEdge(dut.clk)
    await FallingEdge(dut.clk)
    dut.rst.value = 0
    return random.Random(seed)


def _config() -> AcceleratorConfig:
    return AcceleratorConfig(**json.loads(os.environ["PIVOT_CONFIG"]))


@cocotb.test(timeout_time=1, timeout_unit="ms")
@cocotb.parametrize(seed=SEEDS)
async def normalized_divider(dut, seed: int) -> None:
    """Quotient and exponent in the cycle of `done`, which is `DIVIDE_LATENCY` after the start."""
    rng = await _begin(dut, seed, start=0, multiplier=1 << 15, divisor=1)
    divisors = [1, 2, 3, (1 << 31) - 1, 1 << 30] + [rng.randrange(1, 1 << rng.randrange(1, 32)) for _ in range(100)]
    for divisor in divisors:
        multiplier = rng.randrange(1 << 15, 1 << 16)
        dut.start.value, dut.multiplier.value, dut.divisor.value = 1, multiplier, divisor
        await FallingEdge(dut.clk)
        dut.start.value = 0
        for _ in range(DIVIDE_LATENCY - 1):
            assert dut.done.value == 0
            await FallingEdge(dut.clk)
        quotient, exponent = numerics.normalized_divide(multiplier, np.array(divisor))
        assert dut.done.value == 1
        assert (int(dut.quotient.value), int(dut.exponent.value)) == (int(quotient), int(exponent))
        await FallingEdge(dut.clk)


@cocotb.test(timeout_time=1, timeout_unit="ms")
@cocotb.parametrize(seed=SEEDS)
async def requantizer(dut, seed: int) -> None:
    """A new operand every cycle, all three saturations, corners of the accumulator."""
    rng = await _begin(dut, seed, accumulator=0, bias=0, multiplier=0, shift=0, saturation=0)
    limit = (1 << 26) - 1
    expected = []
    for number in range(500):
        total = rng.choice([limit, -limit, 0, rng.randint(-limit, limit)])
        bias = rng.randint(max(-limit, total - limit), min(limit, total + limit))
        saturation, width = rng.choice(SATURATIONS)
        accumulator, multiplier = total - bias, rng.randrange(1 << 17)
        shift = rng.choice([0, 1, 63, rng.randrange(64)])
        dut.accumulator.value = accumulator & ((1 << len(dut.accumulator)) - 1)
        dut.bias.value = bias & ((1 << len(dut.bias)) - 1)
        dut.multiplier.value, dut.shift.value = multiplier, shift
        dut.saturation.value = saturation.value
        operands = np.array(accumulator), np.array(bias), np.array(multiplier), np.array(shift)
        expected.append(int(numerics.requantize(*operands, width)))
        await FallingEdge(dut.clk)
        if number >= REQUANTIZER_LATENCY - 1:
            assert dut.value.value.to_signed() == expected[number - REQUANTIZER_LATENCY + 1]


@cocotb.test(timeout_time=1, timeout_unit="ms")
@cocotb.parametrize(seed=SEEDS)
async def gate(dut, seed: int) -> None:
    """Entropy and greatest class of random, equal and lopsided logits."""
    rng = await _begin(dut, seed, logit_valid=0, logit=0, start=0, classes=0, read__address=0)
    most = _config().classes
    for _ in range(20):
        spread = rng.choice([0, 10, 4096, 1 << 15, (1 << 23) - 1])
        logits = [rng.randint(-spread, spread) for _ in range(rng.randint(1, most))]
        for logit in logits:
            dut.logit_valid.value, dut.logit.value = 1, logit & ((1 << numerics.LOGIT_WIDTH) - 1)
            await FallingEdge(dut.clk)
        dut.logit_valid.value, dut.start.value, dut.classes.value = 0, 1, len(logits)
        await FallingEdge(dut.clk)
        dut.start.value = 0
        for _ in range(len(logits) + EVALUATE_CYCLES + 4):
            if dut.done.value == 1:
                break
            await FallingEdge(dut.clk)
        assert dut.done.value == 1
        entropy, top1 = Gate.model(np.array([logits]))
        assert (int(dut.entropy.value), int(dut.top1.value)) == (entropy[0], top1[0])
        await FallingEdge(dut.clk)


@cocotb.test(timeout_time=1, timeout_unit="ms")
@cocotb.parametrize(seed=SEEDS)
async def processing_pair(dut, seed: int) -> None:
    """Tiles back to back: both columns leave by the chain, even one first, as the dot products of the model."""
    rng = await _begin(dut, seed, activation=0, valid=0, first=0, last=0, wide=0, weights__0=0, weights__1=0, chain_in=0)
    depth, width = _config().pe_depth, _config().accumulator_width
    draw = np.random.default_rng(rng.randrange(1 << 32))
    drained: list[int] = []

    async def collect() -> None:
        while True:
            await RisingEdge(dut.clk)
            word = int(dut.chain_out.value)  # valid, then the value, from bit 0 on
            if word & 1:
                value = word >> 1 & ((1 << width) - 1)
                drained.append(value - (1 << width) if value >> (width - 1) else value)

    cocotb.start_soon(collect())
    expected: list[int] = []
    for _ in range(30):
        words = rng.randint(2, 9)
        activations = draw.choice([-128, -1, 0, 127, 55], (words, depth)).astype(np.int8)
        weights = draw.integers(-127, 128, (words, 2, depth)).astype(np.int8)
        for place in range(words):
            dut.valid.value, dut.first.value, dut.last.value = 1, place == 0, place == words - 1
            dut.activation.value = int.from_bytes(activations[place].tobytes(), "little")
            dut.weights__0.value, dut.weights__1.value = (int.from_bytes(word.tobytes(), "little") for word in weights[place])
            await FallingEdge(dut.clk)
        matrix = weights.transpose(0, 2, 1).reshape(words * depth, 2)
        expected += ProcessingPair.model(activations.reshape(1, -1), matrix)[0].tolist()
    dut.valid.value = 0
    for _ in range(TWIN_LATENCY + 4):
        await FallingEdge(dut.clk)
    assert drained == expected


@cocotb.test(timeout_time=5, timeout_unit="ms")
@cocotb.parametrize(seed=SEEDS)
async def burst_reader(dut, seed: int) -> None:
    """cocotbext-axi's memory with random idles; data in order whatever the back-pressure, `idle` at the end."""
    rng = await _begin(dut, seed, command__valid=0, command__payload=0, data__ready=0, abort=0)
    config = _config()
    content = rng.randbytes(1 << 14)
    memory = AxiRamRead(AxiReadBus.from_prefix(dut, "axi_"), dut.clk, dut.rst, size=len(content), mem=bytearray(content))
    memory.r_channel.set_pause_generator(iter(lambda: rng.random() < 0.4, None))
    memory.ar_channel.set_pause_generator(iter(lambda: rng.random() < 0.4, None))
    for _ in range(12):
        beats = rng.randint(1, 40)
        address = rng.randrange(len(content) // config.axi_bytes - beats) * config.axi_bytes
        dut.command__payload.value = address | beats << config.address_width
        dut.command__valid.value = 1
        while True:
            await RisingEdge(dut.clk)
            if dut.command__ready.value == 1:
                break
        await FallingEdge(dut.clk)
        dut.command__valid.value = 0
        taken = b""
        while len(taken) < beats * config.axi_bytes:
            dut.data__ready.value = rng.random() < 0.6
            await RisingEdge(dut.clk)
            if dut.data__valid.value == 1 and dut.data__ready.value == 1:
                word = int(dut.data__payload.value)
                taken += (word & ((1 << 8 * config.axi_bytes) - 1)).to_bytes(config.axi_bytes, "little")
            await FallingEdge(dut.clk)
        dut.data__ready.value = 0
        assert taken == content[address : address + len(taken)]
    assert dut.idle.value == 1 and dut.error.value == 0
