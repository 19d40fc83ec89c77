"""Page of the energy model: the table of constants and what the benchmarks found, from code and their results.

python -m benchmarks.pages.energy
"""

import sys
from typing import Any

from benchmarks.freshness import Result
from benchmarks.result import DOCS, Benchmark
from hw.errors import command
from hw.files import write_file
from hw.tables import markdown_table
from sim.energy.table import ENERGY_TABLE, STATIC, energy_line

PAGE = DOCS / "energy.md"
ACTIVITY, DEIT_S = (Benchmark(f"energy.{name}", file=f"energy_{name}") for name in ("activity", "deit_s"))

_INTRODUCTION = """\
# Energy

Written by `python -m benchmarks.pages.energy` from `sim/energy/table.py` and the results of the benchmarks; do not edit.

Energy of a run = events x energy per event + static power x time. Events are linear forms of the machine's counters
(`sim.energy.table.events_per_count`), so counters @ `sim.energy.estimate.energy_matrix(config)` is the energy by class of any
number of runs. No board was measured. A line's error is a factor: the truth is taken to lie between value / factor and value x
factor. Totals take the lines' errors as independent and add them as squares, downwards and upwards apart. Where lines share
a cause, and all share the scaling to 16 nm, the total's error is too small.

## Constants
"""

_OPERATIONS = """\

## By operation

`sim.energy.estimate.energy_by_operation` divides each class as the Program's descriptors say: words fed, tiles, normalise cycles,
residual bytes and bytes moved of each operation's own descriptors. Classes that cost time (clock, control, banks that read
all the time, static power) go with the busy cycles that the machine counted under each operation. The operations sum to the
total. Exps are looked up while scores are fed to the context's GEMM; their energy is `softmax`'s.
"""

_PUBLISHED = """\

In the estimate are the programmable logic, DDR4 traffic, leakage, an idle processing system and the DRAM's background power.
Not in it are the board's regulators, fan and peripherals, and software that keeps the processor busy. Static power is the
largest part and the least known: no publication stands behind its two lines. Papers seldom say at which rail they measured.
Nothing was tuned to them; what is below a published figure stays there.
"""

_ACTIVITY = """\

## Against switching activity

{line}

`{command}` records every toggle of small machines in RTL (SAIF) and adds them up by unit (`sim/energy/activity.py`): toggles of
flip-flops, at what the fabric of an FPGA was measured to take per typical toggle, and accesses of memories. The measurement
is a Virtex-II CLB's 5.9 uW/MHz, 60 % of it nets and 16 % look-up tables (Shang, Kaviani, Bathala, FPGA 2002), at an activity
of 12.5 %, scaled to 16 nm as C V squared:

{toggles}

The table of constants shares two of its figures with it, a memory's energy per byte (before the factor for block RAM) and
the clock's per flip-flop, and one thing more: how many registers switch behind an event was taken from the RTL's activity.
That a stage of logic counts as two adds, and not as one, was decided after the first comparison, which gave factors of up to
4.7. So the factors compare picojoules per toggle, an ASIC's operations times the published gap with an FPGA's fabric; that
they hold on other networks and machines is what the comparison below shows. They are fitted unit by unit, none below 0:
"""

_ERRORS = """\

Both ways agree within the lines' errors. With the factors, energy from events is compared on {validated} networks that no
fit saw, {elsewhere} of them on a machine that no fit saw. Errors are of the switching energy without the clock, whose
figure both sides share, and with it. The greatest is {worst:.1f} %; {tolerance:.0f} % are allowed. Units are off by more
than the total: statistics of LayerNorm cost by row and not by element, the residual banks are written by GEMMs and counted
by NORMs, and padding switches less than data.
"""

_MACHINES = """\

Machines, rows x columns x depth, as `--set` of `{base}`: {machines}. `fmnist_vit_tiny` has its trained weights and a real
image, the others random weights. Products are the behavioural twin of the DSP48E2 cascades, which delays all elements of a
word alike, so events are the twin's, too. Glitches within a cycle are in the measured CLB, not in the toggles.
"""


def _percent(value: float) -> str:
    return f"{100 * value:+.1f} %"


def _constants() -> str:
    rows = []
    for line in ENERGY_TABLE:
        value = f"{line.value:g} {'W' if line.name in STATIC else 'pJ'}"
        rows.append([line.name, value, f"x/ {line.factor:g}", line.unit, line.technology, line.source, f"`{line.arithmetic}`"])
    table = markdown_table(["class", "value", "error", "event", "stands for", "source", "arithmetic"], rows)
    meanings = "".join(f"- `{line.name}`: {line.derivation}.\n" for line in ENERGY_TABLE)
    return f"{_INTRODUCTION}\n{table}\nWhat the numbers are:\n\n{meanings}"


