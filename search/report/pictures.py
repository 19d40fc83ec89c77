"""Pictures of a search's result, as SVG text; each takes the dictionary that `result.json` holds."""

import io
from collections.abc import Callable
from typing import Any

import numpy as np

from hw.config import milliseconds

_BLUE, _ORANGE, _GREEN, _GREY = "#2b6cb0", "#c05621", "#2f855a", "#718096"


def _svg(draw: Callable[[Any], None], width: float, height: float, panels: int = 1) -> str:
    """SVG of a figure of ``panels`` axes in a row, width x height inches, the same bytes for the same data."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    with plt.rc_context({"svg.hashsalt": "pivot", "svg.fonttype": "none", "font.size": 9, "axes.spines.top": False}):
        figure, axes = plt.subplots(1, panels, figsize=(width, height), layout="constrained")
        draw(axes)
        out = io.StringIO()
        figure.savefig(out, format="svg", metadata={"Date": None})
        plt.close(figure)
    return out.getvalue()[out.getvalue().index("<svg") :]


def cka_picture(result: dict[str, Any]) -> str:
    """CKA between the stream entering encoder i (row) and the one after encoder j's attention (column)."""
    matrix = np.array(result["cka"])

    def draw(axes: Any) -> None:
        image = axes.imshow(matrix, cmap="viridis", vmin=0, vmax=1)
        axes.set_xlabel("after the attention of encoder j")
        axes.set_ylabel("entering encoder i")
        axes.figure.colorbar(image, ax=axes, label="CKA")

    return _svg(draw, 4.6, 3.8)


def path_score_picture(result: dict[str, Any]) -> str:
    """Best Path-Score of every effort, with the accuracy of its fine-tuned path."""
    efforts = result["efforts"]

    def draw(axes: Any) -> None:
        x = [effort["effort"] for effort in efforts]
        axes.plot(x, [effort["path_score"] for effort in efforts], "o-", color=_BLUE)
        axes.set_xlabel("effort (attentions kept)")
        axes.set_ylabel("Path-Score", color=_BLUE)
        twin = axes.twinx()
        twin.plot(x, [100 * effort["accuracy_test"] for effort in efforts], "s--", color=_ORANGE)
        twin.set_ylabel("top-1 after fine-tuning, int8, test (%)", color=_ORANGE)

    return _svg(draw, 5.2, 3.4)


def front_picture(result: dict[str, Any]) -> str:
    """Accuracy against expected delay and energy: single paths, the front, the chosen pair (calibration split)."""

    def draw(axes: Any) -> None:
        for axis, index, field, label in ((axes[0], 1, "delay_ms", "delay (ms)"), (axes[1], 2, "energy_mj", "energy (mJ)")):
            front = sorted(result["front"], key=lambda point: point[index])
            axis.plot([p[index] for p in front], [100 * p[0] for p in front], ".-", color=_GREY, label="front")
            singles = result["efforts"]
            axis.plot([s[field] for s in singles], [100 * s["accuracy_calibration"] for s in singles], "o", color=_BLUE,
                      label="single path")  # fmt: skip
            chosen = result["chosen_calibration"]
            axis.plot(chosen[field], 100 * chosen["accuracy"], "*", color=_ORANGE, markersize=13, label="chosen pair")
            axis.axhline(100 * chosen["accuracy_floor"], color=_GREEN, linestyle=":", label="least accuracy allowed")
            axis.set_xlabel(f"expected {label} per image")
            axis.set_ylabel("top-1, int8, calibration (%)")
        axes[0].legend(loc="lower right", fontsize=8)

    return _svg(draw, 8.6, 3.6, panels=2)


def entropy_picture(result: dict[str, Any]) -> str:
    """Entropy of the low effort's answers on the test split, right and wrong ones, with the threshold."""
    histogram = result["entropy_histogram"]

    def draw(axes: Any) -> None:
        edges = np.array(histogram["edges_nats"])
        right, wrong = np.array(histogram["right"]), np.array(histogram["wrong"])
        widths = np.diff(edges)
        axes.bar(edges[:-1], right, widths, align="edge", color=_BLUE, label="answered right")
        axes.bar(edges[:-1], wrong, widths, bottom=right, align="edge", color=_ORANGE, label="answered wrong")
        axes.axvline(result["threshold_nats"], color="black", linestyle="--", label="threshold")
        axes.set_yscale("symlog", linthresh=10)
        axes.set_xlabel("entropy of the low effort's answer (nat)")
        axes.set_ylabel("test images")
        axes.legend()

    return _svg(draw, 5.2, 3.4)


def delay_picture(result: dict[str, Any]) -> str:
    """Delay of the baseline, the low and the high effort, split by operation (RTL counters)."""
    names = [name for name in result["breakdown"]["baseline"] if any(result["breakdown"][k][name] for k in result["breakdown"])]

    def draw(axes: Any) -> None:
        from matplotlib import colormaps

        bars = list(result["breakdown"])
        left = np.zeros(len(bars))
        for place, name in enumerate(names):
            cycles = np.array([result["breakdown"][bar][name] for bar in bars], dtype=float)
            delay = milliseconds(cycles, result["clock_mhz"])
            axes.barh(bars, delay, left=left, label=name, color=colormaps["tab20"](place))
            left += delay
        axes.invert_yaxis()
        axes.set_xlabel(f"delay (ms at {result['clock_mhz']} MHz)")
        axes.legend(ncols=2, fontsize=7, loc="center left", bbox_to_anchor=(1.0, 0.5))

    return _svg(draw, 8.0, 2.6)
