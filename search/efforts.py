"""Phase 1: the best path of every effort by Path-Score, fine-tuned, quantized and answered by the golden device."""

import copy
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from hw.program import Program
from search.experiment import Run
from search.paths.cka import cka_matrix
from search.paths.path_score import ScoredPath, best_paths, random_paths
from sw.data.pixels import to_input, to_pixels
from sw.data.split import Split
from sw.graph.integer_network import IntegerNetwork
from sw.graph.path import Path

if TYPE_CHECKING:
    from sw.graph.path_vit import PathVit

_CKA_BATCH = 250
"""Images per batch of the CKA estimate, fewer where the split is smaller."""

_LEAST_RATE = 0.1
"""Share of the learning rate that the whole ViT gets; paths get it by the share of attentions that they skip.

Fine-tuning on the embedded subset is a seventh of the data that the shipped network was trained on: little to learn for a
path that is nearly whole. Measured on calibration images, 120 steps: at the full rate of 1e-3 the whole ViT loses half a
point, at 3e-4 nothing; a path of effort 3 ends 0.75 points higher at 1e-3 than at 3e-4.
"""


@dataclass(frozen=True)
class Answers:
    """What one network answers to the images of a split.

    Attributes:
        fp32: float32 [n, classes].
        int8: int64 [n, classes], golden device, 2^-12 nat.
        entropy: int64 [n], golden device, 2^-12 nat.
        labels: int64 [n].
    """

    fp32: np.ndarray
    int8: np.ndarray
    entropy: np.ndarray
    labels: np.ndarray

    @property
    def correct(self) -> np.ndarray:
        """Bool [n]: whether the first of the greatest int8 logits is the label."""
        return self.int8.argmax(1) == self.labels

    @property
    def correct_fp32(self) -> np.ndarray:
        """The same of the fp32 logits."""
        return self.fp32.argmax(1) == self.labels


def redundancy(run: Run) -> tuple[np.ndarray, np.ndarray]:
    """CKA on the calibration images.

    Returns:
        (matrix [depth, depth] between the streams entering encoder i and after encoder j's attention, its diagonal).
    """
    import torch

    def compute() -> list[list[float]]:
        images = to_input(run.data.calibration.images)
        batch = min(_CKA_BATCH, len(images))
        whole = len(images) - len(images) % batch

        def batches():
            for start in range(0, whole, batch):
                with torch.no_grad():
                    pair = run.network.streams(images[start : start + batch], rows=run.arguments.rows)
                yield tuple(stream.numpy() for stream in pair)
                update(start + batch, whole)

        return cka_matrix(batches(), run.network.depth).tolist()

    with run.steps.step("CKA between residual streams") as update:
        matrix = np.array(run.store.value("cka", compute))
    return matrix, np.diag(matrix)


def scored_paths(run: Run) -> tuple[np.ndarray, list[ScoredPath]]:
    """(CKA matrix, best path of every effort that the search considers)."""
    matrix, diagonal = redundancy(run)
    return matrix, [best for best in best_paths(diagonal) if best.path.effort in run.arguments.efforts]


def finetuned(run: Run, path: Path) -> "PathVit":
    """The path's network after fine-tuning: cross-entropy, distillation from the full ViT, entropy on right answers."""
    import torch

    from sw.graph.path_vit import PathVit
    from sw.training.finetune import finetune, teacher_answers
    from sw.training.recipe import finetuning

    name = f"effort{path.effort:02d}.finetuned"
    with run.steps.step(f"fine-tune effort {path.effort}") as update:

        def compute() -> dict[str, np.ndarray]:
            answers = run.store.arrays(
                "teacher", lambda: {"logits": teacher_answers(run.network, run.data.train).numpy()}
            )
            tuned = finetune(
                run.network,
                path,
                run.data.train,
                finetuning(
                    run.arguments.finetune_steps,
                    batch=run.arguments.batch,
                    lr=run.arguments.learning_rate * max(_LEAST_RATE, 1.0 - path.effort / run.network.depth),
                    seed=run.arguments.seed,
                ),
                teacher_logits=torch.from_numpy(answers["logits"]),
                progress=update,
                state_dir=run.store.scratch(name),
            )
            return {key: value.numpy() for key, value in tuned.vit.state_dict().items()}

        tensors = run.store.arrays(name, compute)
        run.store.drop_scratch(name)
    network = PathVit(copy.deepcopy(run.network.vit), path)
    network.vit.load_state_dict({key: torch.from_numpy(value) for key, value in tensors.items()})
    return network.eval()


