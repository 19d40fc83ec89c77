"""The training loop of the shipped checkpoint and of fine-tuning.

One `Trainer` holds a network, its optimizer, its place in the schedule and its random states; all of it can be saved
and loaded, and a run continued from a checkpoint is bit-identical to an uninterrupted one at the same thread count.

The loss of a batch is the mean over its images of

    (1 - distill_weight) * cross_entropy(label smoothing)
    + distill_weight * T^2 * KL(teacher / T || student / T)
    + entropy_weight * [answer is correct] * H(softmax(logits)),     H = sum -p log p, in nats.

The last term is PIVOT's (arXiv 2404.15185): it makes right answers confident, so that the gate lets them exit. Each
image counts by its own correctness.
"""

import math
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from hw.errors import InputError
from sw.data import Split, to_input
from sw.skipping import PathVit, validated_kept


@dataclass(frozen=True)
class Recipe:
    """How to train.

    Attributes:
        steps: optimizer steps of the whole run; the schedule is a function of it.
        batch: images per step; an epoch's short last batch is dropped.
        lr: peak learning rate of AdamW.
        warmup_steps: steps of linear warm-up; a half cosine to zero follows.
        weight_decay: of matrices; biases, norms, class token and positions have none.
        label_smoothing: of the cross-entropy, 0 ... 1.
        distill_weight: share of the distillation term, 0 ... 1; needs a teacher if positive.
        temperature: of the distillation.
        entropy_weight: of the entropy term.
        attention_drop: in half of the steps, each encoder >= 1 of the path skips its attention for the whole batch
            with a probability drawn from 0 ... ``attention_drop``. It teaches one network to answer on many paths,
            and saves the time of the attentions skipped.
        shift: images move by up to this many pixels each way.
        flip: images are mirrored with probability 1/2.
        gradient_norm: gradients are scaled down to this norm.
        seed: of the order, the augmentation and the skipping.
        bfloat16: forward and backward passes under bfloat16 autocast.
    """

    steps: int
    batch: int = 128
    lr: float = 1e-3
    warmup_steps: int = 0
    weight_decay: float = 0.05
    label_smoothing: float = 0.05
    distill_weight: float = 0.0
    temperature: float = 2.0
    entropy_weight: float = 0.0
    attention_drop: float = 0.0
    shift: int = 2
    flip: bool = True
    gradient_norm: float = 1.0
    seed: int = 0
    bfloat16: bool = False

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            InputError: a number is out of its range.
        """
        for field, least in (("steps", 1), ("batch", 1), ("warmup_steps", 0), ("shift", 0), ("seed", 0)):
            if getattr(self, field) < least:
                raise InputError(f"Training {field} must be at least {least}, not {getattr(self, field)}")
        for field in ("label_smoothing", "distill_weight", "attention_drop"):
            if not 0.0 <= getattr(self, field) <= 1.0:
                raise InputError(f"Training {field} must be 0 to 1, not {getattr(self, field)}")
        for field in ("lr", "temperature", "gradient_norm"):
            if not getattr(self, field) > 0.0:
                raise InputError(f"Training {field} must be positive, not {getattr(self, field)}")
        for field in ("weight_decay", "entropy_weight"):
            if not getattr(self, field) >= 0.0:
                raise InputError(f"Training {field} must not be negative, not {getattr(self, field)}")


def entropy_nats(logits: torch.Tensor) -> torch.Tensor:
    """Return the entropy sum -p log p of softmax(logits), in nats, [n] for logits [n, classes]; 0 log 0 is 0."""
    log_probabilities = functional.log_softmax(logits.float(), -1)
    # exp underflows to 0 long before log_softmax leaves the finite range, so the product is 0 there, not NaN.
    return -(log_probabilities.exp() * log_probabilities).sum(-1)


def correct_entropy(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return each image's entropy in nats where its answer is right, and 0 elsewhere; [n]."""
    return entropy_nats(logits) * (logits.argmax(-1) == labels)


def distillation(logits: torch.Tensor, teacher_logits: torch.Tensor, temperature: float) -> torch.Tensor:
    """Return T^2 KL(teacher / T || student / T) averaged over images, a scalar (Hinton et al., arXiv 1503.02531)."""
    student = functional.log_softmax(logits.float() / temperature, -1)
    teacher = functional.log_softmax(teacher_logits.float() / temperature, -1)
    return temperature**2 * functional.kl_div(student, teacher, reduction="batchmean", log_target=True)


