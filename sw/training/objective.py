"""What training minimises, and how: the recipe, the loss, the augmentation and the schedule.

The loss of a batch is the mean over its images of

    (1 - distill_weight) * cross_entropy(label smoothing)
    + distill_weight * T^2 * KL(teacher / T || student / T)
    + entropy_weight * [answer is correct] * H(softmax(logits)),     H = sum -p log p, in nats.

The last term is PIVOT's (arXiv 2404.15185): it makes right answers confident, so that the gate lets them exit. Each
image counts by its own correctness.
"""

import math
from dataclasses import dataclass

import torch
from torch.nn import functional

from hw.errors import InputError


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
        frozen: stem, embedding and as many of the first encoders are left as they are, for pairs that share them; None trains all.
        quantization_aware: compute with the machine's roundings; see `sw.quantization.quantization_aware`. Not under bfloat16.
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
    frozen: int | None = None
    quantization_aware: bool = False

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            InputError: a number is out of its range.
        """
        for field, least in (("steps", 1), ("batch", 1), ("warmup_steps", 0), ("shift", 0), ("seed", 0), ("frozen", 0)):
            if getattr(self, field) is not None and getattr(self, field) < least:
                raise InputError(f"Training {field} must be at least {least}, not {getattr(self, field)}")
        if self.quantization_aware and self.bfloat16:
            raise InputError("Training quantization_aware must be in float32: bfloat16 rounds as coarsely as int8")
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
    # The clamp makes 0 log 0 a product of 0 and a finite number, and not NaN; exp(-1000) is 0.
    log_probabilities = functional.log_softmax(logits.float(), -1).clamp(min=-1000.0)
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
