import json
import subprocess
import sys

import pytest
import torch

from benchmarks.importing.timm_shapes import shapes
from hw.errors import InputError
from sw.graph.path import Path
from sw.graph.path_vit import PathVit
from sw.networks import plain_vit, timm_shapes
from sw.networks.network import build_network, parse_image_size, parse_network, parse_timm

MADE = "vit:dim=24,depth=2,heads=3,tokens=11,classes=7"


def random_images(spec, count, seed=0):
    random = torch.Generator().manual_seed(seed)
    return (torch.randint(0, 256, (count, spec.channels, *spec.image_size), generator=random) - 128) / 128


def test_default_spec():
    spec = parse_network("fmnist_vit_tiny")
    assert (spec.dim, spec.depth, spec.heads, spec.patch_size, spec.tokens, spec.hidden) == (96, 12, 3, 7, 17, 384)


@pytest.mark.parametrize("tokens", [2, 3, 11, 17, 50])
def test_made_network_has_the_tokens_it_names(tokens):
    spec = parse_network(f"vit:dim=8,depth=1,heads=2,tokens={tokens},classes=3,mlp_ratio=1.5,patch=3,channels=2")
    assert spec.tokens == tokens and spec.hidden == 12
    vit = build_network(spec.name, "random")
    assert vit.pos_embed.shape == (1, tokens, 8)
    assert vit(random_images(spec, 2)).shape == (2, 3)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nonsense", "timm name"),
        ("vit:dim=10,depth=1,heads=3,tokens=3,classes=2", "multiple of heads 3"),
        ("vit:dim=8,depth=1,heads=2,tokens=1,classes=2", "at least 2"),
        ("vit:dim=8,depth=0,heads=2,tokens=4,classes=2", "depth must be a positive integer"),
        ("vit:dim=8,depth=1,heads=2,tokens=4,classes=1", "classes must be at least 2"),
        ("vit:dim=8,depth=1,heads=2,tokens=4,classes=2,patch=0", "patch must be"),
        ("vit:dim=8,depth=1,heads=2,tokens=4,classes=2,mlp_ratio=0.3", "whole number"),
        ("vit:dim=8,depth=1,heads=2,tokens=4,classes=2,mlp_ratio=0", "positive whole number"),
        ("vit:dim=8,depth=1,heads=2,tokens=4,classes=2,colour=1", "takes field=value with a field of dim, .*, not 'colour=1'"),
        ("vit:dim=8,dim=8,depth=1,heads=2,tokens=4,classes=2", "dim must be given once, not as 8 and 8"),
        ("vit:dim=8,depth=1,heads=2,tokens=5,classes=2,stem=0", "stem_channels must be a positive integer, not 0"),
        ("vit:dim=8,depth=1,heads=2,tokens=5,classes=2,stem=8,patch=1", "patch must be even behind a stem of stride 2, not 1"),
        ("vit:dim=1,depth=1,heads=1,tokens=4,classes=2", "dim must be at least 2, not 1"),
        ("vit:dim=8", "depth, heads, tokens, classes"),
        ("vit:dim=x", "dim must be an integer, not 'x'"),
        ("resnet18", "aten.max_pool2d.default at maxpool"),
        ("vit_base_patch16_clip_224", "aten.layer_norm.default at blocks.0.norm1 .*not another LayerNorm's output"),
        ("vit_base_patch16_siglip_224", "scaled_dot_product_attention.default at attn_pool"),
        ("vit_tiny_r_s16_p8_224", "aten.pad.default at patch_embed.backbone.conv"),
        ("swin_tiny_patch4_window7_224", "aten.layer_norm.default at patch_embed.norm"),
        ("eva02_tiny_patch14_224", "aten.stack.default at blocks.0.attn .*rotary"),
        ("vit_relpos_small_patch16_224", "blocks.0.attn .*no mask"),
    ],
)
def test_names_that_do_not_fit(name, message):
    with pytest.raises(InputError, match=message) as caught:
        parse_network(name)
    assert "\n" not in str(caught.value)


def test_timm_names():
    spec = parse_network("deit_small_patch16_224")
    assert (spec.tokens, spec.dim, spec.depth, spec.heads, spec.classes) == (197, 384, 12, 6, 1000)
    spec = parse_network("deit_tiny_distilled_patch16_224")
    assert (spec.tokens, spec.prefix_tokens, spec.head_tokens) == (198, 2, 2)


