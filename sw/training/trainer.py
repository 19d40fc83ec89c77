"""The training loop of the shipped checkpoint and of fine-tuning.

One `Trainer` holds a network, its optimizer, its place in the schedule and its random states; all of it can be saved
and loaded, and a run continued from a checkpoint is bit-identical to an uninterrupted one at the same thread count.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from torch import nn

from hw.errors import InputError
from sw.data.pixels import padded, to_input
from sw.data.split import Split
from sw.graph.path import Path, path_or_full
from sw.graph.path_vit import PathVit
from sw.training.objective import augment, batch_loss, learning_rate
from sw.training.recipe import Recipe

QUANTIZATION_IMAGES = 512
"""Training images on which quantization-aware training chooses the scales of activations."""


class Trainer:
    """Trains one network on one path, step by step.

    Attributes:
        network: the network, trained in place.
        recipe: how to train.
        path: trained.
        step_index: steps done.
    """

    def __init__(
        self,
        network: PathVit,
        split: Split,
        recipe: Recipe,
        *,
        path: Path | None = None,
        teacher: nn.Module | None = None,
        teacher_logits: torch.Tensor | None = None,
    ) -> None:
        """Prepare a run.

        Args:
            network: trained in place.
            split: the training images; never the calibration or a test split.
            recipe: how to train.
            path: None for the whole network.
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
        self.path = path_or_full(path, network.depth)
        self.step_index = 0
        self._images = to_input(padded(split.images, network.image_size))
        self._labels = torch.from_numpy(np.ascontiguousarray(split.labels))
        self._teacher = teacher.eval() if teacher is not None else None
        self._teacher_logits = teacher_logits
        self._random = torch.Generator().manual_seed(recipe.seed)
        self._order: tuple[int, torch.Tensor] | None = None
        _freeze(network, recipe.frozen)
        self._forward: Callable[[torch.Tensor, Path], torch.Tensor] = network
        if recipe.quantization_aware:
            from sw.quantization.quantization_aware import QuantizationAware

            self._forward = QuantizationAware(network, self._images[:QUANTIZATION_IMAGES], self.path)
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
        if recipe.frozen is not None:
            self.network.vit.patch_embed.eval()  # its BatchNorm, too, stays as it is
        batch = self._batch_indices()
        images, labels = augment(self._images[batch], recipe, self._random), self._labels[batch]
        path = self._draw_path()
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate(self.step_index, recipe)
        with self._precision():
            logits = self._forward(images, path)
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
            "kinds": list(self.path.kinds),
            "recipe": asdict(self.recipe),
            "learning_rate": learning_rate(self.step_index, self.recipe),
        }
        return tensors, values

    def load_state(self, tensors: dict[str, torch.Tensor], values: dict[str, Any]) -> None:
        """Continue from what `state` returned.

        Raises:
            InputError: the state is of another recipe, path or network.
        """
        if values.get("recipe") != asdict(self.recipe) or values.get("kinds") != list(self.path.kinds):
            raise InputError("Checkpoint to continue from must have the same recipe and path as this run")
        parameters = dict(self.network.vit.named_parameters())
        try:
            weights = {name: tensors[f"model.{name}"] for name in self.network.vit.state_dict()}
            self.network.vit.load_state_dict(weights)
            self.step_index = int(values["step"])
            for name, parameter in parameters.items():
                # An attention that every step so far has skipped has no optimizer state yet.
                if f"optimizer.step.{name}" in tensors:
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

    def _draw_path(self) -> Path:
        if self.recipe.attention_drop == 0.0:
            return self.path
        draws = torch.rand(2 + self.network.depth, generator=self._random)
        if draws[0] < 0.5:
            return self.path
        probability = self.recipe.attention_drop * draws[1]
        drawn = (index for index in self.path.kept if index == 0 or draws[2 + index] >= probability)
        return self.path.lowered(drawn)

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


def _freeze(network: PathVit, encoders: int | None) -> None:
    """Let stem, embedding and so many first encoders out of the training; nothing for None.

    Raises:
        InputError: the network has fewer encoders.
    """
    if encoders is None:
        return
    if encoders > network.depth:
        raise InputError(f"Training frozen must be at most {network.depth} encoders, not {encoders}")
    vit = network.vit
    embedding = [*vit.patch_embed.parameters(), vit.cls_token, vit.pos_embed]
    for parameter in [*embedding, *vit.blocks[:encoders].parameters()]:
        parameter.requires_grad_(False)


def _parameter_groups(network: nn.Module, recipe: Recipe) -> list[dict[str, Any]]:
    decayed: list[nn.Parameter] = []
    plain: list[nn.Parameter] = []
    for name, parameter in network.named_parameters():
        if not parameter.requires_grad:
            continue
        matrix = parameter.ndim >= 2 and not name.endswith(("cls_token", "pos_embed"))
        (decayed if matrix else plain).append(parameter)
    return [{"params": decayed, "weight_decay": recipe.weight_decay}, {"params": plain, "weight_decay": 0.0}]


@torch.no_grad()
def evaluate_fp32(network: PathVit, split: Split, path: Path | None = None, batch: int = 500) -> torch.Tensor:
    """Return the logits, float32 [n, classes], of every image of a split, in file order, on one path, or the network's own."""
    network.eval()
    images = to_input(padded(split.images, network.image_size))
    return torch.cat([network(images[start : start + batch], path) for start in range(0, len(images), batch)])


def accuracy(logits: torch.Tensor, split: Split) -> float:
    """Return the fraction of a split's images that logits [n, classes] answer correctly."""
    return float((logits.argmax(-1).numpy() == split.labels).mean())
