"""The report on noise: every tensor is compared with its own, and a spoilt layer is found."""

import json

import numpy as np
import pytest
import torch

from hw.errors import InputError
from sw.importing import import_network
from sw.networks.network import build_network, parse_network
from sw.networks.plain_vit import create_from_arguments
from sw.networks.random_weights import draw_weights
from sw.quantization import calibration, tensor_noise
from sw.quantization.options import Options
from sw.quantization.tensor_noise import report, worst
from sw.quantization_report import main

PLAIN = "vit:dim=12,depth=2,heads=2,tokens=11,classes=6,patch=2,channels=2"
STEM = "vit:dim=12,depth=2,heads=2,tokens=10,classes=5,patch=4,channels=2,stem=6"


def pixels(spec, count: int) -> np.ndarray:
    return np.random.default_rng(9).integers(-128, 128, (count, *spec.image_size, spec.channels), dtype=np.int8)


def noises_of(vit, spec, options=None):
    images = pixels(spec, 40)
    inputs = torch.from_numpy(images.transpose(0, 3, 1, 2).astype(np.float32) / 128)
    return report(import_network(vit), inputs[:32], images[32:], options)


@pytest.mark.parametrize("name, rows", [(PLAIN, 64), (STEM, 64), (STEM, 4), (PLAIN, 3)])
def test_every_tensor_meets_its_own(name, rows, monkeypatch):
    """A tensor in another order, or another tensor, would be all noise; row tiles and their order change nothing."""
    monkeypatch.setattr(tensor_noise, "MOST_ROWS", rows)
    spec = parse_network(name)
    noises = noises_of(build_network(name, "random", 3), spec)
    names = [noise.name for noise in noises]
    encoder = ["norm1", "query", "key", "value", "scores", "context", "attention", "norm2", "fc1", "mlp"]
    stem = ["stem0", "stem1", "stem2"] if spec.stem_channels else []
    assert names == [*stem, "embedding", *(f"encoder{i}.{part}" for i in range(2) for part in encoder), "norm", "logits"]
    assert all(noise.own_db > 25 and noise.sqnr_db > 18 for noise in noises), noises
    assert all(noise.own_db > noise.sqnr_db - 0.5 for noise in noises[4:])


def test_a_distillation_token_is_put_in_its_place():
    spec = parse_network(PLAIN)
    from timm.models.deit import VisionTransformerDistilled

    vit = VisionTransformerDistilled(**spec.arguments()).eval()
    draw_weights(vit, 5)
    assert min(noise.own_db for noise in noises_of(vit, spec)) > 25


def test_a_spoilt_scale_is_named(monkeypatch):
    """Scores at four times their scale: their own noise shows, that of the layers before does not change."""
    spec, vit = parse_network(PLAIN), create_from_arguments(parse_network(PLAIN).arguments()).eval()
    draw_weights(vit, 2)
    before = {noise.name: noise for noise in noises_of(vit, spec)}
    chosen = calibration.score_scale
    monkeypatch.setattr(calibration, "score_scale", lambda *arguments: 6 * chosen(*arguments))
    after = {noise.name: noise for noise in noises_of(vit, spec)}
    assert worst(list(after.values())).name.endswith(".scores")
    assert after["encoder0.scores"].own_db < before["encoder0.scores"].own_db - 10
    assert after["encoder0.query"] == before["encoder0.query"]


def test_clipping_beats_the_greatest_magnitude():
    """Numbers with one outlier: least squares and percentiles clip it."""
    values = torch.randn(400, 100, generator=torch.Generator().manual_seed(1))
    values[0, 0] = 40
    greatest, percentile, mse = (calibration.tensor_scale(values, None, method) for method in ("max", "percentile", "mse"))
    assert greatest == pytest.approx(40 / 127)
    assert 3.5 / 127 < percentile < 5 / 127
    assert percentile < mse < 0.9 * greatest


def test_bias_correction_takes_the_mean_error_away():
    """Of a layer whose weights are coarse beside its inputs' mean."""
    from sw.graph.float_network import FloatLinear
    from sw.quantization.integer_layers import integer_linear
    from sw.quantization.scales import InputMeans

    random = torch.Generator().manual_seed(3)
    layer = FloatLinear(torch.randn(6, 40, generator=random), torch.randn(6, generator=random))
    layer.weight[:, 0] = 30.0
    inputs = 1.0 + 0.5 * torch.rand(500, 40, generator=random)
    codes = (inputs / 0.02).round()
    means = InputMeans(inputs.mean(0).double().numpy(), codes.mean(0).double().numpy() * 0.02)
    errors = []
    for given in (None, means):
        linear = integer_linear("fc", layer, 0.02, 0.01, means=given)
        sums = codes.double().numpy() @ linear.weights.T.astype(float) + linear.bias
        outputs = sums * linear.multiplier * 0.01 / 2.0 ** linear.shift.astype(float)
        errors.append(np.abs((outputs - layer(inputs).double().numpy()).mean(0)).max())
    assert errors[1] < 0.02 < errors[0]


def test_options_change_the_quantization():
    spec, vit = parse_network(PLAIN), build_network(PLAIN, "random", 3)
    default = noises_of(vit, spec)
    assert default == noises_of(vit, spec, Options("mse", False))
    assert default != noises_of(vit, spec, Options("max")) and default != noises_of(vit, spec, Options(correct_bias=True))
    with pytest.raises(InputError, match="chosen by mse, percentile, max, not 'median'"):
        Options("median")


def test_the_command_writes_its_report(tmp_path, capsys):
    path = tmp_path / "report.json"
    assert main(["--model", PLAIN, "--weights", "random", "--images", "8", "--json", str(path)]) == 0
    fields = json.loads(path.read_text())
    assert fields["worst"] in capsys.readouterr().out
    last = fields["tensors"][-1]
    assert (last["name"], last["sqnr_db"]) == ("logits", fields["logits_sqnr_db"])
    assert main(["--model", PLAIN, "--weights", "random", "--scales", "none"]) == 2
