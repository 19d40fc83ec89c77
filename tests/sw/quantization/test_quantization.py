"""Quantization: number ranges, folding and calibration, and the logits that the golden machine gets from it."""

import pathlib

import numpy as np
import pytest
import torch

from hw import numerics
from hw.config import AcceleratorConfig
from hw.errors import InputError
from hw.golden import GoldenDevice
from hw.row.normalizer import LayerNorm
from sw.compiler.memory_map import required_config
from sw.compiler.programs import compile_network
from sw.graph.float_network import FloatLinear
from sw.graph.forward import normalized
from sw.graph.integer_file import load_integer_network, save_integer_network
from sw.graph.integer_network import IntegerAttention, IntegerLinear, IntegerNetwork
from sw.graph.path import Path
from sw.graph.path_vit import PathVit
from sw.importing import import_network
from sw.networks.network import CHECKPOINTS, build_network, parse_network
from sw.networks.plain_vit import create_from_arguments
from sw.networks.random_weights import draw_weights
from sw.quantization.integer_layers import ACCUMULATOR_LIMIT, QuantizationError, integer_linear, integer_norm
from sw.quantization.quantize import logits_sqnr_db, quantize

NETWORK = "vit:dim=24,depth=3,heads=3,tokens=10,classes=7,patch=3,channels=2"


def draw_images(spec, count: int, seed: int) -> tuple[np.ndarray, torch.Tensor]:
    """Int8 images [n, height, width, channels] and the float input that they stand for."""
    pixels = np.random.default_rng(seed).integers(-128, 128, (count, *spec.image_size, spec.channels), dtype=np.int8)
    return pixels, torch.from_numpy(pixels.transpose(0, 3, 1, 2).astype(np.float32) / 128)


def machine_for(shapes, rows: int = 4, cols: int = 4, depth: int = 4) -> AcceleratorConfig:
    return AcceleratorConfig(rows=rows, cols=cols, pe_depth=depth, **required_config(shapes, rows, cols, depth))


@pytest.fixture(scope="module")
def spec():
    return parse_network(NETWORK)


@pytest.fixture(scope="module")
def vit():
    return build_network(NETWORK, "random", seed=3)


@pytest.fixture(scope="module")
def network(vit, spec) -> IntegerNetwork:
    return quantize(vit, draw_images(spec, 64, 0)[1])


def sqnr(vit, network: IntegerNetwork, spec, path=None) -> float:
    images, inputs = draw_images(spec, 64, 1)
    result = GoldenDevice().run(compile_network(network, machine_for(network), path=path), images)
    with torch.no_grad():
        return logits_sqnr_db(PathVit(vit)(inputs, path).numpy(), result.logits)


def linears(network: IntegerNetwork) -> list[IntegerLinear]:
    parts = [network.embedding, network.head]
    for encoder in network.encoders:
        for branch in encoder.branches:
            if isinstance(branch, IntegerAttention):
                parts += [branch.query, branch.key, branch.value, branch.projection]
            else:
                parts += [branch.fc1, branch.fc2]
    return parts


def test_integer_network_keeps_the_shape(network, spec):
    for name in ("image_size", "channels", "patch_size", "dim", "depth", "heads", "hidden", "tokens", "classes"):
        assert getattr(network, name) == getattr(spec, name)
    assert network.path == Path.full(3)
    assert network.initial_residual.dtype == np.int16


def test_numbers_keep_their_ranges(network):
    for linear in linears(network):
        assert linear.weights.dtype == np.int8 and linear.weights.min() >= -127
        assert linear.bias.dtype == np.int32 and linear.multiplier.dtype == np.uint16
        assert linear.multiplier.min() >= 1 << 15 and linear.shift.max() < 64
        growth = np.abs(linear.weights.astype(np.int64)).sum(1) * 128 + np.abs(linear.bias.astype(np.int64))
        assert growth.max() < ACCUMULATOR_LIMIT
    for encoder in network.encoders:
        attention, mlp = encoder.branches
        assert attention.exp_table[0] == 127 == attention.exp_table.max()
        assert len(mlp.activation_table) == 256


def test_logits_are_near_the_float_network(vit, network, spec):
    assert sqnr(vit, network, spec) > 24


