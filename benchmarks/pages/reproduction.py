"""Writes docs/reproduction.md: PIVOT's figures as this project finds them, from the results that lie beside their commands.

    python -m benchmarks.pages.reproduction

It measures nothing but counts: `delay_split.json`, `path_scores.json`, `lv_vit/training.json` and
`benchmarks/results/pivot_result.json` hold the figures, each with the command that made it.
"""

import sys
from math import comb
from textwrap import fill
from typing import Any

import numpy as np

from benchmarks.freshness import Result
from benchmarks.picture import save_picture
from benchmarks.pivot.lv_vit_weights import BASELINE, FIGURES, WHOLE, effort_name
from benchmarks.result import DOCS, ROOT, Benchmark
from hw.errors import command
from hw.files import read_json, write_file
from hw.tables import markdown_table
from search.intervals import Z95
from sw.networks.network import parse_network
from sw.networks.spec import NetworkSpec

PAGE = DOCS / "reproduction.md"
DELAY_SPLIT, PATH_SCORES, PIVOT_RESULT = (Benchmark(f"pivot.{name}") for name in ("delay_split", "path_scores", "pivot_result"))
SEARCH_STEPS, SEARCH_BATCH = 120, 128
"""Fine-tuning of each effort in `search.cosearch`, its defaults."""


def paragraph(text: str) -> str:
    """Text in lines of equal length, whatever the figures in it take."""
    return fill(" ".join(text.split()), 132, break_long_words=False, break_on_hyphens=False)


def delay_split(result: dict[str, Any]) -> str:
    """Figure 1b."""
    entries = result["entries"]
    head = ["share of the delay (%)", *(f"{entry['network']} on `{entry['preset']}`" for entry in entries)]
    rows = [[part, *(f"{100 * entry['split'][part]:.1f}" for entry in entries)] for part in entries[0]["split"]]
    rows += [
        ["**attention, end to end**", *(f"**{100 * entry['attention_share']:.1f}**" for entry in entries)],
        ["attention, of the encoders' MACs", *(f"{100 * entry['attention_share_of_encoder_macs']:.1f}" for entry in entries)],
        ["delay (ms)", *(f"{entry['delay_ms']:.2f}" for entry in entries)],
        ["cycles", *(f"{entry['cycles']:,}" for entry in entries)],
    ]
    return markdown_table(head, rows)


def correlations(result: dict[str, Any]) -> str:
    """Figure 4a."""
    names = ("before", "after", "longer")
    steps = result["finetuning"]
    paths = {name: next(iter(result["variants"].values()))[name]["paths"] for name in names}
    head = ["streams compared", f"no fine-tuning ({paths['before']} paths)", f"{steps['steps']} steps ({paths['after']})",
            f"{steps['longer_steps']} steps ({paths['longer']})", "best path"]  # fmt: skip
    rows = []
    for name, part in result["variants"].items():
        cells = [f"{part[key]['spearman']:.2f} ({part[key]['low95']:.2f} to {part[key]['high95']:.2f})" for key in names]
        rows.append([f"`{name}`: {part['meaning']}", *cells, ", ".join(map(str, part["best_path"]))])
    return markdown_table(head, rows)


def verdict(result: dict[str, Any]) -> str:
    """Which variant works, by the interval after equal fine-tuning."""
    after = {name: part["after"] for name, part in result["variants"].items()}
    works = [name for name, part in after.items() if part["low95"] > 0]
    wrong = [name for name, part in after.items() if part["high95"] < 0]
    rest = [name for name in after if name not in works and name not in wrong]

    def named(names: list[str]) -> str:
        return ", ".join(f"`{name}`" for name in names) or "none"

    return (
        f"After equal fine-tuning the score tells better paths from worse ones (interval above 0): {named(works)}. It points the "
        f"wrong way (interval below 0): {named(wrong)}. It says nothing either way: {named(rest)}."
    )


