"""int8 against float32 on every Fashion-MNIST test image: the shipped ViT, and the shipped LV-ViT of each seed.

    python -m benchmarks.quantization.int8_accuracy [--images N] [--data DIR]

int8 is the golden machine, which equals the RTL bit for bit. Accuracies, how many answers differ, the logits' signal-to-noise
ratio, and the layer that adds most noise of its own, by `sw.quantization_report` on calibration images that no scale was chosen on.
Scales are chosen on 512 calibration images; nothing looks at a test label but the accuracy. The result goes to int8_accuracy.json.
Five minutes on two cores; `--images` takes the first N test images and writes nothing.
"""

import sys
from collections.abc import Callable
from functools import partial
from typing import Any

from rich.console import Console
from rich.progress import track

from benchmarks.pivot.lv_vit_weights import BASELINE, MODEL, effort_name, load_network, shipped_paths
from benchmarks.result import Benchmark
from benchmarks.sources import GOLDEN, LV_VIT
from hw.errors import command
from hw.golden import GoldenDevice
from hw.presets import find_preset
from hw.tables import text_table
from search.intervals import paired_difference
from sw.compiler.programs import compile_network
from sw.data.fashion_mnist import FashionMnist, load_fashion_mnist
from sw.data.pixels import CALIBRATION_IMAGES, padded, to_input, to_pixels
from sw.data.split import Split
from sw.graph.path_vit import PathVit
from sw.importing import import_network
from sw.networks.network import build_network
from sw.quantization.quantize import logits_sqnr_db, quantize
from sw.quantization.tensor_noise import report, worst
from sw.training.trainer import evaluate_fp32

BENCHMARK = Benchmark("quantization.int8_accuracy", (*LV_VIT, *GOLDEN, "search/intervals.py"))
PRESET = "nano"
"""Every machine gives the same bits."""
SHIPPED = "fmnist_vit_tiny"
REPORT_IMAGES = 64
GREATEST_LOSS, GREATEST_DISAGREEMENT, LEAST_SQNR_DB = 0.003, 0.01, 30.0


def networks() -> dict[str, Callable[[], PathVit]]:
    """The trained networks by name, each with what loads it."""
    trained: dict[str, Callable[[], PathVit]] = {SHIPPED: lambda: PathVit(build_network(SHIPPED)).eval()}
    for seed in shipped_paths():
        trained[f"{MODEL}, seed {seed}"] = partial(load_network, seed, effort_name(BASELINE), None)
    return trained


def measure(network: PathVit, data: FashionMnist, test: Split) -> dict[str, Any]:
    """One network in float32 and in int8 on test images."""
    calibration = padded(data.calibration.images, network.image_size)
    scaling, others = calibration[:CALIBRATION_IMAGES], calibration[CALIBRATION_IMAGES : CALIBRATION_IMAGES + REPORT_IMAGES]
    exact = evaluate_fp32(network, test).numpy()
    program = compile_network(quantize(network, to_input(scaling)), find_preset(PRESET))
    integer = GoldenDevice().run(program, to_pixels(padded(test.images, network.image_size)))
    right = {"fp32": exact.argmax(1) == test.labels, "int8": integer.top1 == test.labels}
    noises = report(import_network(network.vit), to_input(scaling), to_pixels(others))
    layer = worst(noises)
    return {
        "accuracy": {name: float(values.mean()) for name, values in right.items()},
        "loss": float(right["fp32"].mean() - right["int8"].mean()),
        "int8_minus_fp32": paired_difference(right["int8"], right["fp32"]),
        "disagreement": float((exact.argmax(1) != integer.top1).mean()),
        "logits_sqnr_db": round(logits_sqnr_db(exact, integer.logits), 2),
        "worst_layer": {"name": layer.name, "own_db": round(layer.own_db, 2), "sqnr_db": round(layer.sqnr_db, 2)},
        "golden_wall_s": round(integer.wall_s, 1),
    }


def passed(entry: dict[str, Any]) -> bool:
    """Whether int8 costs no more than it may."""
    fits = entry["loss"] <= GREATEST_LOSS and entry["disagreement"] <= GREATEST_DISAGREEMENT
    return fits and entry["logits_sqnr_db"] >= LEAST_SQNR_DB


@command()
def main(arguments: list[str] | None = None) -> int:
    """Measure, write the result and print the table; returns 1 where int8 costs more than it may."""
    parser = BENCHMARK.parser(__doc__)
    parser.add_argument("--data", metavar="DIR", help="directory of the full Fashion-MNIST")
    parser.add_argument("--images", type=int, metavar="N", help="only the first N test images; writes no result")
    options = BENCHMARK.begin(parser, arguments)
    data = load_fashion_mnist(options.data)
    test = data.test_all if options.images is None else data.test_all.take(options.images)
    console = Console(stderr=True)
    entries = {name: measure(load(), data, test) for name, load in track(networks().items(), "networks", console=console)}
    if options.images is None:
        limits = {"loss": GREATEST_LOSS, "disagreement": GREATEST_DISAGREEMENT, "least_logits_sqnr_db": LEAST_SQNR_DB}
        head = {"test_images": len(test), "limits": limits}
        BENCHMARK.save(head | {"data_digest": data.digest, "networks": entries})
    table = text_table(
        "network", "fp32 (%)", "int8 (%)", "answers differ", "SQNR (dB)", "worst layer (its own dB)",
        title=f"int8 on the golden machine against float32, {len(test):,} test images",
    )  # fmt: skip
    for name, entry in entries.items():
        accuracies = (f"{100 * entry['accuracy'][part]:.2f}" for part in ("fp32", "int8"))
        layer = entry["worst_layer"]
        table.add_row(
            name, *accuracies, f"{entry['disagreement']:.2%}", f"{entry['logits_sqnr_db']:.1f}",
            f"{layer['name']} ({layer['own_db']:.1f})",
        )  # fmt: skip
    Console(width=110).print(table)
    return int(not all(map(passed, entries.values())))


if __name__ == "__main__":
    sys.exit(main())