@pytest.mark.parametrize("kept", [(), (0, 2), (1,)])
def test_paths_use_the_scales_of_the_whole_network(vit, network, spec, kept):
    assert sqnr(vit, network, spec, Path.keeping(kept, 3)) > 20


def test_a_path_of_its_own_has_only_its_attentions(vit, spec):
    inputs = draw_images(spec, 64, 0)[1]
    path = Path.keeping([0, 2], 3)
    network = quantize(vit, inputs, path)
    assert network.path == path == quantize(PathVit(vit, path), inputs).path
    assert sqnr(vit, network, spec, path) > 24
    with pytest.raises(InputError, match="no branch but those that the network has, 0,2, not 1"):
        compile_network(network, machine_for(network), path=Path.keeping([1], 3))
    with pytest.raises(InputError, match="of 3 encoders, not 4"):
        quantize(vit, inputs, path=Path.full(4))


@pytest.mark.parametrize("options", [{"init_values": 1e-5}, {"no_embed_class": True}, {"qkv_bias": False}])
def test_variants_of_timm_are_folded(options, spec):
    vit = create_from_arguments({**spec.arguments(), **options}).eval()
    images, inputs = draw_images(spec, 16, 4)
    if options.get("qkv_bias", True):  # `draw_weights` takes biases for granted
        draw_weights(vit, 5)
    network = quantize(vit, inputs)
    result = GoldenDevice().run(compile_network(network, machine_for(network)), images)
    with torch.no_grad():
        assert logits_sqnr_db(vit(inputs).numpy(), result.logits) > 20


def test_folding_changes_nothing(vit, spec):
    inputs = draw_images(spec, 4, 2)[1]
    folded = import_network(vit)
    with torch.no_grad():
        embedded = folded.embedding(folded.patches(inputs)) + folded.positions[1:]
        tokens = vit._pos_embed(vit.patch_embed(inputs))
        torch.testing.assert_close(embedded, tokens[:, 1:])
        torch.testing.assert_close(folded.positions[0], tokens[0, 0])


def test_class_token_starts_exactly(network):
    """A zero patch row adds the requantized bias to token 0, and the sum is the class token with its position."""
    embedding = network.embedding
    bias = numerics.requantize(np.zeros(network.dim, int), embedding.bias, embedding.multiplier, embedding.shift, 16)
    with torch.no_grad():
        exact = import_network(build_network(NETWORK, "random", seed=3)).positions[0].numpy()
    assert np.abs((network.initial_residual[0] + bias) * network.residual_scale - exact).max() <= network.residual_scale


@pytest.mark.parametrize("channels", [1, 7, 96, 768])
def test_norm_matches_float(channels):
    random = np.random.default_rng(channels)
    residual = random.integers(-3000, 3000, (50, channels)) + random.integers(-500, 500, (50, 1))
    scale, step, epsilon = 3e-4, 0.03, 1e-6
    norm = integer_norm("norm", channels, step, scale, epsilon)
    inverse, inverse_shift = numerics.multiplier_and_shift(1 / channels)
    codes = LayerNorm.model(
        residual[None], inverse=int(inverse), inverse_shift=int(inverse_shift), epsilon=norm.epsilon,
        multiplier=norm.multiplier, shift=norm.shift,
    )[0]  # fmt: skip
    real = residual * scale
    centred = real - real.mean(1, keepdims=True)
    exact = centred / np.sqrt((centred**2).mean(1, keepdims=True) + epsilon)
    assert np.abs(codes - np.clip(exact / step, -128, 127)).max() < 0.52


def test_large_biases_take_the_weight_scale_with_them():
    layer = FloatLinear(torch.tensor([[1.0, -2.0], [1e-6, 0.0], [0.0, 0.0]]), torch.tensor([3.0e4, 5.0, 0.0]))
    linear = integer_linear("fc1", layer, input_scale=0.01, output_scale=1.0)
    growth = np.abs(linear.weights.astype(int)).sum(1) * 128 + np.abs(linear.bias)
    assert growth.max() < ACCUMULATOR_LIMIT
    out = numerics.requantize(np.zeros(3, int), linear.bias, linear.multiplier.astype(int), linear.shift.astype(int), 16)
    assert out.tolist() == [30000, 5, 0]


