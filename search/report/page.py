"""A search's result as one self-contained HTML page."""

import html
from typing import Any

from search.report import pictures

_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:62rem;margin:2rem auto;padding:0 1rem;color:#1a202c}
table{border-collapse:collapse;margin:1rem 0}td,th{border-bottom:1px solid #cbd5e0;padding:.25rem .7rem;text-align:right}
td:first-child,th:first-child{text-align:left}svg{max-width:100%;height:auto}figure{margin:1.5rem 0}
figcaption{color:#4a5568;font-size:.9em}h1{font-size:1.6rem}h2{font-size:1.2rem;margin-top:2rem}
"""


def _percent(value: float) -> str:
    return f"{100 * value:.2f}\u00a0%"


def _kept(kept: list[int]) -> str:
    return ", ".join(map(str, kept))


def _table(head: list[str], rows: list[list[str]]) -> str:
    """An HTML table of text cells, escaped."""
    cells = "".join(f"<th>{html.escape(cell)}</th>" for cell in head)
    body = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{cells}</tr></thead><tbody>{body}</tbody></table>"


def _figure(svg: str, caption: str) -> str:
    return f"<figure>{svg}<figcaption>{html.escape(caption)}</figcaption></figure>"


def _comparison(result: dict[str, Any]) -> str:
    accuracy, single = result["accuracy"], result["best_single"]
    rows = [
        ["int8 baseline", _percent(accuracy["baseline_int8"]), f"{result['delay_ms']['baseline']:.4f}",
         f"{result['energy_mj']['baseline']:.4f}", f"{result['edp_mj_ms']['baseline']:.5f}", "1.00"],
        ["cascade", _percent(accuracy["cascade"]), f"{result['delay_ms']['cascade']:.4f}",
         f"{result['energy_mj']['cascade']:.4f}", f"{result['edp_mj_ms']['cascade']:.5f}", f"{result['edp_gain']:.2f}"],
    ]  # fmt: skip
    if single is not None:
        rows.append(
            [f"best single path, effort {single['effort']}", _percent(single["accuracy_test"]), f"{single['delay_ms']:.4f}",
             f"{single['energy_mj']:.4f}", f"{single['edp_mj_ms']:.5f}", f"{single['edp_gain']:.2f}"]
        )  # fmt: skip
    return _table(["", "top-1 (test)", "delay (ms)", "energy (mJ)", "EDP (mJ ms)", "EDP gain"], rows)


def _efforts(result: dict[str, Any]) -> str:
    rows = [
        [str(effort["effort"]), _kept(effort["kept"]), f"{effort['path_score']:.3f}",
         _percent(effort["accuracy_calibration"]), _percent(effort["accuracy_test"]), _percent(effort["accuracy_fp32_test"]),
         _percent(effort["disagreement_test"]), f"{effort['sqnr_db']:.1f}", f"{effort['delay_ms']:.4f}",
         f"{effort['energy_mj']:.4f}"]
        for effort in result["efforts"]
    ]  # fmt: skip
    head = ["effort", "attentions kept", "Path-Score", "int8 (calibration)", "int8 (test)", "fp32 (test)",
            "int8 answers differ", "logits SQNR (dB)", "delay (ms)", "energy (mJ)"]  # fmt: skip
    return _table(head, rows)


def _honesty(result: dict[str, Any]) -> str:
    sizes, loss = result["images"], result["intervals"]["cascade_minus_baseline"]
    shipped = result["intervals"]["cascade_minus_shipped"]
    low, high = result["intervals"]["f_low_test_95"]
    verdict = "equal" if loss["equal"] else "different"
    lines = [
        f"Images: {sizes['train']} for fine-tuning, {sizes['calibration']} for every choice (never trained on), "
        f"{sizes['test']} for the accuracies of this page (they chose nothing).",
        f"Rule of choice: {result['rule']}",
        f"F_low: {result['f_low']:.3f} on the calibration split, {result['f_low_test']:.3f} on the test split "
        f"(95 % interval {low:.3f} to {high:.3f}); constraint LEC {result['lec']}.",
        f"Cascade minus int8 baseline on the test split: {100 * loss['difference']:+.2f} points, paired standard error "
        f"{100 * loss['standard_error']:.2f}, 95 % interval {100 * loss['low95']:+.2f} to {100 * loss['high95']:+.2f}: {verdict} "
        "(under two paired standard errors counts as equal). Minus the int8 network as shipped "
        f"({_percent(result['accuracy']['shipped_int8'])}): {100 * shipped['difference']:+.2f} points, interval "
        f"{100 * shipped['low95']:+.2f} to {100 * shipped['high95']:+.2f}.",
        f"Attention's share of the baseline's delay on this machine is {_percent(result['attention_share'])}: it bounds what "
        f"skipping attention can give. The EDP gain of {result['edp_gain']:.2f} is against the {result['baseline']}.",
        f"E[delay x energy] per image: {result['edp_per_image_mj_ms']['cascade']:.5f} mJ ms (baseline "
        f"{result['edp_per_image_mj_ms']['baseline']:.5f}); delay of an image p50 {result['delay_percentiles_ms']['p50']:.4f} ms, "
        f"p99 {result['delay_percentiles_ms']['p99']:.4f} ms.",
        result["sources"],
    ]
    return "<ul>" + "".join(f"<li>{html.escape(line)}</li>" for line in lines) + "</ul>"


def _rtl(result: dict[str, Any]) -> str:
    rtl, gated = result["rtl"], result["rtl"]["gated"]
    model = {name: result[name]["cycles"] for name in ("low", "high")} | {"baseline": result["cycle_model"]["baseline_cycles"]}
    rows = []
    for name, cycles in model.items():
        counted = rtl[f"{name}_cycles"]
        rows.append([name, str(cycles), str(counted), str(counted - cycles)])
    equal = "equal" if result["cycle_model"]["counters_equal_rtl"] else "not all equal"
    text = (
        f"All counters of these runs are {equal} in model and RTL. {gated['images']} test images, a quarter by each exit where "
        "there are so many, went through the gated pair in RTL, the host writing nothing between start and interrupt: "
        f"{gated['exits_low']} left at the gate, "
        f"{gated['images'] - gated['exits_low']} went on; {gated['mismatches']} differed from the golden device in exit, entropy "
        "or any logit."
    )
    return _table(["one image", "model (cycles)", "RTL (cycles)", "difference"], rows) + f"<p>{html.escape(text)}</p>"


def _ranks(result: dict[str, Any]) -> str:
    rows = [
        [name, f"{rank['rank']} of {rank['among']}", _percent(rank["accuracy"])] for name, rank in result["path_ranks"].items()
    ]
    return _table(["path", "rank among random paths of its effort", "top-1 before fine-tuning (fp32, calibration)"], rows)


def render(result: dict[str, Any]) -> str:
    """The page as text; everything on it is in ``result``, the content of `result.json`."""
    low, high = result["low"], result["high"]
    title = f"{result['model']} on {result['preset']}"
    summary = (
        f"Low effort keeps the attention of encoders {_kept(low['kept'])}; high effort of {_kept(high['kept'])}. "
        f"An image is answered by the low effort where its entropy is at most {result['threshold_nats']:.4f} nat "
        f"({_percent(result['f_low_test'])} of the test images). By EDP at the allowed loss the winner is {result['winner']}."
    )
    parts = [
        f"<h1>{html.escape(title)}</h1><p>{html.escape(summary)}</p>",
        _comparison(result),
        "<h2>What the numbers are</h2>",
        _honesty(result),
        "<h2>Choice</h2>",
        _figure(pictures.front_picture(result), "Accuracy against expected delay and energy, calibration split."),
        _figure(pictures.entropy_picture(result), "Entropy of the low effort's answers, test split."),
        "<h2>Machine</h2>",
        _figure(pictures.delay_picture(result), "Delay split by operation, from the RTL's counters."),
        _rtl(result),
        "<h2>Paths</h2>",
        _figure(pictures.cka_picture(result), "CKA between residual streams, calibration split; Path-Score adds up its diagonal."),
        _figure(pictures.path_score_picture(result), "The best path per effort. Best paths nest, since scores add up."),
        _efforts(result),
        _ranks(result),
    ]
    head = f'<meta charset="utf-8"><title>{html.escape(title)}</title><style>{_STYLE}</style>'
    return f"<!doctype html><html lang=\"en\"><head>{head}</head><body>{''.join(parts)}</body></html>\n"
