import json
import math

import numpy as np
import pytest
import torch

from hw.errors import InputError
from sw import train
from sw.data.split import Split
from sw.graph.entropy import entropy_nats
from sw.graph.path import Path
from sw.graph.path_vit import PathVit
from sw.networks.checkpoint import load_run_state, save_run_state
from sw.networks.network import build_network, parse_network, untrained_network
from sw.training.objective import augment, batch_loss, correct_entropy, distillation, learning_rate
from sw.training.recipe import Recipe
from sw.training.trainer import Trainer, accuracy, evaluate_fp32

# 28x28 pictures in 4 patches of 14x14: the smallest network that takes Fashion-MNIST.
TINY = "vit:dim=12,depth=3,heads=2,tokens=5,classes=10,patch=14"

pytestmark = pytest.mark.usefixtures("one_thread")


def tiny(seed=0):
    return PathVit(untrained_network(parse_network(TINY), seed))


def same(first, second):
    return all(
        torch.equal(a, b) for a, b in zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    )


def test_entropy_in_nats():
    logits = torch.tensor([[0.0, 0.0, 0.0, 0.0], [math.log(3.0), 0.0, -math.inf, -math.inf], [1000.0, 0.0, -1e4, 5.0]])
    expected = [math.log(4.0), -(0.75 * math.log(0.75) + 0.25 * math.log(0.25)), 0.0]
    assert torch.allclose(entropy_nats(logits), torch.tensor(expected), atol=1e-6)


def test_entropy_of_certain_answers_has_a_gradient():
    logits = torch.tensor([[500.0, -500.0, 0.0]], requires_grad=True)
    entropy_nats(logits).sum().backward()
    assert torch.isfinite(logits.grad).all()


def test_entropy_term_counts_each_image_by_its_own_answer():
    logits = torch.tensor([[2.0, 0.0], [2.0, 0.0], [0.0, 0.0]])
    terms = correct_entropy(logits, torch.tensor([0, 1, 0]))
    assert terms[0] == entropy_nats(logits)[0] and terms[1] == 0.0 and terms[2] == entropy_nats(logits)[2]


def test_distillation_is_zero_for_equal_answers_and_matches_its_definition():
    student, teacher = torch.randn(5, 7), torch.randn(5, 7)
    assert abs(distillation(student, student, 3.0)) < 1e-6
    p, q = (teacher / 3).softmax(-1), (student / 3).softmax(-1)
    expected = 9 * (p * (p / q).log()).sum(-1).mean()
    assert torch.allclose(distillation(student, teacher, 3.0), expected, atol=1e-6)


def test_loss_is_the_weighted_sum():
    logits, teacher, labels = torch.randn(6, 10), torch.randn(6, 10), torch.randint(0, 10, (6,))
    recipe = Recipe(steps=1, label_smoothing=0.0, distill_weight=0.25, temperature=2.0, entropy_weight=0.5)
    expected = 0.75 * torch.nn.functional.cross_entropy(logits, labels) + 0.25 * distillation(logits, teacher, 2.0)
    expected = expected + 0.5 * correct_entropy(logits, labels).mean()
    assert torch.allclose(batch_loss(logits, labels, recipe, teacher), expected)


def test_augmentation_shifts_and_mirrors():
    image = torch.arange(16.0).reshape(1, 1, 4, 4).repeat(200, 1, 1, 1)
    recipe = Recipe(steps=1, shift=1)
    augmented = augment(image, recipe, torch.Generator().manual_seed(0))
    candidates = set()
    for mirrored in (image[0, 0], image[0, 0].flip(1)):
        padded = torch.nn.functional.pad(mirrored, (1,) * 4, value=-1.0)
        candidates |= {tuple(padded[r : r + 4, c : c + 4].flatten().tolist()) for r in range(3) for c in range(3)}
    seen = {tuple(picture.flatten().tolist()) for picture in augmented}
    assert len(candidates) == 18 and seen == candidates


def test_learning_rate_warms_up_and_falls():
    recipe = Recipe(steps=100, warmup_steps=10, lr=2.0)
    assert [learning_rate(step, recipe) for step in (0, 4, 9, 10)] == [0.2, 1.0, 2.0, 2.0]
    assert math.isclose(learning_rate(55, recipe), 1.0) and learning_rate(100, recipe) < 1e-9


