"""How to train, in numbers."""

from dataclasses import dataclass
from typing import Any

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


def finetuning(steps: int = 120, **changes: Any) -> Recipe:
    """Return the recipe of fine-tuning a trained network on one path.

    The learning rate warms up over a tenth of the steps. With 120 steps on the embedded subset a rate of 1e-3 costs the full ViT
    half a point on the calibration split and 3e-4 nothing; an effort of 3 ends half a point higher with 1e-3 than with 3e-4.

    Args:
        steps: optimizer steps.
        changes: fields of the recipe in place of those of fine-tuning.

    Raises:
        InputError: a number is out of its range.
    """
    usual: dict[str, Any] = {
        "lr": 5e-4, "warmup_steps": steps // 10, "label_smoothing": 0.0, "distill_weight": 0.5, "entropy_weight": 0.05, "shift": 1,
    }  # fmt: skip
    return Recipe(**{"steps": steps, **usual, **changes})
