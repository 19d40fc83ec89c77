import numpy as np
import pytest
from amaranth.back import rtlil
from amaranth.hdl import Module, Signal
from amaranth.lib.memory import Memory

from hw import numerics
from hw.config import ceil_div
from hw.isa import Post, Target
from hw.numerics import normalized_divide, requantize
from hw.row.feed import Feed
from hw.row.lane import Lane
from hw.row.normalizer import LayerNorm
from hw.row.processing_pair import ProcessingPair
from hw.row.row_stack import RowStack, shared_modules
from hw.row.table import exp_table
from hw.timing import NORM_LATENCY, STATISTICS_LATENCY, Timing
from hw.verilog import to_rtlil, to_verilog
from tests.hw.row.row_testing import StackDriver, gelu_table, identity_scale, small_config

SHAPES = [
    dict(),
    dict(rows=2, cols=1, pe_depth=1),
    dict(rows=1, cols=4, pe_depth=3),
    dict(rows=3, cols=4, pe_depth=2),
    dict(rows=3, cols=1, pe_depth=2, exp_units=1),
    dict(rows=3, cols=2, pe_depth=4, norm_elements=2, exp_units=2),
    dict(rows=2, cols=1, pe_depth=9, exp_units=2),
]


def shaped_config(shape):
    """One machine for all tests of a shape, so that it is elaborated once."""
    return small_config(**shape, activation_words=64, kv_words=128, residual_words=64, row_tiles=5, normalized_words=64)


def random_scale(rng, columns, k):
    """Per-channel requantization that brings K products into int8, with some saturation."""
    return dict(
        bias=rng.integers(-2000, 2000, columns),
        multiplier=rng.integers(1 << 15, 1 << 16, columns),
        shift=np.full(columns, 22 + int(np.log2(k + 1) / 2)),
    )


def int8(rng, *shape):
    return rng.integers(-128, 128, shape).astype(np.int8)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("k, columns", [(5, 7), (1, 3)])
def test_requantized_gemm(shape, k, columns, rng):
    config = shaped_config(shape)
    tokens = 2 * config.rows - (config.rows > 1)
    driver = StackDriver(config)
    activations, weights = int8(rng, tokens, k), int8(rng, k, columns)
    scale = random_scale(rng, columns, k)
    base = 2 * ceil_div(k, config.pe_depth)
    driver.load(activations, 0, Target.ACTIVATION)
    driver.wait()
    driver.gemm(weights, 0, base, tokens, Post.REQUANT, scale)
    expected = requantize(ProcessingPair.model(activations, weights), **scale, width=8)
    np.testing.assert_array_equal(driver.read_out(base, columns, tokens), expected)


@pytest.mark.parametrize("shape", SHAPES)
def test_attention(shape, rng):
    """Scores, row maxima, exp feed, sums, reciprocals: the least intervals throughout."""
    config = shaped_config(shape)
    tokens, head = 2 * config.rows - (config.rows > 1), 5
    driver = StackDriver(config)
    queries, keys, values = int8(rng, tokens, head), int8(rng, tokens, head), int8(rng, tokens, head)
    table = exp_table(0.02)
    score_base = 2 * ceil_div(head, config.pe_depth)
    context_base = score_base + 2 * ceil_div(tokens, config.pe_depth)
    score_scale = dict(bias=np.zeros(tokens, int), multiplier=np.full(tokens, 40_000), shift=np.full(tokens, 24))
    context_scale = dict(bias=np.zeros(head, int), multiplier=np.full(head, 0), shift=np.full(head, 15))
    driver.load(queries, 0, Target.ACTIVATION)
    driver.table(table, 1, exponential=True)
    driver.wait()
    driver.gemm(keys.T, 0, score_base, tokens, Post.SCORE, score_scale)
    driver.wait()
    if config.softmax_pass:
        driver.softmax(score_base, ceil_div(tokens, config.pe_depth), tokens, tokens, slot=1)
    driver.gemm(
        values, score_base, context_base, tokens, Post.REQUANT, context_scale, exponential=1, table_slot=1, multiplier=50_000
    )

    scores = requantize(ProcessingPair.model(queries, keys.T), **score_scale, width=8).astype(np.int8)
    exps, sums = Feed.model(scores, Lane.model_row_max(scores), table)
    quotient, exponent = normalized_divide(50_000, sums)
    accumulators = ProcessingPair.model(exps, values)
    expected = requantize(accumulators, 0, quotient[:, None], 15 + exponent[:, None], 8)
    np.testing.assert_array_equal(driver.read_out(context_base, head, tokens), expected)


