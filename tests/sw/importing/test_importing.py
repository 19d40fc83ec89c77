"""Networks imported by their operations: what is folded computes what the module computes, and what does not fit is named."""


import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from hw.config import AcceleratorConfig
from hw.errors import InputError
from hw.golden import GoldenDevice
from sw.compiler.memory_map import required_config
from sw.compiler.programs import compile_network
from sw.graph.float_network import FloatNetwork
from sw.graph.forward import forward
from sw.importing import import_network, module_image_shape
from sw.networks.network import build_network
from sw.networks.plain_vit import create_from_arguments, import_timm
from sw.networks.random_weights import draw_weights
from sw.quantization.quantize import logits_sqnr_db, quantize

SHAPE = dict(img_size=(6, 9), patch_size=3, in_chans=2, num_classes=5, embed_dim=12, depth=2, num_heads=3, mlp_ratio=2.0)


def distilled() -> nn.Module:
    import_timm()
    from timm.models.deit import VisionTransformerDistilled

    return VisionTransformerDistilled(**SHAPE)


def assert_same(module: nn.Module, network: FloatNetwork) -> None:
    images = torch.randn(3, network.channels, *network.image_size, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(forward(network, images), module.eval()(images), rtol=1e-4, atol=1e-4)


class Attention(nn.Module):
    """Separate layers for queries, keys and values, channels interleaved among heads, scores scaled at the end."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads, self.logit_scale = heads, nn.Parameter(torch.tensor(0.7))
        self.to_query, self.to_key, self.to_value, self.out = (nn.Linear(dim, dim, bias=index > 0) for index in range(4))

    def forward(self, tokens):
        count, length, dim = tokens.shape
        query = self.to_query(tokens).view(count, length, dim // self.heads, self.heads).permute(0, 3, 1, 2)
        key = self.to_key(tokens).view(count, length, dim // self.heads, self.heads).permute(0, 3, 2, 1)
        value = self.to_value(tokens).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        context = F.softmax((query @ key) * self.logit_scale, dim=3) @ value
        return self.out(context.permute(0, 2, 1, 3).flatten(2))


class Encoder(nn.Module):
    """An encoder with another spelling of everything."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.first, self.second = nn.LayerNorm(dim), nn.LayerNorm(dim, bias=False)
        self.mixer, self.up, self.down = Attention(dim, heads), nn.Linear(dim, 2 * dim), nn.Linear(2 * dim, dim)
        self.gamma = nn.Parameter(torch.rand(dim))

    def forward(self, stream):
        stream += self.mixer(self.first(stream)).div(2.0)
        hidden = self.up(self.second(stream))
        return self.gamma * self.down(hidden * torch.sigmoid(1.702 * hidden)) + stream


class OtherVit(nn.Module):
    """A plain ViT of nobody's: a convolution stem, positions before the class token, a norm of the class token alone."""

    def __init__(self, dim: int = 12, heads: int = 3) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(2, 6, 5, stride=2, padding=2, bias=False), nn.BatchNorm2d(6), nn.ReLU(inplace=True),
            nn.Conv2d(6, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(),
        )  # fmt: skip
        self.patchify = nn.Conv2d(4, dim, 2, stride=2)
        self.token, self.positions = nn.Parameter(torch.randn(dim)), nn.Parameter(torch.randn(6, dim))
        self.encoders = nn.ModuleList(Encoder(dim, heads) for _ in range(2))
        self.last, self.classifier = nn.LayerNorm(dim), nn.Linear(dim, 5)
        for part in self.stem:
            if isinstance(part, nn.BatchNorm2d):
                part.running_mean.uniform_(-1, 1)
                part.running_var.uniform_(0.5, 2)

    def forward(self, images):
        tokens = self.patchify(self.stem(images)).flatten(2).permute(0, 2, 1) + self.positions
        tokens = torch.cat([self.token.expand(len(images), 1, -1), tokens], 1)
        for encoder in self.encoders:
            tokens = encoder(tokens)
        return self.classifier(self.last(tokens[:, 0]))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"init_values": 0.5, "no_embed_class": True},
        {"qkv_bias": False, "act_layer": nn.SiLU, "reg_tokens": 3},
        {"act_layer": nn.Hardswish, "pre_norm": False},
    ],
)
@pytest.mark.parametrize("fused", [False, True])
def test_timm_variants(options, fused):
    vit = create_from_arguments({**SHAPE, **options})
    draw_weights(vit, 2)
    for block in vit.blocks:
        block.attn.fused_attn = fused
    network = import_network(vit)
    assert (network.prefix_tokens, network.head_tokens) == (1 + options.get("reg_tokens", 0), 1)
    assert_same(vit, network)