def design_space(depths: dict[str, int], thresholds: int) -> str:
    """Figure 4b."""
    rows = []
    for name, depth in depths.items():
        paths = 2**depth
        pairs = sum(comb(depth, low) * comb(depth, high) for high in range(1, depth + 1) for low in range(high))
        chosen = depth * (depth - 1) // 2
        searched = [f"{depth}", f"{chosen}", f"{chosen * thresholds:,}"]
        rows.append([name, f"{paths:,}", f"{pairs:,}", f"{pairs * thresholds:.1e}", *searched])
    head = ["network", "paths", "pairs of paths", "with thresholds", "paths fine-tuned in phase 1", "pairs in phase 2",
            "with thresholds"]  # fmt: skip
    return markdown_table(head, rows)


def macs(spec: NetworkSpec, effort: int) -> int:
    """Multiply-accumulates of the encoders of a path: projections, scores and contexts of kept attentions, every MLP."""
    tokens, dim = spec.tokens, spec.dim
    attention = 4 * tokens * dim * dim + 2 * tokens * tokens * dim
    return effort * attention + spec.depth * 2 * tokens * dim * spec.hidden


def training_cost(scratch: dict[str, tuple[NetworkSpec, int, int, int]], efforts: tuple[int, ...]) -> str:
    """Figure 4c: encoder MACs of each effort's fine-tuning over those of training from scratch."""
    columns = [f"effort {effort}" for effort in efforts]
    head = ["network", "from scratch (steps)", "each effort (steps)", *columns, "all efforts from 1"]
    rows = []
    for name, (spec, whole_steps, steps, batch) in scratch.items():
        whole = whole_steps * macs(spec, spec.depth)
        cells = [f"{100 * steps * macs(spec, effort) / whole:.2f} %" for effort in efforts]
        every = sum(steps * macs(spec, effort) for effort in range(1, spec.depth + 1))
        rows.append([f"`{name}`", f"{whole_steps:,} of {batch}", f"{steps:,}", *cells, f"{100 * every / whole:.1f} %"])
    return markdown_table(head, rows)


def design_points(result: dict[str, Any]) -> str:
    """The final table: every setting of `pivot_result.json`."""
    head = ["setting", "F_low", "top-1 (%)", "baseline (%)", "loss (points, 95 %)", "delay (ms)", "energy (mJ)", "EDP (mJ ms)",
            "EDP gain", "attention share"]  # fmt: skip
    rows = []
    for name, part in result["settings"].items():
        seeds = part["seeds"]

        def mean(field: str, seeds: list[dict[str, Any]] = seeds) -> float:
            return float(np.mean([seed[field]["cascade"] if isinstance(seed[field], dict) else seed[field] for seed in seeds]))

        top1 = np.mean([seed["accuracy"]["cascade"] if "accuracy" in seed else seed["accuracy_test"] for seed in seeds])
        low, high = (100 * bound for bound in part["loss_95"])
        base = part["baseline"]
        rows.append([
            name, f"{part['mean']['f_low_test']:.3f}" if "f_low_test" in part["mean"] else "1", f"{100 * top1:.2f}",
            f"{100 * (top1 + part['mean']['loss']):.2f}", f"{100 * part['mean']['loss']:.2f} ({low:.2f} to {high:.2f})",
            f"{mean('delay_ms'):.2f} of {base['delay_ms']:.2f}", f"{mean('energy_mj'):.1f} of {base['energy_mj']:.1f}",
            f"{mean('edp_mj_ms'):,.0f} of {base['delay_ms'] * base['energy_mj']:,.0f}", f"**{part['mean']['edp_gain']:.2f}**",
            f"{100 * part['attention_share']:.1f} %",
        ])  # fmt: skip
    return markdown_table(head, rows)


