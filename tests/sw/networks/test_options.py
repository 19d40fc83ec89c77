"""The group of network options: the same in every command, and what each of them does to a network."""

import argparse

import pytest
import torch

from hw.errors import InputError
from search import cosearch
from sim import measure
from sw import quantization_report, train
from sw.networks.checkpoint import save_tensors
from sw.networks.network import RANDOM
from sw.networks.normalization import Normalization
from sw.networks.options import NetworkOptions, add_network_options

TINY = "vit:dim=8,depth=1,heads=2,tokens=5,classes=3,channels=3"
TIMM = "test_vit"  # 160x160, 1000 classes; the smallest of timm


def chosen(*arguments: str) -> NetworkOptions:
    parser = argparse.ArgumentParser()
    add_network_options(parser)
    return NetworkOptions.of(parser.parse_args(arguments))


def saved(path, tensors) -> str:
    save_tensors(path, tensors)
    return str(path)


@pytest.mark.parametrize("parser", [measure._parser(), cosearch.parser(), train.parser(), quantization_report._parser()])
def test_every_command_has_the_whole_group(parser):
    weights = "--init" if parser.prog.endswith("train") else "--weights"
    given = ["--model", TINY, weights, "w.pth", "--strip-prefix", "a.", "--seed", "4", "--image-size", "8x4", "--classes", "3"]
    given += ["--mean", ".5", "--std", ".2"]
    expected = NetworkOptions(TINY, "w.pth", (8, 4), 3, "a.", Normalization((0.5,), (0.2,)), 4)
    assert NetworkOptions.of(parser.parse_args(given)) == expected


@pytest.mark.parametrize("prefix", ["module.", "model.backbone.", "encoder_q."])
def test_names_behind_a_prefix_are_offered_and_taken(prefix, tmp_path):
    tensors = NetworkOptions(TINY, RANDOM).build().state_dict()
    behind = {prefix + name: value for name, value in tensors.items()} | {"step": torch.ones(1), "other.head.bias": torch.ones(2)}
    path = saved(tmp_path / "w.safetensors", behind)
    with pytest.raises(InputError, match=f"--strip-prefix {prefix} takes the names behind '{prefix}'"):
        chosen("--model", TINY, "--weights", path).build()
    for given in (prefix, prefix.removesuffix(".")):
        loaded = chosen("--model", TINY, "--weights", path, "--strip-prefix", given).build().state_dict()
        assert all(torch.equal(loaded[name], value) for name, value in tensors.items())
    with pytest.raises(InputError, match=r"names that begin with --strip-prefix 'elsewhere\.'; it has '"):
        chosen("--model", TINY, "--weights", path, "--strip-prefix", "elsewhere").build()


def test_another_head_and_another_size(tmp_path):
    asked = ["--model", TIMM, "--classes", "7", "--image-size", "32x48"]
    network = chosen(*asked, "--weights", RANDOM).build()
    assert network.head.out_features == chosen(*asked).spec.classes == 7
    path = saved(tmp_path / "tuned.safetensors", network.state_dict())
    assert torch.equal(chosen(*asked, "--weights", path).build().head.weight, network.head.weight)
    with pytest.raises(InputError, match=r"'head\.bias' of shape \(1000,\), not \(7,\); --classes makes the network fit"):
        chosen("--model", TIMM, "--image-size", "32x48", "--weights", path).build()
    with pytest.raises(InputError, match=r"'pos_embed' of shape .*; --image-size makes the network fit"):
        chosen("--model", TIMM, "--classes", "7", "--weights", path).build()


def test_a_normalization_of_the_file(tmp_path):
    """The network answers pixels as the file's network answers them normalised."""
    plain = NetworkOptions(TINY, RANDOM).build()
    path = saved(tmp_path / "w.safetensors", plain.state_dict())
    pixels = torch.randint(0, 256, (3, *plain.patch_embed.proj.weight.shape[1:2], *plain.patch_embed.img_size)).float()
    for mean, std in (("0.485,0.456,0.406", "0.229,0.224,0.225"), ("0.5", "0.25"), ("-1,0,7", "1,2,1e-1")):
        folded = chosen("--model", TINY, "--weights", path, f"--mean={mean}", "--std", std).build()
        means, deviations = (torch.tensor([float(part) for part in text.split(",")])[:, None, None] for text in (mean, std))
        with torch.no_grad():
            expected, found = plain((pixels / 255 - means) / deviations), folded((pixels - 128) / 128)
        assert torch.allclose(expected, found, atol=1e-3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--mean", "0.5"], "must be given together"),
        (["--std", "0.5"], "must be given together"),
        (["--mean", "a", "--std", "1"], "--mean takes numbers, such as 0.485,0.456,0.406, not 'a'"),
        (["--mean", "1", "--std", "1,"], "--std takes numbers, .* not '1,'"),
        (["--mean", "1,2", "--std", "1"], "as many finite numbers"),
        (["--mean", "1", "--std", "0"], "--std positive"),
        (["--mean", "nan", "--std", "1"], "finite"),
        (["--mean", "1,1", "--std", "1,1", "--weights", "FILE"], "must be 1 or 3 numbers, one for each channel, not 2"),
        (["--mean", "1", "--std", "1", "--weights", RANDOM], "--std take a file of weights or 'pretrained' ones, not random"),
        (["--strip-prefix", "module.", "--weights", RANDOM], "--strip-prefix takes a file of weights, not random"),
        (["--classes", "3"], "image size and classes in its name"),
        (["--image-size", "8x8"], "image size and classes in its name"),
        (["--classes", "0", "--model", "fmnist_vit_tiny"], "classes must be a positive integer, not 0"),
        (["--classes", "0", "--model", TIMM], "classes must be a positive integer, not 0"),
        (["--classes", "9", "--model", TIMM, "--weights", "pretrained"], "--classes takes a file of weights or random ones"),
    ],
)
def test_what_does_not_fit_together(arguments, message, tmp_path):
    path = saved(tmp_path / "w.safetensors", NetworkOptions(TINY, RANDOM).build().state_dict()) if "FILE" in arguments else ""
    with pytest.raises(InputError, match=message):
        chosen("--model", TINY, *(path if part == "FILE" else part for part in arguments)).build()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--weights", "pretrained"], "'pretrained' take a timm name"),
        (["--weights", "nowhere.pth"], r"nowhere\.pth must exist"),
        (["--seed", "-1"], "--seed must be at least 0, not -1"),
        (["--strip-prefix", "module."], "--strip-prefix takes a file of weights, not none"),
    ],
)
@pytest.mark.parametrize("build", [NetworkOptions.build, lambda network: network.machine_spec], ids=["network", "shape"])
def test_a_shape_alone_has_the_errors_of_the_network(build, arguments, message):
    with pytest.raises(InputError, match=message):
        build(chosen("--model", TINY, *arguments))
