import pytest
import torch

from hw.config import AcceleratorConfig
from hw.errors import InputError
from hw.golden import GoldenDevice
from hw.numerics import UNITS_PER_NAT
from hw.presets import find_preset
from sw import train
from sw.compiler.memory_map import required_config
from sw.compiler.programs import compile_network
from sw.data.pixels import padded, to_input, to_pixels
from sw.graph.forward import Observer, forward
from sw.graph.path import Path
from sw.graph.path_vit import PathVit
from sw.networks.network import build_network, parse_network, untrained_network
from sw.quantization import quantization_aware
from sw.quantization.quantization_aware import QuantizationAware, rounded
from sw.quantization.quantize import logits_sqnr_db, quantize_calibrated
from sw.quantization.scales import centred
from sw.quantization.tensor_noise import MachineTensors
from sw.training.finetune import finetune
from sw.training.recipe import Recipe, finetuning
from sw.training.trainer import Trainer

TINY = "vit:dim=12,depth=3,heads=2,tokens=5,classes=10,patch=14"

pytestmark = pytest.mark.usefixtures("one_thread")


def integer_of(aware):
    """The integer network with the scales that the rounded one has."""
    with torch.no_grad():
        return quantize_calibrated(aware._graph.fold(), aware.calibration, aware.observer.residual_scale)


def test_rounding_hits_the_codes_and_gradients_pass_inside_their_range():
    values = torch.tensor([-40.0, -1.3, -0.26, 0.24, 0.26, 31.6, 40.0], requires_grad=True)
    out = rounded(values, 0.5, zero=10)
    assert out.tolist() == [-40.0, -1.5, -0.5, 0.0, 0.5, 31.5, 40.0]
    out.sum().backward()
    assert values.grad.tolist() == [1.0] * 7
    values.grad = None
    clipped = rounded(values, 0.25, bits=8)
    assert clipped[[0, -1]].tolist() == [-32.0, 31.75]
    clipped.sum().backward()
    assert values.grad.tolist() == [0.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.0]


@pytest.mark.parametrize("name, kept", [("fmnist_vit_tiny", [0, 3, 5]), ("fmnist_lvvit", [0, 2])])
def test_noise_is_the_machines(data, name, kept):
    """A rounding that falls the other way is a whole step, so after some layers only the noise's size can be compared."""
    vit = build_network(name, None if name == "fmnist_vit_tiny" else "random")
    network = PathVit(vit, Path.keeping(kept, len(vit.blocks)))
    images = padded(data.calibration.images[:48], network.image_size)
    inputs = to_input(images)
    with torch.no_grad():
        machine = QuantizationAware(network, inputs)
        found = machine(inputs, network.path).numpy() * UNITS_PER_NAT
        exact = network(inputs).numpy()
    program = compile_network(integer_of(machine), find_preset("nano"), mask_register=False)
    integer = GoldenDevice().run(program, to_pixels(images)).logits
    assert abs(found - found.round()).max() < 0.01  # in the machine's unit
    assert abs(logits_sqnr_db(exact, found) - logits_sqnr_db(exact, integer)) < 1.5


def test_first_layers_round_as_the_machine(data):
    """Where little noise has come together, the rounded tensors are nearer to the machine's than the exact ones are."""
    network = PathVit(build_network("fmnist_vit_tiny"))
    images = data.calibration.images[:48]
    inputs, seen, exact = to_input(images), {}, {}
    aware = QuantizationAware(network, inputs)
    rounded_tensor = aware.observer.tensor
    aware.observer.tensor = lambda name, values: seen.setdefault(name, rounded_tensor(name, values))
    integer, calibration, exactly = integer_of(aware), aware.calibration, Observer()
    exactly.tensor = lambda name, values: exact.setdefault(name, values)
    program = compile_network(integer, AcceleratorConfig(rows=17, cols=16, pe_depth=16, **required_config(integer, 17, 16, 16)))
    machine = MachineTensors(integer, program)
    GoldenDevice(chunk=64, threads=1, observer=machine).run(program, to_pixels(images))
    with torch.no_grad():
        aware(inputs, network.path)
        forward(centred(aware._graph.fold(), calibration), inputs, observer=exactly)
    for name in ("embedding", "encoder0.norm1", "encoder0.query", "encoder0.key", "encoder0.value", "encoder0.attention"):
        scale, zero, _ = calibration.code(name, integer.residual_scale)
        codes = torch.from_numpy(machine.codes(name) - zero) * scale
        noise, other = ((values - codes).square().mean() for values in (seen[name], exact[name]))
        assert noise < 0.7 * other, name