def test_zero_point_is_folded_into_the_bias():
    random = np.random.default_rng(0)
    layer = FloatLinear(torch.from_numpy(random.normal(size=(5, 40))).float(), torch.from_numpy(random.normal(size=5)).float())
    codes, zero_point = random.integers(-128, 128, 40), -120
    linear = integer_linear("fc2", layer, 0.02, 0.001, zero_point)
    accumulator = linear.weights.astype(int) @ codes
    out = numerics.requantize(accumulator, linear.bias, linear.multiplier.astype(int), linear.shift.astype(int), 24)
    exact = layer.weight.numpy() @ (0.02 * (codes - zero_point)) + layer.bias.numpy()
    np.testing.assert_allclose(out * 0.001, exact, atol=0.4)


@pytest.mark.parametrize("factor", [0.0, 1e30])
def test_networks_without_a_signal_are_refused(spec, factor):
    vit = build_network(spec.name, "random", 0)
    with torch.no_grad():
        for value in vit.parameters():
            value *= factor
    with pytest.raises(QuantizationError, match=r"Layer encoder0\.norm must have tokens with channels that differ"):
        quantize(vit, draw_images(spec, 4, 0)[1])


def test_weights_that_are_not_finite_are_refused(spec):
    vit = build_network(NETWORK, "random", seed=3)
    with torch.no_grad():
        vit.blocks[1].mlp.fc2.weight[0, 0] = float("nan")
        with pytest.raises(QuantizationError, match=r"Layer encoder1\.fc2 must have finite"):
            quantize(vit, draw_images(spec, 4, 0)[1])


def test_file_round_trip(network, tmp_path: pathlib.Path):
    path = tmp_path / "network.safetensors"
    save_integer_network(network, path)
    config = machine_for(network)
    loaded = load_integer_network(path)
    assert compile_network(loaded, config).memory == compile_network(network, config).memory
    assert loaded.image_size == network.image_size and loaded.path == network.path
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InputError, match="whole safetensors file"):
        load_integer_network(path)
    with pytest.raises(InputError, match="must exist"):
        load_integer_network(tmp_path / "absent")


def test_sqnr():
    reference = np.array([[3.0, 4.0]])
    assert logits_sqnr_db(reference, reference * 4096) == np.inf
    # Signal 25, noise 0.25: 10·log10(100).
    assert logits_sqnr_db(reference, np.array([[3.5, 4.0]]) * 4096) == pytest.approx(20)


def test_keys_lie_around_zero(vit, network, spec):
    """Softmax ignores a key bias, so calibration spends it on centring the keys."""
    inputs = draw_images(spec, 64, 0)[1]
    folded, attention = import_network(vit), network.encoders[0].branches[0]
    tokens = folded.positions.repeat(len(inputs), 1, 1)
    tokens[:, 1:] += folded.embedding(folded.patches(inputs))
    rows = normalized(tokens, folded.encoders[0].branches[0].epsilon).flatten(0, 1).numpy()
    codes = np.clip(np.rint(rows / attention.norm.scale), -128, 127).astype(int)
    key = attention.key
    keys = numerics.requantize(codes @ key.weights.T.astype(int), key.bias, key.multiplier.astype(int), key.shift.astype(int), 8)
    assert np.abs(keys.mean(0)).max() < 1 < np.abs(keys).max() / 64


@pytest.mark.slow
@pytest.mark.skipif(not (CHECKPOINTS / "fmnist_vit_tiny").is_dir(), reason="the checkpoint is not there")
def test_int8_accuracy_on_the_test_images():
    from hw.presets import PRESETS
    from sw.data.fashion_mnist import load_fashion_mnist
    from sw.data.pixels import to_input, to_pixels

    data = load_fashion_mnist("embedded")
    vit = build_network("fmnist_vit_tiny")
    network = quantize(vit, to_input(data.calibration.images[:256]))
    images = to_pixels(data.test.images)
    logits = GoldenDevice().run(compile_network(network, PRESETS["nano"]), images).logits
    with torch.no_grad():
        reference = vit(to_input(data.test.images)).numpy()
    integer, exact = logits.argmax(1), reference.argmax(1)
    assert (integer != exact).mean() <= 0.01
    assert abs((integer == data.test.labels).mean() - (exact == data.test.labels).mean()) <= 0.005
    assert logits_sqnr_db(reference, logits) >= 30
