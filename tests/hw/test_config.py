import pytest

from hw.errors import InputError
from hw.presets import PRESETS, find_preset
from hw.timing import Timing


def test_derived_values_of_the_flagship():
    config = PRESETS["zcu102"]
    assert config.macs_per_cycle == 33 * 16 * 8
    assert config.pairs == 8
    assert config.max_tokens >= 197  # DeiT
    assert config.columns_per_beat == 2  # a 16-byte beat holds two 8-byte weight words
    assert config.groups_per_port * config.weight_ports * config.columns_per_beat >= config.cols


@pytest.mark.parametrize(
    ("cols", "depth", "slots", "words"),
    [(4, 4, 1, 1), (16, 8, 1, 2), (9, 1, 1, 9), (12, 8, 2, 1), (5, 3, 3, 1), (1, 8, 1, 1), (3, 8, 2, 1)],
)
def test_key_slots_hold_the_words_that_a_tile_touches(cols, depth, slots, words):
    config = PRESETS["nano"].with_fields(f"cols={cols},pe_depth={depth}")
    touched = max((tile * cols + cols - 1) // depth - tile * cols // depth + 1 for tile in range(depth))
    assert (config.key_slots_per_tile, config.key_slot_words) == (slots, words)
    assert slots * words == touched


@pytest.mark.parametrize(("cols", "depth", "expected"), [(16, 8, 2), (2, 2, 2), (16, 1, 1), (15, 8, 1), (1, 1, 1)])
def test_two_scores_share_a_word_where_both_numbers_are_even(cols, depth, expected):
    assert PRESETS["nano"].with_fields(f"cols={cols},pe_depth={depth}").score_columns == expected


def test_the_published_machine_of_pivot():
    """36 PEs of 64 multipliers and one exp a cycle: 197 tokens take 197 * 197 cycles a head."""
    config = PRESETS["pivot"]
    assert (config.rows, config.cols, config.pe_depth, config.exp_units) == (36, 1, 64, 1)
    assert config.max_tokens >= 197
    assert Timing(config).softmax_pass(197, 197) == 197 * 197


def test_weight_port_bytes_are_whole_beats():
    config = PRESETS["nano"].with_fields("rows=3,cols=5,pe_depth=3,weight_ports=2")
    size = config.weight_port_bytes(7, 2)
    assert size % config.axi_bytes == 0
    assert 0 <= size - 7 * 2 * config.groups_per_port * config.columns_per_beat * 3 < config.axi_bytes


@pytest.mark.parametrize(
    ("assignments", "message"),
    [
        ("rows=0", "rows must be a positive integer, not 0"),
        ("rows=65", "rows must be between 1 and 64, not 65"),
        ("rows", "--set takes field=value"),
        ("colour=3", "--set takes field=value with a field of"),
        ("rows=two", "--set rows must be an integer, not 'two'"),
        ("norm_elements=3", r"norm_elements must divide pe_depth \(4\), not 3"),
        ("normalized_words=1", "normalized_words must be between 2 and 65536, not 1"),
        ("exp_units=5", r"exp_units must be 0 or 1 to rows \(4\), not 5"),
        ("exp_units=-1", "exp_units must be 0 or a positive integer, not -1"),
        ("axi_bytes=12", "axi_bytes must be 8, 16, 32 or 64, not 12"),
        ("axi_bytes=64,burst_beats=128", "burst_beats times axi_bytes must be at most 4096, not 8192"),
    ],
)
def test_values_that_cannot_work_are_refused_with_the_reason(assignments, message):
    with pytest.raises(InputError, match=message):
        PRESETS["nano"].with_fields(assignments)


def test_an_unknown_preset_is_refused_with_the_known_ones():
    with pytest.raises(InputError, match=f"preset must be one of {', '.join(PRESETS)}, not 'mega'"):
        find_preset("mega")