@pytest.mark.parametrize("shape", SHAPES)
def test_residual_and_layer_norm(shape, rng):
    """Also into a second region with row states of its own; the first one and its statistics stay."""
    config = shaped_config(shape)
    tokens, k, channels = 2 * config.rows, 4, 6
    words = ceil_div(channels, config.pe_depth)
    there = 2 * words + 1
    driver = StackDriver(config)
    before = rng.integers(-(1 << 15), 1 << 15, (tokens, channels))
    activations, weights = int8(rng, tokens, k), int8(rng, 3, k, channels)
    scale = random_scale(rng, channels, k) | dict(shift=np.full(channels, 17))
    inverse, inverse_shift = 43_691, 18  # 2^18 / 6
    fields = dict(channels=channels, inverse=inverse, inverse_shift=inverse_shift, epsilon=77, multiplier=40_000, shift=10)
    driver.load(activations, 0, Target.ACTIVATION)
    driver.load(before, 0, Target.RESIDUAL)
    driver.wait()
    driver.gemm(weights[0], 0, 0, tokens, Post.RESIDUAL, scale)
    driver.gemm(weights[1], 0, there, tokens, Post.RESIDUAL, scale, addend=0, first_row_tile=3)
    driver.gemm(weights[2], 0, there, tokens, Post.RESIDUAL, scale, first_row_tile=3)
    driver.norm(0, 0, words, 2, **fields)
    driver.norm(there, 2 * words, words, 2, first=3, **fields)

    delta = [requantize(ProcessingPair.model(activations, each), **scale, width=numerics.RESIDUAL_WIDTH) for each in weights]
    here = Lane.model_residual(before, delta[0])
    elsewhere = Lane.model_residual(Lane.model_residual(here, delta[1]), delta[2])
    expected = [LayerNorm.model(each, inverse, inverse_shift, 77, 40_000, 10) for each in (here, elsewhere)]
    assert not np.array_equal(*expected) and all(len(np.unique(each)) > 5 for each in expected)
    found = driver.read_out(0, channels, 2 * tokens, normalized=True)  # one region behind the other
    np.testing.assert_array_equal(found, np.concatenate(expected))


@pytest.mark.parametrize("shape", SHAPES)
def test_blank_rows(shape, rng):
    """Every row looks at its own bit: -128 before the table, or as it is."""
    config = shaped_config(shape)
    tokens, k, columns = 2 * config.rows, 4, 5
    words = ceil_div(columns, config.pe_depth)
    driver = StackDriver(config)
    activations, weights = int8(rng, tokens, k), int8(rng, k, columns)
    table, scale = gelu_table(0.05, 0.03, -100), random_scale(rng, columns, k)
    base = 2 * ceil_div(k, config.pe_depth)
    driver.load(activations, 0, Target.ACTIVATION)
    driver.table(table, 0, exponential=False)
    driver.wait()
    expected = []
    for number, (post, blank) in enumerate(((Post.ACTIVATION, 0b0101), (Post.REQUANT, 0b0010))):
        blank &= (1 << config.rows) - 1
        driver.gemm(weights, 0, base + 2 * number * words, tokens, post, scale, blank=blank)
        codes = requantize(ProcessingPair.model(activations, weights), **scale, width=8)
        codes[[bool(blank >> token % config.rows & 1) for token in range(tokens)]] = -128
        expected.append(Lane.model_activation(table, codes) if post == Post.ACTIVATION else codes)
    assert (expected[0][0] == table[0]).all()
    np.testing.assert_array_equal(driver.read_out(base, columns, 2 * tokens), np.concatenate(expected))


def norm_beside(driver, ends, words, base, fields):
    """NORM of row tiles whose residual's last feed tokens come in cycles ``ends``, as early as `Timing` allows.

    Returns:
        First cycle of every row tile's pass.
    """
    timing, passes = driver.timing, []
    groups = driver.config.pe_depth // driver.config.norm_elements
    busy_until = 0
    for tile, end in enumerate(ends):
        statistics = max(end + timing.residual_settle, passes[-1] if passes else 0)
        driver.events[statistics].setdefault("norm", {}).update(statistics=1, row_tile=tile, **fields)
        passes.append(max(statistics + STATISTICS_LATENCY, busy_until))
        for step in range(timing.norm_pass(words)):
            word = tile * words + step // groups
            token = dict(valid=1, capture=int(step == 0), source=word, destination=base + word, group=step % groups)
            driver.events[passes[-1] + step].setdefault("norm", {}).update(**token, shift=fields["shift"])
        busy_until = passes[-1] + timing.norm_pass(words)
    return passes


