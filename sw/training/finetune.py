"""Fine-tuning of one path: cross-entropy, distillation from the full ViT, and entropy on right answers."""

import copy
import pathlib
from collections.abc import Callable
from dataclasses import replace

import torch

from sw.data.split import Split
from sw.graph.path import Path
from sw.graph.path_vit import PathVit
from sw.networks.checkpoint import load_run_state, save_run_state
from sw.training.recipe import Recipe
from sw.training.trainer import Trainer, evaluate_fp32

_STATE_INTERVAL = 50


def finetune(
    network: PathVit,
    path: Path | None,
    train_split: Split,
    recipe: Recipe,
    *,
    teacher: PathVit | None = None,
    teacher_logits: torch.Tensor | None = None,
    progress: Callable[[int, int, float], None] | None = None,
    state_dir: pathlib.Path | None = None,
) -> PathVit:
    """Return a copy of ``network``, fine-tuned on one path, in eval mode, its ``path`` set to that one.

    The result is a function of the arguments and the number of torch threads, to the last bit, whether or not the
    call was killed and repeated with the same ``state_dir`` in between.

    Args:
        network: the network to start from; left as it is.
        path: None keeps every attention.
        train_split: images to train on; a split other than ``train`` is refused.
        recipe: how to train, such as `sw.training.recipe.finetuning` gives; without a teacher nothing is distilled.
        teacher: answers each augmented batch; usually the full ViT.
        teacher_logits: float32 [len(train_split), classes] (see `teacher_answers`), instead of a teacher: no forward
            pass of the teacher in each step, at the price of answers to the images before augmentation.
        progress: called after each step with the steps done, the steps of the call and the batch's loss.
        state_dir: where to keep a checkpoint every 50 steps, and to continue from if it holds one.

    Raises:
        InputError: the split is not to be trained on, the path is of another depth, or the checkpoint is corrupt or of
            another call.
    """
    tuned = PathVit(copy.deepcopy(network.vit), path)
    if teacher is None and teacher_logits is None:
        recipe = replace(recipe, distill_weight=0.0)
    trainer = Trainer(tuned, train_split, recipe, path=path, teacher=teacher, teacher_logits=teacher_logits)
    found = load_run_state(state_dir) if state_dir is not None else None
    if found is not None:
        trainer.load_state(*found)

    def on_step(done: int, loss: float) -> None:
        if state_dir is not None and (done % _STATE_INTERVAL == 0 or done == recipe.steps):
            save_run_state(state_dir, *trainer.state())
        if progress is not None:
            progress(done, recipe.steps, loss)

    trainer.run(on_step)
    return tuned


def teacher_answers(teacher: PathVit, train_split: Split) -> torch.Tensor:
    """Return the teacher's logits to every training image, float32 [n, classes], to be shared by many calls."""
    return evaluate_fp32(teacher, train_split)
