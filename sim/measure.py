"""Measure a network on a machine: ``python -m sim.measure --model fmnist_vit_tiny --preset nano --images 32``."""

import argparse
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from hw.errors import command
from hw.files import check_writable, write_json
from hw.progress import progress
from sim.engines import ENGINES, check_engine
from sw.networks.options import NetworkOptions, add_network_options


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m sim.measure",
        description="Run a network on the simulated machine, compare it bit for bit with the golden one, and measure.",
    )
    parser.add_argument("--preset", default="nano", help="named machine (default: %(default)s)")
    parser.add_argument("--set", default="", metavar="FIELD=VALUE,...", help="replace fields of the preset")
    parser.add_argument(
        "--engine", default="rtl", help="; ".join(f"{name}: {what}" for name, what in ENGINES.items()) + " (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--images", type=int, metavar="N",
        help="test images (default: 32 of a small network, 1 of a large one); the cycle model alone takes none",
    )  # fmt: skip
    parser.add_argument("--skip", metavar="I,J,...", help="encoders, from 0, whose attention is skipped")
    parser.add_argument("--path", metavar="KIND,...", help="the kinds of all encoders, in place of --skip")
    parser.add_argument(
        "--loop-order", default="auto", metavar="ORDER",
        help="auto, weight_major, token_major, or the number of column tiles that stay resident (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument("--memory", default="", metavar="FIELD=VALUE,...", help="latency, bytes_per_cycle, outstanding")
    parser.add_argument(
        "--data", metavar="DIR",
        help="Fashion-MNIST files or images by class; by default those of $PIVOT_DATA or Debian's, else shipped or random ones",
    )  # fmt: skip
    parser.add_argument(
        "--trace", type=Path, metavar="FILE",
        help="write a timeline of one image for Perfetto (.json or .json.gz): of the RTL with --engine rtl, else of the model",
    )  # fmt: skip
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the measurement there")
    add_network_options(parser)
    return parser


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def _rows(fields: dict[str, Any]) -> list[tuple[str, str]]:
    """(quantity, value with unit) of the table."""
    skipped = ", ".join(map(str, fields["skipped"])) or "none"
    rows = [
        ("images", f"{fields['images'] or 'none'} ({fields['data']})"),
        ("attentions skipped", skipped),
        ("useful MACs per image", f"{fields['macs']:,}"),
    ]
    if fields["images"]:
        rows.append(("logits SQNR against fp32", f"{fields['logits_sqnr_db']} dB"))
    if fields["cycles"] is None:
        return rows + [("wall-clock time", f"{fields['wall_s']:.2f} s")]
    if fields["mismatches"] is not None:
        rows.append(("mismatches against the golden machine", f"{fields['mismatches']} images"))
    if "runs_equal" in fields:
        model, rtl = fields["model_run"]["cycles"], fields["rtl_run"]["cycles"]
        equal = "all counters equal" if fields["runs_equal"] else "counters differ"
        rows.append(("cycles of model and RTL", f"{model:,} and {rtl:,}, {equal}"))
    if fields["build_wall_s"] is None:
        cycles = "modelled"
        simulation = [("cycle model", f"{1e3 * fields['wall_s']:.1f} ms, {fields['sim_cycles_per_s'] / 1e6:.1f} million cycles/s")]
    else:
        cycles = "simulated"
        simulation = [
            ("simulation", f"{fields['batch_cycles']:,} cycles in {fields['wall_s']:.1f} s"),
            ("simulation speed", f"{fields['sim_cycles_per_s'] / 1e6:.2f} million cycles/s"),
            ("build", f"{fields['build_wall_s']:.1f} s"),
        ]
    return rows + [
        ("cycles per image", f"{fields['cycles']:,}"),
        ("array utilization", _percent(fields["utilization"])),
        ("attention share of the delay", _percent(fields["attention_share"])),
        ("delay per image", f"{fields['delay_ms']:.3f} ms at {fields['clock_mhz']} MHz ({cycles} cycles)"),
        (
            "energy per image",
            f"{fields['energy_mj']:.2f} mJ, {fields['energy_low_mj']:.2f} to {fields['energy_high_mj']:.2f} (estimate)",
        ),
        (
            "average power",
            f"{fields['average_power_w']['total']:.2f} W, {fields['average_power_w']['low']:.2f} to "
            f"{fields['average_power_w']['high']:.2f} (estimate)",
        ),
    ] + simulation  # fmt: skip


def _print_tables(fields: dict[str, Any]) -> None:
    from hw.tables import terminal, text_table

    console = terminal()
    table = text_table("", "", title=f"{fields['model']} on {fields['preset']} ({fields['engine']})", unbroken=(0,))
    for row in _rows(fields):
        table.add_row(*row)
    console.print(table)
    if fields["breakdown"]:
        head = ("operation", "cycles", "share", "energy (mJ)", "low", "high")
        split = text_table(*head, title="Cycles and energy of one image")
        energy = fields["energy_operations_mj"]
        for name in fields["breakdown"] | energy:  # exps are softmax's energy, but no cycles of their own
            cycles = fields["breakdown"].get(name, 0)
            part = (f"{energy[name][bound]:.4f}" for bound in ("total", "low", "high")) if name in energy else ()
            split.add_row(name, f"{cycles:,}", _percent(cycles / fields["cycles"]), *part)
        console.print(split)


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Measure what the options say; the fields of measure.json.

    Raises:
        InputError: For bad options.
    """
    from hw.memory_timing import MemoryTiming
    from hw.presets import find_preset

    check_engine(options.engine)
    config = find_preset(options.preset).with_fields(options.set)
    timing = MemoryTiming.parse(options.memory)
    from sim.measurement import measure
    from sim.stimulus.workload import prepare, prepare_shape

    network, chosen = NetworkOptions.of(options), {"skip": options.skip, "path": options.path, "loop_order": options.loop_order}
    if options.engine == "model":
        workload = prepare_shape(network, config, **chosen)
    else:
        workload = prepare(network, config, images=options.images, data=options.data, **chosen)

    fields = {"preset": options.preset, "network": asdict(network)}
    fields |= measure(workload, config, engine=options.engine, timing=timing)
    if options.trace:
        from sim.timeline.chrome_trace import write_trace
        from sim.timeline.spans import model_timeline, rtl_timeline

        if options.engine == "rtl":
            spans = rtl_timeline(workload.program, workload.images[:1], timing)
        else:
            spans = model_timeline(workload.program, timing)
        write_trace(options.trace, workload.program, spans)
    return fields


@command(RuntimeError)
def main(arguments: list[str] | None = None) -> int:
    """``python -m sim.measure``.

    Returns:
        0; 1 when images or counters mismatch or the simulation failed; 2 for bad input.
    """
    options = _parser().parse_args(arguments)
    check_writable(options.json, options.trace, inputs=(options.weights, options.data))
    with progress():
        fields = run(options)
    _print_tables(fields)
    if options.json:
        write_json(options.json, fields)
    return 1 if fields["mismatches"] or not fields.get("runs_equal", True) else 0


if __name__ == "__main__":
    sys.exit(main())
