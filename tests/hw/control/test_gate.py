import numpy as np
import pytest

from hw.config import AcceleratorConfig
from hw.control.gate import EVALUATE_CYCLES, Gate
from tests.hw.simulation import cached, simulate


def config(classes):
    return AcceleratorConfig(
        rows=2, cols=2, pe_depth=2, activation_words=8, residual_words=8, weight_words=8, kv_words=8,
        parameter_tiles=2, row_tiles=2, classes=classes,
    )  # fmt: skip


def float_entropy(logits):
    values = logits / 4096
    values = values - values.max(axis=-1, keepdims=True)
    p = np.exp(values) / np.exp(values).sum(axis=-1, keepdims=True)
    return -np.where(p > 0, p * np.log(np.maximum(p, 1e-300)), 0).sum(axis=-1)


def cases(classes, rng):
    one_hot = np.full(classes, -(1 << 23), dtype=np.int64)
    one_hot[classes // 2] = (1 << 23) - 1
    yield one_hot
    yield np.full(classes, -4321, dtype=np.int64)
    for nats in (0.3, 3, 12):
        yield np.clip(np.rint(rng.normal(0, nats * 4096, classes)), -(1 << 23), (1 << 23) - 1).astype(np.int64)
    # A winner whose rivals all sit where one bit of exp matters.
    for nats in (9, 12, 15.9, 17):
        far = np.full(classes, -round(nats * 4096), dtype=np.int64)
        far[-1] = 0
        yield far


@pytest.mark.parametrize("classes", [1, 2, 3, 10, 100, 1000, 1024])
def test_entropy_is_within_a_hundredth_nat_of_float(classes):
    rng = np.random.default_rng(classes)
    logits = np.stack(list(cases(classes, rng)))
    entropy, top1 = Gate.model(logits)
    assert np.abs(entropy / 4096 - float_entropy(logits)).max() < 0.01
    assert np.array_equal(top1, logits.argmax(axis=-1))
    assert entropy[0] <= 3  # the rivals at 16 nat and beyond count as if at 16 nat


async def evaluate(ctx, dut, logits):
    """(entropy, top1, cycles from start to done)."""
    for value in logits:
        ctx.set(dut.logit, int(value))
        ctx.set(dut.logit_valid, 1)
        await ctx.tick()
    ctx.set(dut.logit_valid, 0)
    ctx.set(dut.classes, len(logits))
    ctx.set(dut.start, 1)
    await ctx.tick()
    ctx.set(dut.start, 0)
    cycles = 1
    while not ctx.get(dut.done):
        assert cycles < len(logits) + 100
        await ctx.tick()
        cycles += 1
    return ctx.get(dut.entropy), ctx.get(dut.top1), cycles


@pytest.mark.parametrize("classes", [1, 3, 10, 40])
def test_rtl_equals_the_model(classes):
    rng = np.random.default_rng(7)
    dut = cached(Gate, config(classes + classes % 2))

    async def testbench(ctx):
        for logits in [*cases(classes, rng), rng.integers(-5, 5, classes)]:
            entropy, top1, cycles = await evaluate(ctx, dut, logits)
            expected = Gate.model(np.array(logits))
            assert (entropy, top1) == (int(expected[0]), int(expected[1]))
            assert cycles == classes + EVALUATE_CYCLES
            for address in range(classes):
                ctx.set(dut.read.address, address)
                await ctx.tick()
                assert ctx.get(dut.read.logit) == logits[address]

    simulate(dut, testbench)