@pytest.mark.parametrize("change", [{"steps": 0}, {"lr": 0.0}, {"distill_weight": 1.5}, {"batch": 0}, {"lr": math.nan}])
def test_recipe_rejects(change):
    with pytest.raises(InputError, match=next(iter(change))):
        Recipe(**{"steps": 10, **change})


def test_trainer_rejects(data):
    for split in (data.calibration, data.test, data.test_all):
        with pytest.raises(InputError, match="split 'train'"):
            Trainer(tiny(), split, Recipe(steps=1))
    with pytest.raises(InputError, match="teacher"):
        Trainer(tiny(), data.train, Recipe(steps=1, distill_weight=0.5))
    with pytest.raises(InputError, match="at least one batch"):
        Trainer(tiny(), data.train.take(10), Recipe(steps=1))
    with pytest.raises(InputError, match="one row per image"):
        Trainer(tiny(), data.train, Recipe(steps=1), teacher_logits=torch.zeros(5, 10))


def test_training_learns(data):
    network = tiny()
    Trainer(network, data.train, Recipe(steps=250, batch=64, lr=4e-3, warmup_steps=20, shift=0, flip=False)).run()
    assert not network.training
    assert accuracy(evaluate_fp32(network, data.calibration), data.calibration) > 0.6


def test_distillation_pulls_towards_the_teacher(data):
    teacher = PathVit(build_network(TINY, "random", 3))
    answers = evaluate_fp32(teacher, data.test)

    def agreement(**options):
        network = tiny(1)
        recipe = Recipe(steps=120, batch=64, lr=4e-3, shift=0, flip=False, distill_weight=1.0)
        Trainer(network, data.train, recipe, **options).run()
        return float((evaluate_fp32(network, data.test).argmax(-1) == answers.argmax(-1)).float().mean())

    untrained = float((evaluate_fp32(tiny(1), data.test).argmax(-1) == answers.argmax(-1)).float().mean())
    live = agreement(teacher=teacher)
    assert live > untrained + 0.2
    # Without augmentation, stored answers are the live ones.
    assert agreement(teacher_logits=evaluate_fp32(teacher, data.train)) == pytest.approx(live, abs=0.02)


def test_skipped_attention_is_not_trained(data):
    network, before = tiny(), tiny()
    Trainer(network, data.train, Recipe(steps=3, batch=16, lr=1e-3), path=Path.keeping([0, 2], network.depth)).run()
    for index, (block, old) in enumerate(zip(network.vit.blocks, before.vit.blocks, strict=True)):
        assert same(block.attn, old.attn) == (index == 1)
        assert not same(block.mlp, old.mlp)


def test_attention_drop_keeps_encoder_0_and_skips_some_others(data):
    trainer = Trainer(tiny(), data.train, Recipe(steps=1, attention_drop=0.9))
    paths = [trainer._draw_path() for _ in range(300)]
    assert all(path.keeps(0) for path in paths)
    assert 0.5 < np.mean([path.effort == 3 for path in paths]) < 0.9
    assert Path.keeping([0], 3) in paths


@pytest.mark.parametrize("stop", [1, 4, 7])
def test_continued_run_is_bit_identical(data, tmp_path, stop):
    split = data.train.take(100)  # three steps an epoch, so the run crosses epochs
    recipe = Recipe(
        steps=9, batch=32, lr=1e-3, warmup_steps=3, attention_drop=0.5, distill_weight=0.3, entropy_weight=0.1
    )
    teacher = PathVit(build_network(TINY, "random", 3))
    whole = tiny()
    Trainer(whole, split, recipe, teacher=teacher).run()
    first = Trainer(tiny(), split, recipe, teacher=teacher)
    for _ in range(stop):
        first.step()
    save_run_state(tmp_path, *first.state())
    torch.manual_seed(1234)  # whatever happens in between
    continued = Trainer(tiny(seed=9), split, recipe, teacher=teacher)
    continued.load_state(*load_run_state(tmp_path))
    assert continued.step_index == stop
    continued.run()
    assert same(whole, continued.network)


