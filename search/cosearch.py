"""The search: which attentions to keep at low and at high effort, and the entropy at which to go on.

    python -m search.cosearch [--model fmnist_vit_tiny] [--preset nano] [--lec 0.7] [--max-loss 0.002] ...

Results: ``runs/<name>/result.json``, ``report.html``, and ``pair/``, which `sw.infer` runs. A killed search goes on where it
stopped.
"""

import argparse
import os
import shlex
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hw.errors import InputError, command
from hw.files import check_directory, file_name, write_file, write_json
from sw.networks.options import NetworkOptions, add_network_options

if TYPE_CHECKING:
    from rich.progress import Progress

    from sw.graph.path_vit import PathVit


_RTL_IMAGES = 64


def parser() -> argparse.ArgumentParser:
    """The command line."""
    result = argparse.ArgumentParser(prog="python -m search.cosearch", description=__doc__.splitlines()[0])
    result.add_argument("--preset", default="nano", help="machine (default: %(default)s)")
    result.add_argument("--set", dest="overrides", default="", metavar="FIELD=N,...", help="fields of the preset to override")
    result.add_argument("--data", default="embedded", metavar="DIR", help="Fashion-MNIST directory (default: %(default)s)")
    result.add_argument("--memory", default="", metavar="FIELD=N,...", help="memory timing: latency, bytes_per_cycle, outstanding")
    result.add_argument("--lec", type=float, default=0.7, help="least fraction answered by the low effort (default: %(default)s)")
    result.add_argument("--max-loss", type=float, default=0.002, metavar="L",
                        help="greatest loss of accuracy against the baseline, fraction of 1 (default: %(default)s)")  # fmt: skip
    result.add_argument("--rows", choices=("class", "mean"), default="class",
                        help="stream rows that CKA compares (default: %(default)s)")  # fmt: skip
    result.add_argument("--steps", type=int, default=200, metavar="N", help="fine-tuning steps per effort (default: %(default)s)")
    result.add_argument("--batch", type=int, default=128, metavar="N", help="images per step (default: %(default)s)")
    result.add_argument("--learning-rate", type=float, default=1e-3, metavar="LR",
                        help="peak rate, times the share of attentions skipped (default: %(default)s)")  # fmt: skip
    result.add_argument("--random-paths", type=int, default=16, metavar="N",
                        help="random paths to rank a path among (default: %(default)s)")  # fmt: skip
    result.add_argument("--rtl-images", type=int, metavar="N",
                        help=f"test images of the gated RTL run (default: {_RTL_IMAGES}, or all of fewer)")  # fmt: skip
    result.add_argument("--efforts", default="", metavar="N,...", help="efforts to consider (default: all from 1 to the depth)")
    result.add_argument("--images", type=int, metavar="N", help="most calibration and test images (default: all)")
    result.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1), help="torch threads (default: %(default)s)")
    result.add_argument("--out", type=Path, metavar="DIR", help="default: runs/<model>-<preset>")
    add_network_options(result)
    return result


def _check(options: argparse.Namespace) -> None:
    """Raise InputError for a number out of range."""
    from search.paths.cka import MINIMUM_BATCH

    for name, low, high in (("lec", 0.0, 1.0), ("max_loss", 0.0, 1.0)):
        if not low <= getattr(options, name) <= high:
            raise InputError(f"--{name.replace('_', '-')} must be between {low:g} and {high:g}, not {getattr(options, name)}")
    for name in ("steps", "batch", "random_paths", "rtl_images", "threads", "images"):
        if getattr(options, name) is not None and getattr(options, name) < 1:
            raise InputError(f"--{name.replace('_', '-')} must be at least 1, not {getattr(options, name)}")
    if options.images is not None and options.images < MINIMUM_BATCH:
        raise InputError(f"--images must be at least {MINIMUM_BATCH}, for CKA, not {options.images}")
    if not options.learning_rate > 0:
        raise InputError(f"--learning-rate must be positive, not {options.learning_rate}")


