"""Quantization-aware fine-tuning against plain fine-tuning with the same steps, batches and order: what int8 costs after each.

    python -m benchmarks.quantization.quantization_aware [--steps N] [--data DIR]

The shipped ViT is fine-tuned on full Fashion-MNIST, distilled from itself, once in float32 and once with the machine's roundings
(`sw.quantization.quantization_aware`); both and the network as shipped are then quantized on calibration images and measured on all
test images as `int8_accuracy.py` does. One seed. The result goes to quantization_aware.json. A quarter of an hour on two cores.
"""

import sys

from rich.console import Console
from rich.progress import Progress

from benchmarks.quantization.int8_accuracy import BENCHMARK as INT8_ACCURACY
from benchmarks.quantization.int8_accuracy import SHIPPED, measure
from benchmarks.result import Benchmark
from hw.errors import command
from hw.tables import text_table
from sw.data.fashion_mnist import load_fashion_mnist
from sw.graph.path_vit import PathVit
from sw.networks.network import build_network
from sw.training.finetune import finetune, teacher_answers
from sw.training.recipe import finetuning

BENCHMARK = Benchmark("quantization.quantization_aware", INT8_ACCURACY.sources)
STEPS, BATCH, LEARNING_RATE, SEED = 200, 128, 1e-4, 0


@command()
def main(arguments: list[str] | None = None) -> int:
    """Fine-tune, measure, write the result and print the table."""
    parser = BENCHMARK.parser(__doc__)
    parser.add_argument("--data", metavar="DIR", help="directory of the full Fashion-MNIST")
    parser.add_argument("--steps", type=int, default=STEPS, metavar="N", help="of fine-tuning (default: %(default)s)")
    options = BENCHMARK.begin(parser, arguments)
    data = load_fashion_mnist(options.data)
    shipped = PathVit(build_network(SHIPPED)).eval()
    teacher = teacher_answers(shipped, data.train)
    recipe = {"steps": options.steps, "batch": BATCH, "lr": LEARNING_RATE, "seed": SEED}
    networks = {"as shipped": shipped}
    with Progress(console=Console(stderr=True)) as progress:
        for name, aware in (("fine-tuned", False), ("fine-tuned with roundings", True)):
            task = progress.add_task(name, total=options.steps)
            networks[name] = finetune(
                shipped, None, data.train, finetuning(quantization_aware=aware, **recipe), teacher_logits=teacher,
                progress=lambda done, *_, task=task: progress.update(task, completed=done),
            )  # fmt: skip
    entries = {name: measure(network, data, data.test_all) for name, network in networks.items()}
    head = {"model": SHIPPED, "test_images": len(data.test_all)}
    BENCHMARK.save(head | {"recipe": recipe, "data_digest": data.digest, "networks": entries}, seed=SEED)
    table = text_table(
        "network", "fp32 (%)", "int8 (%)", "int8 - fp32 (points, 95 %)", "answers differ", "SQNR (dB)",
        title=f"{SHIPPED}: int8 on the golden machine against float32, {len(data.test_all):,} test images",
    )  # fmt: skip
    for name, entry in entries.items():
        accuracies = (f"{100 * entry['accuracy'][part]:.2f}" for part in ("fp32", "int8"))
        low, high = (100 * entry["int8_minus_fp32"][bound] for bound in ("low95", "high95"))
        table.add_row(
            name, *accuracies, f"{-100 * entry['loss']:+.2f} ({low:+.2f} to {high:+.2f})", f"{entry['disagreement']:.2%}",
            f"{entry['logits_sqnr_db']:.1f}",
        )  # fmt: skip
    Console(width=110).print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