class Candidate:
    """One network of the search with its path: what it answers, and the Program that answers.

    Attributes:
        name: of its steps in the store.
        path: its path.
        score: its Path-Score.
        network: fp32.
    """

    def __init__(self, run: Run, name: str, scored: ScoredPath, network: "PathVit"):
        """Nothing is computed before it is asked for."""
        self.name = name
        self.path, self.score = scored.path, scored.score
        self.network = network
        self._run = run
        self._answers: dict[str, Answers] = {}

    @cached_property
    def integer(self) -> IntegerNetwork:
        """The integer network, calibrated on the calibration split."""
        from sw.quantization.quantize import quantize

        return quantize(self.network, to_input(self._run.data.calibration.images))

    @cached_property
    def program(self) -> Program:
        """The path alone as a Program, its skipped attentions left out."""
        from sw.compiler.programs import compile_network

        return compile_network(self.integer, self._run.config, path=self.path, mask_register=False)

    def answers(self, split: Split) -> Answers:
        """Its fp32 answers and the golden device's to a split's images; only the calibration split may choose anything."""
        if split.name not in self._answers:
            self._answers[split.name] = self._answer(split)
        return self._answers[split.name]

    def _answer(self, split: Split) -> Answers:
        from hw.golden import GoldenDevice
        from sw.training.finetune import evaluate_fp32

        def torch_answers() -> dict[str, np.ndarray]:
            return {"logits": evaluate_fp32(self.network, split).numpy()}

        def golden_answers() -> dict[str, np.ndarray]:
            outcome = GoldenDevice().run(self.program, to_pixels(split.images))
            return {"logits": outcome.logits, "entropy": outcome.entropy}

        store = self._run.store
        with self._run.steps.step(f"{self.name}: int8 answers, {split.name}"):
            fp32 = store.arrays(f"{self.name}.fp32.{split.name}", torch_answers)["logits"]
            golden = store.arrays(f"{self.name}.int8.{split.name}", golden_answers)
        return Answers(fp32, golden["logits"], golden["entropy"], split.labels)


def path_rank(run: Run, path: Path) -> dict[str, Any]:
    """Where a path ranks among random paths of its effort, in fp32 accuracy before fine-tuning, calibration split.

    Returns:
        ``accuracy``, ``rank`` (1 is best, ties count against the path), ``among`` (paths compared, itself included),
        and the random paths' ``accuracies``.
    """
    from sw.training.finetune import evaluate_fp32

    split = run.data.calibration

    def accuracy_of(path: Path) -> float:
        logits = evaluate_fp32(run.network, split, path).numpy()
        return float((logits.argmax(1) == split.labels).mean())

    def compute() -> dict[str, Any]:
        others = random_paths(path.depth, path.effort, run.arguments.random_paths, run.arguments.seed, path)
        own, accuracies = accuracy_of(path), []
        for index, other in enumerate(others):
            accuracies.append(accuracy_of(other))
            update(index + 1, len(others))
        rank = 1 + sum(accuracy >= own for accuracy in accuracies)
        return {"accuracy": own, "rank": rank, "among": len(others) + 1, "accuracies": accuracies}

    with run.steps.step(f"rank of the effort {path.effort} path among random ones") as update:
        return run.store.value(f"rank.effort{path.effort:02d}", compute)