def search(options: argparse.Namespace, progress: "Progress") -> tuple[dict[str, Any], Path]:
    """Run the search, or finish an interrupted one.

    Returns:
        The content of `result.json` and the directory it belongs to.

    Raises:
        InputError: bad input.
        search.decision.NoPairQualifies: no pair keeps both constraints.
    """
    import torch

    from hw.memory_timing import MemoryTiming
    from hw.presets import find_preset
    from search.experiment import Arguments, Run, Steps, run_key
    from search.result import conclude
    from search.store import RunStore
    from sw.data.fashion_mnist import load_fashion_mnist
    from sw.graph.path_vit import PathVit

    _check(options)
    config = find_preset(options.preset).with_fields(options.overrides)
    memory = MemoryTiming.parse(options.memory)
    out = options.out or Path("runs") / file_name(f"{options.model}-{options.preset}")
    check_directory(out)
    torch.set_num_threads(options.threads)
    chosen = NetworkOptions.of(options)
    network = PathVit(chosen.build()).eval()
    data = load_fashion_mnist(options.data)
    if options.images is not None:
        data = replace(data, calibration=data.calibration.take(options.images), test=data.test.take(options.images))
    efforts = parse_efforts(options.efforts, network.depth)
    rtl_images = min(_RTL_IMAGES, len(data.test)) if options.rtl_images is None else options.rtl_images
    if rtl_images > len(data.test):
        raise InputError(f"--rtl-images must be at most {len(data.test)}, not {rtl_images}")
    arguments = Arguments(
        network=chosen, preset=options.preset, overrides=options.overrides, data=options.data,
        memory=options.memory, lec=options.lec, max_loss=options.max_loss, rows=options.rows,
        finetune_steps=options.steps, batch=options.batch, learning_rate=options.learning_rate,
        random_paths=options.random_paths, rtl_images=rtl_images,
        efforts=efforts, images=options.images, seed=options.seed, threads=options.threads,
    )  # fmt: skip
    store = RunStore(out, run_key(arguments, data.digest, _weights_digest(network)))
    try:
        run = Run(arguments, config, store, Steps(progress, 3 * len(efforts) + 8), data, network, memory)
        return conclude(run, out), out
    finally:
        store.close()


def parse_efforts(text: str, depth: int) -> tuple[int, ...]:
    """Efforts of ``--efforts``, ascending; the whole network's, ``depth``, is always among them.

    Raises:
        InputError: for anything but integers from 1 to ``depth``.
    """
    if not text:
        return tuple(range(1, depth + 1))
    try:
        efforts = {int(part) for part in text.split(",")} | {depth}
    except ValueError:
        raise InputError(f"--efforts must be integers from 1 to {depth}, not {text!r}") from None
    if min(efforts) < 1 or max(efforts) > depth or len(efforts) < 2:
        raise InputError(f"--efforts must name at least one effort from 1 to {depth - 1} and none above {depth}, not {text!r}")
    return tuple(sorted(efforts))


def _weights_digest(network: "PathVit") -> str:
    """SHA-256 of a network's parameters."""
    import hashlib

    digest = hashlib.sha256()
    for name, value in network.vit.state_dict().items():
        digest.update(name.encode() + value.numpy().tobytes())
    return digest.hexdigest()


def _provenance(options: argparse.Namespace, digest: str) -> dict[str, Any]:
    """What a reader needs to repeat the run."""
    from hw.provenance import commit, source_digest, versions
    from search.experiment import CODE

    return {
        "command": shlex.join(["python", "-m", "search.cosearch", *sys.argv[1:]]),
        "commit": commit(CODE),
        "seed": options.seed,
        "threads": options.threads,
        "versions": versions(),
        "data_digest": digest,
        "code_digest": source_digest(CODE),
    }


@command()
def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    options = parser().parse_args(arguments)
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from hw.tables import terminal
    from search.decision import NoPairQualifies
    from search.report.page import render
    from search.report.table import summary_table
    from search.stored_pair import DIRECTORY

    console = terminal(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    started = time.perf_counter()
    try:
        with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
            result, out = search(options, progress)
        result["wall_s"] = time.perf_counter() - started
        result["provenance"] = _provenance(options, result.pop("data_digest"))
        write_file(out / "report.html", render(result))
        write_json(out / "result.json", result)
    except NoPairQualifies as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("note: the same command goes on where this one stopped", file=sys.stderr)
        raise
    terminal().print(summary_table(result))
    print(f"{out / 'result.json'}\n{out / 'report.html'}\n{out / DIRECTORY}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
