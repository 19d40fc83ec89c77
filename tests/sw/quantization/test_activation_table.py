"""A table of an activation is the real function to half a unit, at every code and for the scales that calibration finds."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from sw.graph.path import Path
from sw.importing import import_network
from sw.networks.network import build_network, parse_network
from sw.networks.plain_vit import create_from_arguments
from sw.networks.random_weights import draw_weights
from sw.quantization.calibration import calibrate
from sw.quantization.integer_layers import QuantizationError, activation_table
from sw.quantization.quantize import quantize_calibrated
from sw.quantization.scales import ActivationScales, MlpScales

SHAPE = dict(img_size=(6, 9), patch_size=3, in_chans=2, num_classes=5, embed_dim=12, depth=2, num_heads=3, mlp_ratio=2.0)
ACTIVATIONS = {
    "GELU": (nn.GELU, lambda x: x * math.erfc(-x / math.sqrt(2)) / 2),
    "GELUTanh": (
        lambda: nn.GELU("tanh"), lambda x: x * (1 + math.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))) / 2,
    ),
    "ReLU": (nn.ReLU, lambda x: max(x, 0.0)),
    "SiLU": (nn.SiLU, lambda x: x / (1 + math.exp(-x))),
    "Hardswish": (nn.Hardswish, lambda x: x * min(max(x + 3, 0), 6) / 6),
    "Tanh": (nn.Tanh, math.tanh),
}  # fmt: skip
"""(torch's module, the real function by its definition) by name."""


def assert_half_a_unit(table: np.ndarray, around: ActivationScales, function) -> None:
    """Every entry is as near to the function as a code can be: half a unit, or the last code where the function lies beyond."""
    for code, entry in zip(range(-128, 128), table.view(np.int8).tolist(), strict=True):
        exact = function((code - around.zero_in) * around.scale_in) / around.scale_out + around.zero_point
        assert abs(entry - min(max(exact, -128), 127)) <= 0.5, f"code {code} must be near {exact:.4f}, not {entry}"


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_tables_of_mlps_are_their_functions(name: str):
    module, function = ACTIVATIONS[name]
    vit = create_from_arguments({**SHAPE, "act_layer": module})
    draw_weights(vit, 1)
    network = import_network(vit)
    images = torch.randint(-128, 128, (16, 2, 6, 9), generator=torch.Generator().manual_seed(2)) / 128
    calibration = calibrate(network, images, Path.full(2))
    integer = quantize_calibrated(network, calibration)
    for encoder, (_, scales) in zip(integer.encoders, calibration.encoders, strict=True):
        assert isinstance(scales, MlpScales)
        table = encoder.branches[1].activation_table
        assert len(np.unique(table)) > 32  # a unit is small beside the function
        assert_half_a_unit(table, scales.activation, function)


def test_tables_of_a_stem_are_relus():
    network = import_network(build_network("fmnist_lvvit", "random"))
    spec = parse_network("fmnist_lvvit")
    images = torch.randint(-128, 128, (2, 1, *spec.image_size), generator=torch.Generator().manual_seed(3)) / 128
    calibration = calibrate(network, images, Path.full(spec.depth))
    integer = quantize_calibrated(network, calibration)
    assert len(integer.stem) == 3
    for convolution, around in zip(integer.stem, calibration.stem, strict=True):
        assert_half_a_unit(convolution.table, around, ACTIVATIONS["ReLU"][1])


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_any_scales_give_a_table_to_half_a_unit(name: str, rng: np.random.Generator):
    module, function = ACTIVATIONS[name]
    for _ in range(20):
        scales = [float(2.0 ** rng.uniform(-9, 0)) for _ in range(2)]
        around = ActivationScales(scales[0], int(rng.integers(-128, 128)), scales[1], int(rng.integers(-128, 128)), None)
        assert_half_a_unit(activation_table(module(), around), around, function)


def test_a_function_that_is_not_finite_is_refused():
    with pytest.raises(QuantizationError, match="An activation must be finite from -128 to 127"):
        activation_table(torch.log, ActivationScales(1.0, 0, 1.0, 0, None))