def batch_loss(
    logits: torch.Tensor, labels: torch.Tensor, recipe: Recipe, teacher_logits: torch.Tensor | None = None
) -> torch.Tensor:
    """Return the loss of the module's docstring, a scalar, for logits [n, classes] and labels int64 [n]."""
    logits = logits.float()
    loss = functional.cross_entropy(logits, labels, label_smoothing=recipe.label_smoothing)
    if teacher_logits is not None and recipe.distill_weight > 0.0:
        loss = (1.0 - recipe.distill_weight) * loss
        loss = loss + recipe.distill_weight * distillation(logits, teacher_logits, recipe.temperature)
    if recipe.entropy_weight > 0.0:
        loss = loss + recipe.entropy_weight * correct_entropy(logits, labels).mean()
    return loss


def augment(images: torch.Tensor, recipe: Recipe, random: torch.Generator) -> torch.Tensor:
    """Return images [n, channels, height, width] mirrored and shifted at random, edges filled with black (-1)."""
    count, _, height, width = images.shape
    if recipe.flip:
        mirrored = torch.rand(count, generator=random) < 0.5
        images = torch.where(mirrored[:, None, None, None], images.flip(3), images)
    if recipe.shift:
        padded = functional.pad(images, (recipe.shift,) * 4, value=-1.0)
        offsets = torch.randint(0, 2 * recipe.shift + 1, (2, count, 1), generator=random)
        rows = (offsets[0] + torch.arange(height))[:, None, :, None]
        columns = (offsets[1] + torch.arange(width))[:, None, None, :]
        image = torch.arange(count)[:, None, None, None]
        channel = torch.arange(images.shape[1])[None, :, None, None]
        images = padded[image, channel, rows, columns]
    return images


def learning_rate(step: int, recipe: Recipe) -> float:
    """Return the learning rate of a step, counted from 0: linear warm-up, then a half cosine to zero."""
    if step < recipe.warmup_steps:
        return recipe.lr * (step + 1) / recipe.warmup_steps
    progress = (step - recipe.warmup_steps) / max(1, recipe.steps - recipe.warmup_steps)
    return recipe.lr * 0.5 * (1.0 + math.cos(math.pi * progress))


