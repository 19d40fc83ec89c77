"""Small machines of unlike shapes, each for tests of several kinds: random Programs, softmax passes, a small network."""

from dataclasses import replace

from hw.config import AcceleratorConfig
from sim.stimulus.random_programs import sized

SMALL_NETWORK = "vit:dim=24,depth=2,heads=3,tokens=11,classes=7"
"""A network that every one of them holds; the last of its row tiles is never full."""

_PLAIN = AcceleratorConfig(
    rows=3, cols=4, pe_depth=4, activation_words=2, residual_words=2, weight_words=2, kv_words=65, parameter_tiles=6, row_tiles=9,
    classes=9, norm_elements=4,
)  # fmt: skip

SMALL_MACHINES = {
    "two scores a cycle, exp units unlimited": sized(_PLAIN, 97),
    "one exp unit for each row, one column": sized(replace(_PLAIN, rows=4, cols=1, pe_depth=3, norm_elements=3, exp_units=4), 96),
    "exp units that leave a rest, odd columns, rows as loops": sized(
        replace(_PLAIN, rows=9, cols=3, pe_depth=2, norm_elements=2, weight_ports=2, exp_units=2), 100
    ),
    "exp units that divide the rows": sized(replace(_PLAIN, rows=4, norm_elements=2, weight_ports=3, exp_units=2), 98),
    "one exp unit, K and V gathered for PEs of two chains": sized(
        replace(_PLAIN, cols=1, pe_depth=10, norm_elements=5, exp_units=1), 49
    ),
}
"""By what is special of them; the banks' halves are of odd sizes, too."""
