"""Workloads of shapes alone, and how many images a network gets."""

from dataclasses import replace

import pytest

from hw.config import AcceleratorConfig
from hw.presets import find_preset
from sim.cycle_model import predict
from sim.stimulus.small_machines import SMALL_NETWORK
from sim.stimulus.workload import default_images, prepare, prepare_shape
from sw.networks.checkpoint import save_tensors
from sw.networks.options import NetworkOptions

COLOUR_STEM = "vit:dim=8,depth=2,heads=2,tokens=5,classes=3,channels=3,patch=8,stem=4"
NANO = find_preset("nano")


def stem_weights(folder) -> NetworkOptions:
    """Colour images behind a padded convolution, whose normalisation gives them a plane more."""
    save_tensors(folder / "w.safetensors", NetworkOptions(COLOUR_STEM, "random").build().state_dict())
    return NetworkOptions(COLOUR_STEM, str(folder / "w.safetensors"))


@pytest.mark.parametrize(
    ("network", "config", "chosen"),
    [
        (SMALL_NETWORK, replace(NANO, rows=3, cols=5, exp_units=1), {"skip": "0", "loop_order": "token_major"}),
        (COLOUR_STEM, NANO, {"path": "mlp,full"}),
        (stem_weights, NANO, {}),
        (NetworkOptions("test_vit", "random", image_size=(32, 48), classes=7), find_preset("zcu102"), {"skip": "2"}),
        pytest.param(
            NetworkOptions("deit_tiny_distilled_patch16_224", "random", image_size=(96, 112)), find_preset("zcu102"), {},
            marks=pytest.mark.slow,
        ),
    ],
    ids=["limited exp units", "stem", "normalised stem", "timm", "two head tokens"],
)
def test_a_shape_has_the_counters_of_its_networks(network, config: AcceleratorConfig, chosen, tmp_path):
    network = network(tmp_path) if callable(network) else network
    real, shape = prepare(network, config, images=1, **chosen), prepare_shape(network, config, **chosen)
    assert len(shape.images) == 0 and shape.images.shape[1:] == real.images.shape[1:]
    full = (1 << real.path.depth) - 1
    for mask in (real.path.mask, full, 0):
        assert predict(shape.program, path_masks=(mask, mask)) == predict(real.program, path_masks=(mask, mask))


def test_small_networks_get_many_images_and_large_ones_one():
    counts = [
        default_images(prepare_shape(name, config).program)
        for name, config in ((SMALL_NETWORK, NANO), ("fmnist_vit_tiny", NANO), ("deit_small_patch16_224", find_preset("zcu102")))
    ]
    assert counts == [32, 32, 1]