@pytest.mark.parametrize(("settle", "ready"), [(0, 0), (-1, 0), (0, -1)], ids=["least", "statistics early", "feed early"])
@pytest.mark.parametrize("shape", [dict(cols=4), dict(pe_depth=4, norm_elements=2)])
def test_norm_beside_its_residual_gemm(shape, settle, ready, rng, monkeypatch):
    """Statistics as soon as a row tile is complete, the pass while columns of later row tiles are added, the feed of the last row
    tile as soon as it is there; one cycle less is too early."""
    config = small_config(**shape, row_tiles=5, activation_words=256, residual_words=32, normalized_words=32, kv_words=64)
    row_tiles, k, channels = 5, 40 * config.pe_depth, config.cols
    tokens, words = row_tiles * config.rows, ceil_div(channels, config.pe_depth)
    least = Timing(config)
    monkeypatch.setattr(Timing, "residual_settle", least.residual_settle + settle)
    monkeypatch.setattr(Timing, "norm_ready", lambda timing, words: Timing.norm_pass(timing, words) - words + NORM_LATENCY + ready)
    driver = StackDriver(config)
    before = rng.integers(-3000, 3000, (tokens, channels))
    activations, weights = int8(rng, tokens, k), int8(rng, k, channels)
    scale = random_scale(rng, channels, k) | dict(shift=np.full(channels, 20))
    inverse, inverse_shift = (int(x) for x in numerics.multiplier_and_shift(1 / channels))
    fields = dict(channels=channels, inverse=inverse, inverse_shift=inverse_shift, epsilon=77, multiplier=40_000, shift=10)
    driver.load(activations, 0, Target.ACTIVATION)
    driver.load(before, 0, Target.RESIDUAL)
    driver.wait()
    driver.gemm(weights, 0, 0, tokens, Post.RESIDUAL, scale)
    ends = [cycle for cycle, events in sorted(driver.events.items()) if events.get("feed", {}).get("last")]
    passes = norm_beside(driver, ends, words, 5, fields)
    assert passes[0] < ends[-1], "the first pass runs beside the GEMM"
    driver.settled = 0
    driver.cycle = passes[-1] + driver.timing.norm_ready(words) - (row_tiles - 1) * least.tile_interval(words, Post.KEY, False)

    delta = requantize(ProcessingPair.model(activations, weights), **scale, width=numerics.RESIDUAL_WIDTH)
    expected = LayerNorm.model(Lane.model_residual(before, delta), inverse, inverse_shift, 77, 40_000, 10)
    result = driver.read_out(5, channels, tokens, normalized=True)
    assert np.array_equal(result, expected) == (settle == ready == 0)


def test_gelu_then_logits_of_row_0(rng):
    driver = StackDriver(shaped_config({}))
    activations, weights, head = int8(rng, 2, 4), int8(rng, 4, 5), int8(rng, 5, 4)
    table = gelu_table(0.05, 0.03, -100)
    scale, head_scale = random_scale(rng, 5, 4), random_scale(rng, 4, 5) | dict(shift=np.full(4, 12))
    driver.load(activations, 0, Target.ACTIVATION)
    driver.table(table, 1, exponential=False)
    driver.wait()
    driver.gemm(weights, 0, 2, 2, Post.ACTIVATION, scale, table_slot=1)
    driver.wait()
    driver.gemm(head, 2, 0, 1, Post.LOGITS, head_scale)
    driver.run()
    hidden = Lane.model_activation(table, requantize(ProcessingPair.model(activations, weights), **scale, width=8))
    expected = requantize(ProcessingPair.model(hidden[:1].astype(np.int8), head), **head_scale, width=numerics.LOGIT_WIDTH)
    assert driver.logits == expected[0].tolist()