def _deit_s(result: dict[str, Any]) -> str:
    time, power, activity = result["delay_ms"], result["average_power_w"], result["energy_by_activity_mj"]
    rows = [
        [name, f"{mj:.3f}", f"{mj / time:.3f}", f"{activity[name] / time:.3f}"]
        for name, mj in result["energy_breakdown_mj"].items()
    ]
    rows.append(["total", f"{result['energy_mj']:.3f}", f"{power['total']:.3f}", f"{result['average_power_by_activity_w']:.3f}"])
    operations = [
        [name, *(f"{part[bound]:.3f}" for bound in ("total", "low", "high"))]
        for name, part in result["energy_operations_mj"].items()
    ]
    published = [[entry["work"], entry["network"], f"{entry['power_w']} W"] for entry in result["published_on_zcu102"]]
    return (
        f"{_OPERATIONS}\n## DeiT-S on zcu102\n\n"
        f"{Result.read(DEIT_S.path.stem).line()}\n\n"
        f"`{DEIT_S.command}`: one image, {result['cycles']:,} cycles, {time:.3f} ms at {result['clock_mhz']} MHz,\n"
        f"**{result['energy_mj']:.1f} mJ** ({result['energy_low_mj']:.1f} to {result['energy_high_mj']:.1f}), on average "
        f"**{power['total']:.1f} W** ({power['low']:.1f} to {power['high']:.1f}).\n\n"
        + markdown_table(["class", "mJ", "W", "W with the factors below"], rows)
        + "\n" + markdown_table(["operation", "mJ", "low", "high"], operations)
        + "\nPublished figures of the same board:\n\n" + markdown_table(["work", "network", "power"], published) + _PUBLISHED
    )  # fmt: skip


def _comparison(runs: list[dict[str, Any]]) -> str:
    units = list(runs[0]["unit_errors"])
    rows = []
    for run in runs:
        network = run["network"].removeprefix("vit:").replace(",", ", ")
        errors = [f"**{_percent(run['error'])}**", _percent(run["error_with_clock"])]
        errors += [f"{100 * run['unit_errors'][unit]:+.0f}" for unit in units]
        rows.append([run["machine"], network, f"{run['cycles']:,}", *errors])
    return markdown_table(["machine", "network", "cycles", "error", "with clock", *(f"{unit} (%)" for unit in units)], rows)


def _activity(result: dict[str, Any]) -> str:
    factors = {name: energy_line(name).factor for name in result["scales"]}
    rows = [[name, f"{scale:.2f}", f"{1 / factors[name]:.2f} to {factors[name]:.2f}"] for name, scale in result["scales"].items()]
    fitted, validated = result["fitted"], result["validated"]
    unseen = {run["machine"] for run in validated} - {run["machine"] for run in fitted}
    errors = _ERRORS.format(
        validated=len(validated), elsewhere=sum(run["machine"] in unseen for run in validated),
        worst=100 * result["worst_error"], tolerance=100 * result["tolerance"],
    )  # fmt: skip
    machines = "; ".join(f"{name}: {f'`{fields}`' if fields else 'as it is'}" for name, fields in result["machines"].items())
    toggles = markdown_table(["toggle or access", "pJ"], [[name, f"{value:.3f}"] for name, value in result["toggle_pj"].items()])
    return (
        _ACTIVITY.format(line=Result.read(ACTIVITY.path.stem).line(), command=ACTIVITY.command, toggles=toggles.rstrip())
        + "\n" + markdown_table(["class", "factor", "error of the line"], rows)
        + f"{errors}\nFitted:\n\n{_comparison(fitted)}\nValidated:\n\n{_comparison(validated)}"
        + _MACHINES.format(base=result["base"], machines=machines)
    )  # fmt: skip


def generate_energy_docs(activity: dict[str, Any], deit_s: dict[str, Any]) -> str:
    """The page.

    Args:
        activity: result of `benchmarks.energy.activity`.
        deit_s: result of `benchmarks.energy.deit_s`.
    """
    return _constants() + _deit_s(deit_s) + _activity(activity)


@command()
def main(arguments: list[str] | None = None) -> int:
    """``python -m benchmarks.pages.energy``: write the page."""
    Benchmark("pages.energy").parser(__doc__).parse_args(arguments)
    write_file(PAGE, generate_energy_docs(ACTIVITY.load(), DEIT_S.load()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
