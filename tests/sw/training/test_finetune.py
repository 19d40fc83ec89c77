import pytest
import torch

from hw.errors import InputError
from sw.graph.entropy import entropy_nats
from sw.graph.path import Path
from sw.graph.path_vit import PathVit
from sw.networks.network import build_network, parse_network, untrained_network
from sw.training.finetune import finetune, teacher_answers
from sw.training.recipe import Recipe, finetuning
from sw.training.trainer import Trainer, accuracy, evaluate_fp32

TINY = "vit:dim=12,depth=3,heads=2,tokens=5,classes=10,patch=14"

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def trained(data, one_thread):
    network = PathVit(untrained_network(parse_network(TINY)))
    Trainer(network, data.train, Recipe(steps=300, batch=64, lr=4e-3, warmup_steps=20, shift=1)).run()
    return network


def same(first, second):
    return all(
        torch.equal(a, b) for a, b in zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    )


def test_finetuning_repairs_a_path(data, trained):
    before = {name: value.clone() for name, value in trained.state_dict().items()}
    tuned = finetune(trained, Path.keeping([0], trained.depth), data.train, finetuning(80, batch=64, lr=2e-3), teacher=trained)
    assert tuned.path.kept == (0,) and not tuned.training
    broken = accuracy(evaluate_fp32(trained, data.calibration, Path.keeping([0], trained.depth)), data.calibration)
    repaired = accuracy(evaluate_fp32(tuned, data.calibration), data.calibration)
    assert repaired > broken + 0.02
    assert all(torch.equal(before[name], value) for name, value in trained.state_dict().items())


def test_entropy_term_makes_right_answers_confident(data, trained):
    def entropy(weight):
        tuned = finetune(trained, None, data.train, finetuning(60, batch=64, lr=2e-3, entropy_weight=weight))
        return float(entropy_nats(evaluate_fp32(tuned, data.test)).mean())

    assert entropy(1.0) < entropy(0.0) - 0.05


def test_equal_arguments_give_equal_bits(data, trained):
    answers = teacher_answers(trained, data.train)
    path = Path.keeping([0, 2], trained.depth)
    first = finetune(trained, path, data.train, finetuning(6, batch=16, seed=3), teacher_logits=answers)
    assert same(first, finetune(trained, path, data.train, finetuning(6, batch=16, seed=3), teacher_logits=answers))
    assert not same(first, finetune(trained, path, data.train, finetuning(6, batch=16, seed=4), teacher_logits=answers))


def test_killed_call_continues_bit_identically(data, trained, tmp_path):
    recipe, path = finetuning(105, batch=8), Path.keeping([0, 1], trained.depth)
    whole = finetune(trained, path, data.train, recipe, teacher=trained)

    def kill(done, steps, loss):
        assert steps == 105
        if done == 77:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        finetune(trained, path, data.train, recipe, teacher=trained, state_dir=tmp_path, progress=kill)
    done_steps = []
    continued = finetune(
        trained, path, data.train, recipe, teacher=trained, state_dir=tmp_path, progress=lambda done, *_: done_steps.append(done)
    )
    assert done_steps == list(range(51, 106))
    assert same(whole, continued)
    assert same(whole, finetune(trained, path, data.train, recipe, teacher=trained, state_dir=tmp_path))
    with pytest.raises(InputError, match="same recipe and path"):
        finetune(trained, Path.keeping([0], trained.depth), data.train, recipe, teacher=trained, state_dir=tmp_path)


def test_calibration_and_test_images_are_refused(data, trained):
    for split in (data.calibration, data.test, data.test_all):
        with pytest.raises(InputError, match="split 'train'"):
            finetune(trained, Path.keeping([0], trained.depth), split, finetuning())


def test_unknown_encoder(data):
    with pytest.raises(InputError, match="of 3 encoders, not 4"):
        finetune(PathVit(build_network(TINY, "random")), Path.full(4), data.train, finetuning())