def test_state_of_another_run_is_refused(data):
    state = Trainer(tiny(), data.train, Recipe(steps=5)).state()
    with pytest.raises(InputError, match="same recipe and path"):
        Trainer(tiny(), data.train, Recipe(steps=6)).load_state(*state)
    with pytest.raises(InputError, match="same recipe and path"):
        Trainer(tiny(), data.train, Recipe(steps=5), path=Path.keeping([0], 3)).load_state(*state)
    other = PathVit(untrained_network(parse_network(TINY.replace("dim=12", "dim=24"))))
    with pytest.raises(InputError, match="of this network"):
        Trainer(other, data.train, Recipe(steps=5)).load_state(*state)


def test_evaluation_is_in_order_and_by_path(data):
    network = tiny()
    split, path = data.test.take(50), Path.keeping([1], network.depth)
    logits = evaluate_fp32(network, split, batch=7)
    assert logits.shape == (50, 10) and logits.dtype == torch.float32
    assert torch.allclose(logits, evaluate_fp32(network, split), atol=1e-5)
    assert torch.equal(evaluate_fp32(network, split, path), evaluate_fp32(PathVit(network.vit, path), split))
    perfect = torch.nn.functional.one_hot(torch.from_numpy(split.labels), 10).float()
    assert accuracy(perfect, split) == 1.0 and accuracy(-perfect, split) == 0.0


COMMAND = [
    "--model",
    TINY,
    "--data",
    "embedded",
    "--batch",
    "1000",
    "--threads",
    "1",
    "--save-every",
    "3",
    "--lr",
    "0.003",
]


def test_command_trains_and_continues(tmp_path, capsys, monkeypatch):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    path = ["--path", "full,mlp,full"]
    assert train.main([*COMMAND, *path, "--epochs", "2", "--out", str(whole)]) == 0
    assert "test: " in capsys.readouterr().out
    config = json.loads((whole / "config.json").read_text())
    assert config["fp32"]["test"]["images"] == 2000 and config["recipe"]["steps"] == 16
    assert config["kinds"] == ["full", "mlp", "full"]

    step = Trainer.step

    def killed_after_ten(self):
        if self.step_index == 10:
            raise KeyboardInterrupt
        return step(self)

    monkeypatch.setattr(Trainer, "step", killed_after_ten)
    assert train.main([*COMMAND, *path, "--epochs", "2", "--out", str(cut)]) == 130
    monkeypatch.setattr(Trainer, "step", step)
    assert train.main([*COMMAND, *path, "--epochs", "2", "--out", str(cut)]) == 2
    assert "--resume" in capsys.readouterr().err
    assert train.main([*COMMAND, "--kept", "0,2", "--epochs", "2", "--out", str(cut), "--resume"]) == 0
    assert (cut / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    assert (cut / "config.json").read_bytes() == (whole / "config.json").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--epochs", "0"], "--epochs"),
        (["--model", "nonsense"], "timm name"),
        (["--model", "vit:dim=12,depth=3,heads=2,tokens=5,classes=10"], "28x28x1"),
        (["--kept", "0,3"], "0 to 2"),
        (["--kept", "a"], "--kept takes encoder indices"),
        (["--path", "full,half,mlp"], "--path takes 3 kinds of full, mlp"),
        (["--path", "full,mlp,mlp", "--kept", "0"], "--path takes the place of --kept"),
        (["--data", "/nowhere"], "must exist"),
        (["--teacher", TINY], "no shipped weights"),
        (["--distill-weight", "0.5"], "--teacher"),
        (["--resume"], "--resume needs a checkpoint"),
        (["--init", "/nowhere/model.safetensors"], "must exist"),
    ],
)
def test_command_rejects(arguments, message, tmp_path, capsys):
    assert train.main([*COMMAND, "--out", str(tmp_path), *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1 and message in error


def test_split_take_rejects():
    empty = Split("train", np.zeros((0, 28, 28, 1), np.uint8), np.zeros(0, np.int64), np.zeros(0, np.int64))
    with pytest.raises(InputError, match="Image count"):
        empty.take(1)