def test_distillation_token_has_its_half_of_the_answer():
    vit = distilled()
    draw_weights(vit, 2)
    network = import_network(vit)
    assert (network.prefix_tokens, network.head_tokens, network.head.weight.shape) == (2, 2, (5, 24))
    assert_same(vit, network)


def test_another_spelling_with_a_convolution_stem():
    torch.manual_seed(4)
    vit = OtherVit().eval()
    network = import_network(vit, (2, 8, 12))
    assert [(part.weight.shape, part.stride, part.padding) for part in network.stem] == [((6, 2, 5, 5), 2, 2), ((4, 6, 3, 3), 1, 1)]
    assert (network.image_size, network.channels, network.patch_size, network.heads) == ((8, 12), 2, 2, 3)
    assert_same(vit, network)


def test_a_module_that_tells_no_size_is_quantized_at_that_of_its_calibration_images():
    network = quantize(OtherVit().eval(), torch.rand(4, 2, 8, 12))
    assert (network.image_size, network.channels) == ((8, 12), 2)


def test_importing_leaves_the_module_in_its_mode():
    vit = create_from_arguments({**SHAPE, "proj_drop_rate": 0.5}).train()
    vit.blocks[0].eval()
    import_network(vit)
    assert vit.training and vit.blocks[1].attn.training and not vit.blocks[0].training


class Pooled(OtherVit):
    def forward(self, images):
        tokens = self.encoders[0](self.patchify(self.stem(images)).flatten(2).permute(0, 2, 1) + self.positions)
        return self.classifier(self.last(tokens).mean(1))


class Rolled(Encoder):
    def forward(self, stream):
        return super().forward(stream.roll(1, 1))


class Dilated(OtherVit):
    def __init__(self):
        super().__init__()
        self.stem[3] = nn.Conv2d(6, 4, 3, padding=2, dilation=2)


class Parallel(Encoder):
    def forward(self, stream):
        return stream + self.mixer(self.first(stream)) + self.down(self.up(self.second(stream)).relu())


class Stacked(Encoder):
    def forward(self, stream):
        branches = [self.mixer(self.first(stream)), self.down(self.up(self.second(stream)).relu())]
        return stream + torch.stack(branches).sum(0)


class Activated(Encoder):
    """An encoder with a function of one's own between the layers of its MLP."""

    def __init__(self, function) -> None:
        super().__init__(12, 3)
        self.function = function

    def forward(self, stream):
        stream = stream + self.mixer(self.first(stream))
        return stream + self.down(self.function(self.up(self.second(stream))))


class Overlapping(OtherVit):
    def __init__(self):
        super().__init__()
        self.patchify = nn.Conv2d(4, 12, 3, stride=2, padding=1)


class TwoAnswers(OtherVit):
    def forward(self, images):
        return super().forward(images), images


class Branching(OtherVit):
    def forward(self, images):
        return super().forward(images) if images.sum() > 0 else images