def seeds_table(result: dict[str, Any]) -> str:
    """Each seed of the first setting."""
    head = ["seed", "low keeps", "threshold (nat)", "F_low calibration / test", "baseline fp32 / int8 (%)", "low alone (%)",
            "cascade (%)", "cascade - baseline (points, 95 %)", "EDP gain"]  # fmt: skip
    rows = []
    for seed in next(iter(result["settings"].values()))["seeds"]:
        difference, accuracy = seed["cascade_minus_baseline"], seed["accuracy"]
        half = Z95 * difference["standard_error"]
        rows.append([
            str(seed["seed"]), ", ".join(map(str, seed["low"]["kept"])), f"{seed['threshold_nats']:.4f}",
            f"{seed['f_low']:.3f} / {seed['f_low_test']:.3f}",
            f"{100 * accuracy['baseline_fp32']:.2f} / {100 * accuracy['baseline_int8']:.2f}", f"{100 * accuracy['low']:.2f}",
            f"{100 * accuracy['cascade']:.2f}",
            f"{100 * difference['difference']:+.2f} ({100 * (difference['difference'] - half):+.2f} to "
            f"{100 * (difference['difference'] + half):+.2f})", f"{seed['edp_gain']:.2f}",
        ])  # fmt: skip
    return markdown_table(head, rows)


def draw_cka(matrix: list[list[float]]) -> None:
    """Figure 3a."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(5, 4), layout="constrained")
    image = axes.imshow(np.array(matrix), vmin=0, vmax=1, cmap="viridis")
    axes.set(xlabel="after the attention add of encoder j", ylabel="entering encoder i")
    axes.set_xticks(range(len(matrix)))
    axes.set_yticks(range(len(matrix)))
    figure.colorbar(image, label="CKA (class token)")
    save_picture(figure, "cka", "cka")


def page() -> str:
    """The whole document, less its pictures."""
    split, scores = DELAY_SPLIT.load(), PATH_SCORES.load()
    trained, result = read_json(FIGURES), PIVOT_RESULT.load()
    networks = trained["seed0"]["networks"]
    tiny, lv = parse_network("fmnist_vit_tiny"), parse_network("fmnist_lvvit")
    tiny_steps = read_json(ROOT / "sw" / "assets" / "fmnist_vit_tiny" / "config.json")["recipe"]["steps"]
    whole, tuned = networks[WHOLE]["recipe"], networks[effort_name(BASELINE)]["recipe"]
    scratch = {
        "fmnist_vit_tiny": (tiny, tiny_steps, SEARCH_STEPS, SEARCH_BATCH),
        "fmnist_lvvit": (lv, whole["steps"] + whole["then"]["steps"], tuned["steps"], tuned["batch"]),
    }
    split_line, scores_line, result_line = (
        Result.read(benchmark.path.stem).line() for benchmark in (DELAY_SPLIT, PATH_SCORES, PIVOT_RESULT)
    )
    pair, single = result["settings"][f"pair on {result['preset']}"], result["best_single"]
    low, high = (100 * bound for bound in single["loss_95"])
    apart = single["minus_pair"]
    name = next(name for name in result["settings"] if name.startswith("single path"))
    what_single = "the best single path at equal loss" if "at equal loss" in name else "the single path that comes nearest in loss"
    verdict_single = "no more than two paired standard errors" if apart["equal"] else "more than two paired standard errors"
    flagship = "; ".join(
        f"{name.removesuffix(' on zcu102')} {part['mean']['edp_gain']:.2f}x at {100 * part['mean']['loss']:.2f} points"
        for name, part in result["settings"].items() if part["preset"] == "zcu102"
    )  # fmt: skip
    claim = f"""On `{result['preset']}` the pair's EDP is {result['edp_gain']:.2f}x lower at a loss of {100 * result['loss']:.2f}
    points, where attention takes {100 * pair['attention_share']:.1f} % of the baseline's delay; prefix-resume is a part of it. The
    paper claims 2.7x at 0.2 points. Without a gate, effort {single['effort']} for every image, {what_single} on calibration images,
    reaches {single['edp_gain']:.2f}x and loses {100 * single['loss']:.2f} points ({low:.2f} to {high:.2f}) on the test images:
    {100 * apart['difference']:+.2f} points against the pair, {verdict_single}."""
    shares = f"""
    The gain is the machine's as much as the method's; on `zcu102` there is what its attention share allows: {flagship}.
    Every image that goes on pays for a second network, and where attention is a third of the delay a low effort saves little more
    than that. All efforts of a seed have one stem and embedding, so that the high effort can resume behind them."""
    return f"""# PIVOT's figures, reproduced

