import numpy as np
import pytest

from hw.row.requantizer import REQUANTIZER_LATENCY, SATURATION_WIDTHS, Requantizer, Saturation
from tests.hw.cycle_trace import seeded, signed_corner, trace
from tests.hw.simulation import cached


def operands(rng):
    """Operands whose product is likely to fall near a rounding or saturation boundary."""
    total = signed_corner(rng, 27) >> rng.choice((0, 0, 4, 12, 18))
    bias = rng.choice((0, rng.randint(-1000, 1000)))
    accumulator = min(max(total - bias, -(1 << 26)), (1 << 26) - 1)
    bias = min(max(bias, -(1 << 26) - accumulator), (1 << 26) - 1 - accumulator)
    multiplier = rng.choice((0, 1, 1 << 15, (1 << 16) - 1, (1 << 17) - 1, rng.getrandbits(17)))
    return accumulator, bias, multiplier, rng.choice((rng.randrange(64), rng.randrange(10, 40), 0, 1, 63))


@pytest.mark.parametrize("widest", list(SATURATION_WIDTHS))
def test_equals_model(widest):
    rng = seeded(4)
    choices = {choice: width for choice, width in SATURATION_WIDTHS.items() if width <= SATURATION_WIDTHS[widest]}
    cases = [(*operands(rng), rng.choice(list(choices))) for _ in range(2500 * len(choices))]
    names = ("accumulator", "bias", "multiplier", "shift", "saturation")
    inputs = [dict(zip(names, case, strict=True)) for case in cases] + [{"saturation": Saturation.BYTE}] * REQUANTIZER_LATENCY
    recorded = trace(cached(Requantizer, widest), inputs, ("value",))
    values = np.array([cycle["value"] for cycle in recorded[REQUANTIZER_LATENCY:]])
    columns = np.array([case[:4] for case in cases]).T
    widths = np.array([SATURATION_WIDTHS[case[4]] for case in cases])
    for width in choices.values():
        chosen = widths == width
        expected = Requantizer.model(*columns[:, chosen], width)
        assert np.array_equal(values[chosen], expected)
        assert {expected.min(), expected.max()} == {-(1 << (width - 1)), (1 << (width - 1)) - 1}


def test_the_least_code_whatever_the_value():
    rng = seeded(5)
    names = ("accumulator", "bias", "multiplier", "shift", "saturation")
    cases = [(*operands(rng), rng.choice((Saturation.LEAST, Saturation.BYTE))) for _ in range(1000)]
    inputs = [dict(zip(names, case, strict=True)) for case in cases] + [{}] * REQUANTIZER_LATENCY
    values = [cycle["value"] for cycle in trace(cached(Requantizer), inputs, ("value",))[REQUANTIZER_LATENCY:]]
    expected = [-128 if case[4] == Saturation.LEAST else int(Requantizer.model(*case[:4], 8)) for case in cases]
    assert values == expected and len(set(expected)) > 10


@pytest.mark.parametrize("width", [8, 16, 24])
def test_values_around_every_bound(width):
    """Products next to a bound or a rounding boundary, at every shift."""
    widest = next(choice for choice, bits in SATURATION_WIDTHS.items() if bits == width)
    cases = []
    for shift in range(64):
        for bound in (-(1 << (width - 1)), (1 << (width - 1)) - 1, 0, 1 << width, 1 << (width + 7)):
            for offset in (-1, 0, 1):
                for near in (-1, 0, 1):
                    product = ((2 * bound + 1) << shift >> 1) + offset + (near << max(shift - 1, 0))
                    for multiplier in (1, 1 << 8, 1 << 16):
                        if abs(product // multiplier) < 1 << 26:
                            cases.append((product // multiplier, 0, multiplier, shift))
    names = ("accumulator", "bias", "multiplier", "shift")
    inputs = [dict(zip(names, case, strict=True), saturation=widest) for case in cases]
    recorded = trace(cached(Requantizer, widest), inputs + [{}] * REQUANTIZER_LATENCY, ("value",))
    values = np.array([cycle["value"] for cycle in recorded[REQUANTIZER_LATENCY:]])
    assert len(cases) > 1000
    np.testing.assert_array_equal(values, Requantizer.model(*np.array(cases).T, width))


def test_shift_beyond_63_gives_zero():
    recorded = trace(
        cached(Requantizer),
        [{"accumulator": -(1 << 26), "multiplier": 131071, "shift": 64 + n} for n in range(64)] + [{}] * 5,
        ("value",),
    )
    assert all(cycle["value"] == 0 for cycle in recorded)


def test_model_rounds_half_up_and_shifts_by_63():
    assert Requantizer.model(np.array([3, -3, 5, -5]), 0, 1, 1, 8).tolist() == [2, -1, 3, -2]
    assert Requantizer.model(np.array([1 << 25, -(1 << 25)]), 0, 131071, 63, 8).tolist() == [0, 0]