def with_encoder(kind: type[nn.Module]) -> nn.Module:
    vit = OtherVit()
    vit.encoders[1] = kind(12, 3)
    return vit


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (Pooled, r"aten\.mean\.dim at the top level .*class token, not from a mean"),
        (lambda: with_encoder(Rolled), r"aten\.roll\.default at encoders\.1 "),
        (Dilated, r"aten\.conv2d\.default at stem\.3 .*dilation 1"),
        (lambda: with_encoder(Parallel), r"aten\.add\.Tensor at encoders\.1 .*reads the same residual stream"),
        (lambda: with_encoder(Stacked), r"aten\.stack\.default at encoders\.1 .*branches one after the other"),
        (Overlapping, r"aten\.add\.Tensor at the top level .*not kernel 3x3, stride 2, padding 1"),
        (TwoAnswers, r"one tensor \[n, classes\]"),
        (Branching, r"must go through torch\.export"),
    ],
)
def test_what_does_not_run_is_named_with_its_place(make, message):
    with pytest.raises(InputError, match=message) as caught:
        import_network(make().eval(), (2, 8, 12))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "rounding",
    [
        lambda x: (x * 8).to(torch.int32).float() / 8,
        lambda x: (x * 8).int() / 8,
        lambda x: x.type(torch.int8).to(x.dtype),
        lambda x: x.type_as(torch.zeros(1, dtype=torch.int64)).float(),
        lambda x: x.view(torch.int32).float(),
        lambda x: torch.empty_like(x, dtype=torch.int16).copy_(x).float(),
    ],
)
def test_casts_to_integers_are_refused_with_their_place(rounding):
    with pytest.raises(InputError, match=r"aten\.\w+\.\w+ at encoders\.1 does not run"):
        import_network(with_encoder(lambda *_: Activated(rounding)).eval(), (2, 8, 12))


@pytest.mark.parametrize("exact", [lambda x: x * (x > 0), lambda x: x * (x > 0.5).to(x.dtype), lambda x: (x * 8).round() / 8])
def test_functions_that_pass_through_booleans_or_round_in_floats(exact):
    module = with_encoder(lambda *_: Activated(exact)).eval()
    assert_same(module, import_network(module, (2, 8, 12)))


@pytest.mark.parametrize("array", [(4, 4, 4), (3, 4, 5), (1, 2, 8)])
@pytest.mark.parametrize("make", [distilled, lambda: create_from_arguments({**SHAPE, "reg_tokens": 4, "act_layer": nn.ReLU})])
def test_prefix_tokens_on_the_machine(make, array):
    """Wherever the machine puts the tokens, the logits are the same, and near the float ones."""
    vit = make()
    draw_weights(vit, 3)
    pixels = np.random.default_rng(5).integers(-128, 128, (48, 6, 9, 2), dtype=np.int8)
    inputs = torch.from_numpy(pixels.transpose(0, 3, 1, 2).astype(np.float32) / 128)
    network = quantize(vit, inputs)
    answers = []
    for rows, cols, depth in (array, (2, 2, 2)):
        config = AcceleratorConfig(rows=rows, cols=cols, pe_depth=depth, **required_config(network, rows, cols, depth))
        answers.append(GoldenDevice().run(compile_network(network, config), pixels).logits)
    assert np.array_equal(*answers)
    with torch.no_grad():
        assert logits_sqnr_db(vit(inputs).numpy(), answers[0]) > 24


def test_distillation_token_needs_a_second_row_tile():
    vit = distilled()
    draw_weights(vit, 3)
    network = quantize(vit, torch.rand(4, *module_image_shape(vit)))
    config = AcceleratorConfig(rows=8, cols=4, pe_depth=4, **required_config(network, 8, 4, 4))
    with pytest.raises(InputError, match="rows must be less than 8"):
        compile_network(network, config)


def test_sizes_of_timm_models():
    vit = build_network("test_vit", "random", image_size=(48, 80))
    network = import_network(vit)
    assert network.image_size == (48, 80) and len(network.positions) == 1 + 3 * 5
    assert_same(vit, network)
