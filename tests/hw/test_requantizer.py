import numpy as np

from hw.row.requantizer import REQUANTIZER_LATENCY, SATURATION_WIDTHS, Requantizer, Saturation
from tests.hw.cycle_trace import seeded, signed_corner, trace


def operands(rng):
    """Operands whose product is likely to fall near a rounding or saturation boundary."""
    total = signed_corner(rng, 27) >> rng.choice((0, 0, 4, 12, 18))
    bias = rng.choice((0, rng.randint(-1000, 1000)))
    accumulator = min(max(total - bias, -(1 << 26)), (1 << 26) - 1)
    bias = min(max(bias, -(1 << 26) - accumulator), (1 << 26) - 1 - accumulator)
    multiplier = rng.choice((0, 1, 1 << 15, (1 << 16) - 1, (1 << 17) - 1, rng.getrandbits(17)))
    return accumulator, bias, multiplier, rng.choice((rng.randrange(64), rng.randrange(10, 40), 0, 1, 63))


def test_equals_model():
    rng = seeded(4)
    cases = [(*operands(rng), rng.choice(list(SATURATION_WIDTHS))) for _ in range(6000)]
    names = ("accumulator", "bias", "multiplier", "shift", "saturation")
    inputs = [dict(zip(names, case, strict=True)) for case in cases] + [
        {"saturation": Saturation.BYTE}
    ] * REQUANTIZER_LATENCY
    recorded = trace(Requantizer(), inputs, ("value",))
    values = np.array([cycle["value"] for cycle in recorded[REQUANTIZER_LATENCY:]])
    columns = np.array([case[:4] for case in cases]).T
    widths = np.array([SATURATION_WIDTHS[case[4]] for case in cases])
    for width in SATURATION_WIDTHS.values():
        chosen = widths == width
        expected = Requantizer.model(*columns[:, chosen], width)
        assert np.array_equal(values[chosen], expected)
        assert {expected.min(), expected.max()} == {-(1 << (width - 1)), (1 << (width - 1)) - 1}


def test_shift_beyond_63_gives_zero():
    recorded = trace(
        Requantizer(),
        [{"accumulator": -(1 << 26), "multiplier": 131071, "shift": 64 + n} for n in range(64)] + [{}] * 5,
        ("value",),
    )
    assert all(cycle["value"] == 0 for cycle in recorded)


def test_model_rounds_half_up_and_shifts_by_63():
    assert Requantizer.model(np.array([3, -3, 5, -5]), 0, 1, 1, 8).tolist() == [2, -1, 3, -2]
    assert Requantizer.model(np.array([1 << 25, -(1 << 25)]), 0, 131071, 63, 8).tolist() == [0, 0]