@pytest.mark.parametrize(
    ("name", "image_size", "classes"),
    [("deit_tiny_distilled_patch16_224", None, 7), ("vit_small_patch14_reg4_dinov2", (98, 70), None)],
)
def test_known_shapes_are_what_importing_finds(name, image_size, classes, monkeypatch):
    known = parse_network(name, image_size, classes)
    assert known == parse_timm(name, image_size, classes)
    monkeypatch.setattr(timm_shapes, "version", lambda package: "another")
    assert timm_shapes.timm_shape(name) is None and parse_network(name, image_size, classes) == known


@pytest.mark.slow
def test_every_known_shape_is_what_importing_finds():
    assert json.loads(timm_shapes.SHAPES.read_text(encoding="utf-8"))["shapes"] == json.loads(json.dumps(shapes()))


def test_a_known_shape_loads_neither_torch_nor_timm():
    recorded = json.loads(timm_shapes.SHAPES.read_text(encoding="utf-8"))["timm"]  # the one that is installed may be newer
    code = "import sys; from sw.networks import network, timm_shapes\n"
    code += f"timm_shapes.version = lambda package: {recorded!r}\n"
    code += "network.parse_network('deit_small_patch16_224'); assert not {'torch', 'timm'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_image_sizes():
    spec = parse_network("vit_small_patch14_dinov2", (98, 70))
    assert (spec.image_size, spec.patch_size, spec.tokens, spec.classes) == ((98, 70), 14, 36, 1000)
    assert parse_image_size("98x70") == (98, 70) and parse_image_size(None) is None
    with pytest.raises(InputError, match="98x98, not '98'"):
        parse_image_size("98")
    with pytest.raises(InputError, match=r"multiples of patch 14, not \(100, 98\)"):
        parse_network("vit_small_patch14_dinov2", (100, 98))
    assert parse_network("lvvit_s", (288, 256), 10).tokens == 18 * 16 + 1


def test_a_torch_state_dict_is_read(tmp_path):
    vit = build_network(MADE, "random", 1)
    torch.save({"model": vit.state_dict()}, tmp_path / "model.pth")
    loaded = build_network(MADE, tmp_path / "model.pth")
    assert all(torch.equal(value, vit.state_dict()[key]) for key, value in loaded.state_dict().items())
    torch.save({"model": [1]}, tmp_path / "list.pth")
    with pytest.raises(InputError, match=r"a state dict, at its top or as state_dict, model, .*; its top holds 'model'"):
        build_network(MADE, tmp_path / "list.pth")
    (tmp_path / "broken.pth").write_bytes(b"no checkpoint")
    with pytest.raises(InputError, match="safetensors file or a torch state dict") as caught:
        build_network(MADE, tmp_path / "broken.pth")
    assert "\n" not in str(caught.value)


def test_pretrained_weights_take_a_timm_name_and_a_classifier(monkeypatch):
    with pytest.raises(InputError, match="take a timm name"):
        build_network(MADE, "pretrained")
    timm = plain_vit.import_timm()
    create = timm.create_model

    def unreachable(name, pretrained=False, **arguments):
        if pretrained:
            raise ConnectionError("no route\nto the hub")
        return create(name, **arguments)

    monkeypatch.setattr(timm, "create_model", unreachable)
    with pytest.raises(InputError, match=r"'pretrained' of 'test_vit' must be reachable .*no route to the hub") as caught:
        build_network("test_vit", "pretrained")
    assert "\n" not in str(caught.value)
    monkeypatch.setattr(timm, "create_model", lambda name, pretrained=False, **arguments: create(name, **arguments))
    with pytest.raises(InputError, match="no classifier"):
        build_network("vit_small_patch14_dinov2", "pretrained", image_size=(28, 28))