def test_every_parameter_gets_a_gradient_and_the_graph_sees_its_steps(data):
    network = PathVit(untrained_network(parse_network(TINY)))
    images = to_input(data.train.images[:64])
    aware = QuantizationAware(network, images)
    before = aware(images, network.path)
    before.square().sum().backward()
    missing = [name for name, value in network.vit.named_parameters() if value.grad is None]
    assert missing == []
    with torch.no_grad():
        network.vit.head.bias += 1.0
    assert torch.allclose(aware(images, network.path), before + 1.0, atol=2e-3)


def test_training_repairs_what_coarse_roundings_cost(data, monkeypatch):
    monkeypatch.setattr(quantization_aware, "WEIGHT_PEAK", 2)  # weights of five values, far coarser than the machine's
    network = PathVit(untrained_network(parse_network(TINY)))
    Trainer(network, data.train, Recipe(steps=200, batch=64, lr=4e-3, warmup_steps=20, shift=1)).run()
    images, labels = to_input(data.calibration.images), torch.from_numpy(data.calibration.labels)

    def right(tuned):
        with torch.no_grad():
            return (QuantizationAware(tuned, images[:256])(images, tuned.path).argmax(1) == labels).float().mean()

    options = {"steps": 100, "batch": 64, "lr": 1e-3}
    plain, aware = (finetune(network, None, data.train, finetuning(quantization_aware=each, **options)) for each in (False, True))
    assert right(aware) > right(plain) + 0.05


def test_resumed_training_is_bit_identical(data, tmp_path):
    network = PathVit(untrained_network(parse_network(TINY)))
    recipe, path = finetuning(60, batch=16, quantization_aware=True), Path.keeping([0, 2], network.depth)

    class Stop(Exception):
        pass

    def stop(done, *_):
        if done == 50:
            raise Stop

    whole = finetune(network, path, data.train, recipe)
    with pytest.raises(Stop):
        finetune(network, path, data.train, recipe, state_dir=tmp_path, progress=stop)
    again = finetune(network, path, data.train, recipe, state_dir=tmp_path)
    assert all(torch.equal(a, b) for a, b in zip(whole.state_dict().values(), again.state_dict().values(), strict=True))


def test_bfloat16_is_refused():
    with pytest.raises(InputError, match="quantization_aware must be in float32"):
        Recipe(steps=1, quantization_aware=True, bfloat16=True)


def test_command_wants_trained_weights(capsys):
    assert train.main(["--quantization-aware"]) == 2
    assert "needs --init" in capsys.readouterr().err


def test_command_writes_an_ordinary_checkpoint(tmp_path, data):
    from safetensors.torch import save_file

    start = untrained_network(parse_network(TINY))
    save_file(start.state_dict(), tmp_path / "start.safetensors")
    arguments = ["--model", TINY, "--data", "embedded", "--epochs", "1", "--batch", "2000", "--threads", "1"]
    arguments += ["--quantization-aware"]
    arguments += ["--init", str(tmp_path / "start.safetensors"), "--out", str(tmp_path / "run")]
    assert train.main(arguments) == 0
    tuned = build_network(TINY, str(tmp_path / "run" / "model.safetensors"))
    assert not torch.equal(tuned.head.weight, start.head.weight)


def test_a_path_without_scales_is_refused(data):
    network = PathVit(untrained_network(parse_network(TINY)), Path.keeping([0, 2], 3))
    images = to_input(data.train.images[:16])
    with pytest.raises(InputError, match="that scales were chosen for, 0,2, not 0,1"):
        QuantizationAware(network, images)(images, Path.keeping([0, 1], 3))