@pytest.mark.parametrize("shape", SHAPES)
def test_values_are_transposed(shape, rng):
    config = shaped_config(shape)
    tokens, channels = 3 * config.rows - (config.rows > 1), 5
    driver = StackDriver(config)
    activations = int8(rng, tokens, channels)
    stride = ceil_div(tokens, config.pe_depth)
    driver.load(activations, 0, Target.ACTIVATION)
    driver.wait()
    driver.gemm(np.eye(channels, dtype=int), 0, 0, tokens, Post.VALUE, identity_scale(channels), stride=stride)
    driver.run()
    expected = {
        (d % config.cols, (d // config.cols) * stride + t // config.pe_depth, t % config.pe_depth): int(activations[t, d])
        for t in range(tokens)
        for d in range(channels)
    }
    assert driver.kv == expected


GATHERING = [shape for shape in SHAPES if shaped_config(shape).gathers]


@pytest.mark.parametrize("shape", [*GATHERING, dict(rows=1, cols=1, pe_depth=4), dict(rows=6, cols=1, pe_depth=2)])
def test_one_column_gathers_its_words(shape, rng):
    """K row tile by row tile and V, at the least intervals: one word a token, and one for each word's tokens of a row tile."""
    config = shaped_config(shape)
    rows, depth, channels = config.rows, config.pe_depth, config.pe_depth + 2
    tokens = 3 * rows - (rows > 1)
    words, stride = ceil_div(channels, depth), ceil_div(tokens, depth)
    driver = StackDriver(config)
    activations = int8(rng, tokens, channels)
    driver.load(activations, 0, Target.ACTIVATION)
    driver.wait()
    identity = np.eye(channels, dtype=int)
    base = words * tokens
    driver.gemm(identity, 0, base, tokens, Post.VALUE, identity_scale(channels), stride=stride)
    driver.gemm(identity, 0, 0, tokens, Post.KEY, identity_scale(channels), stride=words, by_rows=True)
    driver.gemm(identity, 0, base + channels * stride, tokens, Post.VALUE, identity_scale(channels), stride=stride)
    driver.run()
    expected = {}
    for t, d in np.ndindex(tokens, channels):
        value = int(activations[t, d])
        expected[0, t * words + d // depth, d % depth] = value
        for start in (base, base + channels * stride):
            expected[0, start + d * stride + t // depth, t % depth] = value
    assert driver.kv == expected


def test_gemms_of_different_length_keep_their_distance(rng):
    """A tile of many words, then tiles of one: the drain must not lose columns."""
    driver = StackDriver(shaped_config(dict(rows=3, cols=4, pe_depth=2)))
    activations = int8(rng, 2, 12)
    long, short = int8(rng, 12, 4), int8(rng, 2, 4)
    driver.load(activations, 0, Target.ACTIVATION)
    driver.wait()
    scales = random_scale(rng, 4, 12), random_scale(rng, 4, 2)
    driver.gemm(long, 0, 6, 2, Post.REQUANT, scales[0])
    driver.gemm(short, 0, 8, 2, Post.REQUANT, scales[1])
    expected = np.concatenate(
        [
            requantize(ProcessingPair.model(activations, long), **scales[0], width=8),
            requantize(ProcessingPair.model(activations[:, :2], short), **scales[1], width=8),
        ],
        axis=1,
    )
    np.testing.assert_array_equal(driver.read_out(6, 8, 2), expected)


def test_shared_modules_make_one_verilog_design():
    config = small_config(rows=4, cols=3)
    text = to_verilog([to_rtlil(RowStack(config, shared=True), "row_stack"), *shared_modules(config)])
    assert text.count("\nmodule row_slice(") == text.count("\nmodule processing_pair(") == 1
    assert text.count("\nmodule processing_single(") == text.count("\nmodule row_stack(") == 1
    assert text.count("  row_slice ") == config.rows


def test_initial_words_are_loops_where_they_are_alike():
    m, ports = Module(), []
    for name, words in (("even", [7] * 100), ("odd", [1, 2, 3, 4])):
        memory = Memory(shape=8, depth=len(words), init=words)
        m.submodules[name] = memory
        port = memory.read_port(domain="comb")
        address, word = Signal.like(port.addr, name=f"{name}_address"), Signal(8, name=f"{name}_word")
        m.d.comb += [port.addr.eq(address), word.eq(port.data)]
        ports += [address, word]
    text = to_verilog([rtlil.convert(m, name="top", ports=ports)])
    assert "for (word = 0; word < 100; word = word + 1)" in text
    assert [f"[{i}] = 8'h0{i + 1};" in text for i in range(4)] == [True] * 4