@pytest.mark.parametrize("name", [MADE, "fmnist_vit_tiny", "test_vit"])
def test_random_weights_exercise_the_machine(name):
    spec = parse_network(name)
    vit = build_network(name, "random", seed=5)
    assert not vit.training
    for key, parameter in vit.named_parameters():
        fan_in = parameter[0].numel() if parameter.ndim > 1 and key.endswith("weight") else 1
        assert parameter.std() * fan_in**0.5 > 0.1, f"{key} is trivial"
    with torch.no_grad():
        tokens = vit._pos_embed(vit.patch_embed(random_images(spec, 8, seed=1)))
        for block in vit.blocks:
            qkv = block.attn.qkv(block.norm1(tokens)).reshape(8, -1, 3, spec.heads, spec.dim // spec.heads)
            query, key, _ = qkv.permute(2, 0, 3, 1, 4)
            scores = query @ key.transpose(-2, -1) * block.attn.scale
            assert 1.4 < (scores - scores.mean(-1, keepdim=True)).std() < 2.7
            tokens = block(tokens)
        logits = vit.forward_head(vit.norm(tokens))
    assert 1.0 < logits.std() < 4.0
    assert logits.std(0).mean() > 0.2, "the answer must depend on the image"


def test_random_layer_scale_is_in_range():
    vit = build_network("deit3_small_patch16_224", "random")
    for block in vit.blocks:
        assert 0.1 <= block.ls1.gamma.min() < 0.2 and 0.9 < block.ls2.gamma.max() <= 1.0


def test_random_weights_follow_the_seed():
    first, again, other = (build_network(MADE, "random", seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not any(torch.equal(first[key], other[key]) for key in first)


def test_weights_must_be_named():
    with pytest.raises(InputError, match="no shipped weights"):
        build_network(MADE)


@pytest.fixture(scope="module")
def path_vit():
    return PathVit(build_network(MADE, "random", 1))


def test_all_kept_is_timm(path_vit):
    images = random_images(parse_network(MADE), 4)
    with torch.no_grad():
        assert torch.equal(path_vit(images), path_vit.vit(images))


def test_skipped_encoder_runs_its_mlp_alone(path_vit):
    images = random_images(parse_network(MADE), 4)
    vit = path_vit.vit
    with torch.no_grad():
        tokens = vit._pos_embed(vit.patch_embed(images))
        tokens = tokens + vit.blocks[0].mlp(vit.blocks[0].norm2(tokens))
        expected = vit.forward_head(vit.norm(vit.blocks[1](tokens)))
        assert torch.equal(path_vit(images, Path.keeping([1], path_vit.depth)), expected)
        assert not torch.allclose(path_vit(images), expected, atol=1e-2)


def test_own_path_and_path_of_the_call(path_vit):
    images = random_images(parse_network(MADE), 2)
    lone = PathVit(path_vit.vit, Path.keeping([1], path_vit.depth))
    with torch.no_grad():
        assert torch.equal(lone(images), path_vit(images, Path.keeping([1], path_vit.depth)))
        assert torch.equal(lone(images, Path.full(2)), path_vit(images))


def test_a_path_of_another_depth(path_vit):
    with pytest.raises(InputError, match="Path must be of 2 encoders, not 3"):
        PathVit(path_vit.vit, Path.full(3))
    with pytest.raises(InputError, match="Path must be of 2 encoders, not 1"):
        path_vit(random_images(parse_network(MADE), 1), Path.full(1))


def test_streams(path_vit):
    images = random_images(parse_network(MADE), 3)
    entering, attended = path_vit.streams(images, rows="all")
    assert entering.shape == attended.shape == (3, 2, 11, 24)
    vit = path_vit.vit
    with torch.no_grad():
        tokens = vit._pos_embed(vit.patch_embed(images))
        assert torch.equal(entering[:, 0], tokens)
        assert torch.equal(entering[:, 1], vit.blocks[0](tokens))
        block = vit.blocks[1]
        assert torch.equal(attended[:, 1], entering[:, 1] + block.attn(block.norm1(entering[:, 1])))
    classes, _ = path_vit.streams(images)
    means, _ = path_vit.streams(images, rows="mean")
    assert torch.equal(classes, entering[:, :, 0])
    assert torch.allclose(means, entering[:, :, 1:].mean(2), atol=1e-6)
    skipped_in, skipped_out = path_vit.streams(images, Path.keeping([1], path_vit.depth))
    assert torch.equal(skipped_in[:, 0], skipped_out[:, 0]) and not torch.equal(skipped_in[:, 1], skipped_out[:, 1])
    assert (classes[:, 0].std(0) < 1e-6).all(), "the class token's first row does not depend on the image"
    with pytest.raises(InputError, match="Stream rows"):
        path_vit.streams(images, rows="some")


def test_parsing_a_made_network_imports_no_torch():
    code = f"import sys, sw.networks.network; sw.networks.network.parse_network({MADE!r}); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