class Trainer:
    """Trains one network on one path, step by step.

    Attributes:
        network: the network, trained in place.
        recipe: how to train.
        kept: the path trained.
        step_index: steps done.
    """

    def __init__(
        self,
        network: PathVit,
        split: Split,
        recipe: Recipe,
        *,
        kept: Iterable[int] | None = None,
        teacher: nn.Module | None = None,
        teacher_logits: torch.Tensor | None = None,
    ) -> None:
        """Prepare a run.

        Args:
            network: trained in place.
            split: the training images; never the calibration or a test split.
            recipe: how to train.
            kept: the path; None for all attentions.
            teacher: answers each augmented batch for the distillation.
            teacher_logits: float32 [images of split, classes], used instead of a teacher where given; they are the
                answers to the images as they are, so they fit an augmentation only as far as it keeps the answer.

        Raises:
            InputError: the split is not to be trained on, is smaller than a batch, or a teacher is missing.
        """
        if split.name != "train":
            raise InputError(f"Training must use the split 'train', not {split.name!r}")
        if len(split) < recipe.batch:
            raise InputError(f"Training needs at least one batch of {recipe.batch} images, not {len(split)}")
        if recipe.distill_weight > 0.0 and teacher is None and teacher_logits is None:
            raise InputError("Training with distill_weight > 0 must have a teacher")
        if teacher_logits is not None and len(teacher_logits) != len(split):
            raise InputError(f"Teacher logits must be one row per image, {len(split)}, not {len(teacher_logits)}")
        self.network, self.recipe = network, recipe
        self.kept = validated_kept(kept, network.depth)
        self.step_index = 0
        self._images = to_input(split.images)
        self._labels = torch.from_numpy(np.ascontiguousarray(split.labels))
        self._teacher = teacher.eval() if teacher is not None else None
        self._teacher_logits = teacher_logits
        self._random = torch.Generator().manual_seed(recipe.seed)
        self._order: tuple[int, torch.Tensor] | None = None
        # Fused AdamW does a step in one pass: 720 instead of 570 images/s on two cores for the default network.
        self._optimizer = torch.optim.AdamW(_parameter_groups(network, recipe), lr=recipe.lr, fused=True)

    @property
    def steps_per_epoch(self) -> int:
        """Number of whole batches in the training split."""
        return len(self._labels) // self.recipe.batch

    def step(self) -> float:
        """Do one optimizer step; return the loss of its batch."""
        recipe = self.recipe
        self.network.train()
        batch = self._batch_indices()
        images, labels = augment(self._images[batch], recipe, self._random), self._labels[batch]
        path = self._draw_path()
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate(self.step_index, recipe)
        with self._precision():
            logits = self.network(images, path)
        loss = batch_loss(logits, labels, recipe, self._teacher_answers(images, batch))
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), recipe.gradient_norm)
        self._optimizer.step()
        self.step_index += 1
        return loss.item()

    def run(self, on_step: Callable[[int, float], None] | None = None) -> None:
        """Do the remaining steps, calling ``on_step(steps done, loss)`` after each; leave the network in eval mode."""
        while self.step_index < self.recipe.steps:
            loss = self.step()
            if on_step is not None:
                on_step(self.step_index, loss)
        self.network.eval()

    def state(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        """Return everything a continued run needs: named tensors, and JSON-able values."""
        tensors = {f"model.{name}": value for name, value in self.network.vit.state_dict().items()}
        for name, parameter in self.network.vit.named_parameters():
            for key, value in self._optimizer.state.get(parameter, {}).items():
                tensors[f"optimizer.{key}.{name}"] = torch.as_tensor(value)
        tensors["random.run"] = self._random.get_state()
        tensors["random.torch"] = torch.get_rng_state()
        values = {
            "step": self.step_index,
            "kept": sorted(self.kept),
            "recipe": asdict(self.recipe),
            "learning_rate": learning_rate(self.step_index, self.recipe),
        }
        return tensors, values

    def load_state(self, tensors: dict[str, torch.Tensor], values: dict[str, Any]) -> None:
        """Continue from what `state` returned.

        Raises:
            InputError: the state is of another recipe, path or network.
        """
        if values.get("recipe") != asdict(self.recipe) or values.get("kept") != sorted(self.kept):
            raise InputError("Checkpoint to continue from must have the same recipe and path as this run")
        parameters = dict(self.network.vit.named_parameters())
        try:
            weights = {name: tensors[f"model.{name}"] for name in self.network.vit.state_dict()}
            self.network.vit.load_state_dict(weights)
            self.step_index = int(values["step"])
            for name, parameter in parameters.items() if self.step_index else ():
                keys = ("step", "exp_avg", "exp_avg_sq")
                self._optimizer.state[parameter] = {key: tensors[f"optimizer.{key}.{name}"].clone() for key in keys}
            self._random.set_state(tensors["random.run"])
            torch.set_rng_state(tensors["random.torch"])
        except (KeyError, RuntimeError, TypeError) as error:
            reason = " ".join(str(error).split())
            raise InputError(f"Checkpoint to continue from must be of this network: {reason}") from None

    def _batch_indices(self) -> torch.Tensor:
        epoch, place = divmod(self.step_index, self.steps_per_epoch)
        if self._order is None or self._order[0] != epoch:
            order = torch.Generator().manual_seed(self.recipe.seed * 1_000_003 + epoch + 1)
            self._order = epoch, torch.randperm(len(self._labels), generator=order)
        return self._order[1][place * self.recipe.batch : (place + 1) * self.recipe.batch]

    def _draw_path(self) -> frozenset[int]:
        if self.recipe.attention_drop == 0.0:
            return self.kept
        draws = torch.rand(2 + self.network.depth, generator=self._random)
        if draws[0] < 0.5:
            return self.kept
        probability = self.recipe.attention_drop * draws[1]
        return frozenset(index for index in self.kept if index == 0 or draws[2 + index] >= probability)

    def _precision(self) -> AbstractContextManager[Any]:
        return torch.autocast("cpu", torch.bfloat16) if self.recipe.bfloat16 else nullcontext()

    @torch.no_grad()
    def _teacher_answers(self, images: torch.Tensor, batch: torch.Tensor) -> torch.Tensor | None:
        if self.recipe.distill_weight == 0.0:
            return None
        if self._teacher_logits is not None:
            return self._teacher_logits[batch]
        with self._precision():
            return self._teacher(images).float() if self._teacher is not None else None


def _parameter_groups(network: nn.Module, recipe: Recipe) -> list[dict[str, Any]]:
    decayed, plain = [], []
    for name, parameter in network.named_parameters():
        matrix = parameter.ndim >= 2 and not name.endswith(("cls_token", "pos_embed"))
        (decayed if matrix else plain).append(parameter)
    return [{"params": decayed, "weight_decay": recipe.weight_decay}, {"params": plain, "weight_decay": 0.0}]


@torch.no_grad()
def evaluate_fp32(
    network: PathVit, split: Split, kept: Iterable[int] | None = None, batch: int = 500
) -> torch.Tensor:
    """Return the logits, float32 [n, classes], of every image of a split, in file order, on one path."""
    network.eval()
    images = to_input(split.images)
    path = network.kept if kept is None else validated_kept(kept, network.depth)
    return torch.cat([network(images[start : start + batch], path) for start in range(0, len(images), batch)])


def accuracy(logits: torch.Tensor, split: Split) -> float:
    """Return the fraction of a split's images that logits [n, classes] answer correctly."""
    return float((logits.argmax(-1).numpy() == split.labels).mean())
