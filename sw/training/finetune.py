"""Fine-tuning of one path: cross-entropy, distillation from the full ViT, and entropy on right answers."""

import copy
import pathlib
from collections.abc import Callable

import torch

from sw.data.fashion_mnist import Split
from sw.graph.path import Path
from sw.graph.path_vit import PathVit
from sw.networks.checkpoint import load_run_state, save_run_state
from sw.training.objective import Recipe
from sw.training.trainer import Trainer, evaluate_fp32

_STATE_INTERVAL = 50


def finetune(
    network: PathVit,
    path: Path | None,
    train_split: Split,
    *,
    teacher: PathVit | None = None,
    teacher_logits: torch.Tensor | None = None,
    steps: int = 120,
    batch: int = 128,
    lr: float = 5e-4,
    seed: int = 0,
    distill_weight: float = 0.5,
    entropy_weight: float = 0.05,
    temperature: float = 2.0,
    bfloat16: bool = False,
    frozen: int | None = None,
    quantization_aware: bool = False,
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
        teacher: answers each augmented batch; usually the full ViT.
        teacher_logits: float32 [len(train_split), classes] (see `teacher_answers`), instead of a teacher: no forward
            pass of the teacher in each step, at the price of answers to the images before augmentation.
        steps: optimizer steps; the learning rate warms up over a tenth of them and falls as a half cosine.
        batch: images per step.
        lr: peak learning rate. With 120 steps on the embedded subset 1e-3 costs the full ViT half a point on the
            calibration split and 3e-4 nothing; an effort of 3 ends half a point higher with 1e-3 than with 3e-4.
        seed: of order and augmentation.
        distill_weight: share of distillation in the loss, 0 where there is neither teacher nor teacher logits.
        entropy_weight: of the entropy in nats of the images answered right.
        temperature: of the distillation.
        bfloat16: forward and backward passes under bfloat16 autocast.
        frozen: stem, embedding and as many first encoders stay as they are; None trains all. See `Recipe.frozen`.
        quantization_aware: compute with the machine's roundings; see `sw.quantization.quantization_aware`.
        progress: called after each step with the steps done, the steps of the call and the batch's loss.
        state_dir: where to keep a checkpoint every 50 steps, and to continue from if it holds one.

    Raises:
        InputError: a value is out of range, the split is not to be trained on, or the checkpoint is corrupt or of
            another call.
    """
    tuned = PathVit(copy.deepcopy(network.vit), path)
    recipe = Recipe(
        steps=steps,
        batch=batch,
        lr=lr,
        warmup_steps=steps // 10,
        label_smoothing=0.0,
        distill_weight=distill_weight if teacher is not None or teacher_logits is not None else 0.0,
        temperature=temperature,
        entropy_weight=entropy_weight,
        shift=1,
        seed=seed,
        bfloat16=bfloat16,
        frozen=frozen,
        quantization_aware=quantization_aware,
    )
    trainer = Trainer(tuned, train_split, recipe, path=path, teacher=teacher, teacher_logits=teacher_logits)
    found = load_run_state(state_dir) if state_dir is not None else None
    if found is not None:
        trainer.load_state(*found)

    def on_step(done: int, loss: float) -> None:
        if state_dir is not None and (done % _STATE_INTERVAL == 0 or done == steps):
            save_run_state(state_dir, *trainer.state())
        if progress is not None:
            progress(done, steps, loss)

    trainer.run(on_step)
    return tuned


def teacher_answers(teacher: PathVit, train_split: Split) -> torch.Tensor:
    """Return the teacher's logits to every training image, float32 [n, classes], to be shared by many calls."""
    return evaluate_fp32(teacher, train_split)
