"""A search's result in a few lines for the terminal."""

from typing import Any


def summary_table(result: dict[str, Any]) -> Any:
    """The result in a few lines, as a `rich.table.Table`."""
    from hw.tables import text_table

    table = text_table(
        "", "top-1 (%)", "delay (ms)", "energy (mJ)", "EDP (mJ ms)", "EDP gain",
        title=f"{result['model']} on {result['preset']}: winner is {result['winner']}",
    )  # fmt: skip

    def row(name: str, accuracy: float, delay: float, energy: float, gain: float) -> None:
        table.add_row(name, f"{100 * accuracy:.2f}", f"{delay:.4f}", f"{energy:.4f}", f"{delay * energy:.5f}", f"{gain:.2f}")

    row("baseline", result["accuracy"]["baseline_int8"], result["delay_ms"]["baseline"], result["energy_mj"]["baseline"], 1.0)
    row("cascade", result["accuracy"]["cascade"], result["delay_ms"]["cascade"], result["energy_mj"]["cascade"], result["edp_gain"])
    single = result["best_single"]
    if single is not None:
        figures = (single[name] for name in ("accuracy_test", "delay_ms", "energy_mj", "edp_gain"))
        row(f"effort {single['effort']} alone", *figures)
    share = 100 * result["attention_share"]
    table.caption = (
        f"low keeps {result['low']['kept']}, high {result['high']['kept']}, threshold {result['threshold_nats']:.4f} nat, "
        f"F_low {result['f_low_test']:.3f} (test); attention is {share:.1f} % of the baseline's delay"
    )
    return table
