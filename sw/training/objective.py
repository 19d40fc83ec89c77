"""What training minimises, and how: the loss, the augmentation and the schedule.

The loss of a batch is the mean over its images of

    (1 - distill_weight) * cross_entropy(label smoothing)
    + distill_weight * T^2 * KL(teacher / T || student / T)
    + entropy_weight * [answer is correct] * H(softmax(logits)),     H = sum -p log p, in nats.

The last term is PIVOT's (arXiv 2404.15185): it makes right answers confident, so that the gate lets them exit. Each
image counts by its own correctness.
"""

import math

import torch
from torch.nn import functional

from sw.graph.entropy import entropy_nats
from sw.training.recipe import Recipe


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