Written by `python -m benchmarks.pages.reproduction` from `benchmarks/results/`; PIVOT is Moitra, Bhattacharjee and Panda, DAC
2024, arXiv 2404.15185. Its networks are trained on ImageNet, which is not used here: accuracies are of networks trained on
full Fashion-MNIST, delays and energies of DeiT-S and LV-ViT-S at 224x224. Cycles are simulated (the cycle model equals the RTL in
every counter), energy is modelled from the machine's counters, clocks are assumed; nothing was run on a board.

## Where the delay goes (its Figure 1b)

{split_line}

`python -m benchmarks.pivot.delay_split`

{delay_split(split)}
![Delay split](images/delay_split.svg)

`pivot` is the published machine: 36 PEs of 64 multipliers and one softmax element a cycle. The paper's motivation, attention
dominating the delay, holds there and comes from the softmax unit; on an array whose exps ride along with P·V (`zcu102`)
attention takes less than its share of the MACs.

## CKA between streams (its Figure 3a)

{scores_line}

`python -m benchmarks.pivot.path_scores`: `{scores['model']}`, 2,000 calibration images. Encoder 0's class token is constant
before its attention, so its row has no similarity to anything.

![CKA matrix](images/cka.svg)

## Does Path-Score choose good paths? (its Figure 4a)

{scores_line}

`python -m benchmarks.pivot.path_scores`: random paths of effort {scores['effort']} of `{scores['model']}`, top-1 on
{scores['test_images']:,} test images; Spearman's correlation of accuracy with Path-Score, 95 % bootstrap interval over the paths.
All paths get the same steps in the same order (seed {scores['finetuning']['seed']}, batches of {scores['finetuning']['batch']}).

{correlations(scores)}
{verdict(scores)}

![Accuracy against Path-Score](images/path_scores.svg)

## How much is searched (its Figure 4b)

Pairs of a lower and a higher effort, times 2,000 thresholds (one for each calibration image). A random search would fine-tune both
networks of every pair it looks at; phase 1 fine-tunes one path for each effort, and phase 2 reuses their answers.

{design_space({"12 encoders": 12, "16 encoders": 16}, 2000)}
## What the efforts cost to train (its Figure 4c)

Multiply-accumulates of the encoders in fine-tuning an effort, over those of training the whole network from scratch; a backward
pass costs both alike. Answers of the teacher are computed once for all efforts.

{training_cost(scratch, (3, 6, 9, 12))}
## Design points (its final table)

{result_line}

`python -m benchmarks.pivot.pivot_result` ({result['provenance']['wall_s']:.0f} s; every field is in
[pivot_result.json](../benchmarks/results/pivot_result.json)): LV-ViT of 16 encoders on Fashion-MNIST, three seeds, int8 on the
golden machine, 10,000 test images; delay and energy of LV-ViT-S at 224x224, convolution stem included, at the same masks and the
test F_low. The baseline is the whole ViT in int8 with the same extra fine-tuning. Means over the seeds; the interval is over test
images.

{design_points(result)}
{paragraph('Rules, ' + result['rules'])}

{paragraph(claim)}

{paragraph(shares)}

{seeds_table(result)}"""


@command()
def main(arguments: list[str] | None = None) -> int:
    """Write the page."""
    Benchmark("pages.reproduction").parser(__doc__).parse_args(arguments)
    draw_cka(PATH_SCORES.load()["variants"]["class"]["cka"])
    write_file(PAGE, page())
    print(PAGE)
    return 0


if __name__ == "__main__":
    sys.exit(main())
