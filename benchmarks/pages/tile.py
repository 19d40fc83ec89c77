"""Draws docs/images/tile.svg: how two tiles of scores, and one of a linear layer, move through two rows of the zcu102 preset.

    python -m benchmarks.pages.tile

Every cycle in it comes from `hw.timing`.
"""

import sys

import matplotlib

from benchmarks.picture import save_picture
from benchmarks.result import Benchmark
from hw.errors import command

matplotlib.use("svg")
from matplotlib import pyplot

from hw.config import AcceleratorConfig
from hw.isa import Post
from hw.presets import find_preset
from hw.timing import FEED_LATENCY, LANE_LATENCY, Timing

COLOURS = ("#3b6ea5", "#c4703a", "#5a8f5a")
TRACKS = ("feed tokens", "operands at pair 0", "operands at pair {last}", "drain chain's end", "lane tokens", "written")


def spans(config: AcceleratorConfig, start: int, words: int, post: Post) -> list[tuple[int, int]]:
    """(first cycle, cycles) on every track of row 0 for a tile whose first feed token comes in cycle ``start``."""
    timing = Timing(config)
    slots = config.cols // (config.score_columns if post == Post.SCORE else 1)
    last = start + words - 1
    lanes = last + timing.drain_latency
    first_pair = start + FEED_LATENCY + timing.skew
    return [
        (start, words),
        (first_pair, words),
        (first_pair + config.pairs - 1, words),
        (last + timing.chain_latency, slots),
        (lanes, slots),
        (lanes + LANE_LATENCY - 1, slots),
    ]


@command()
def main(arguments: list[str] | None = None) -> int:
    """Draw the picture."""
    Benchmark("pages.tile").parser(__doc__).parse_args(arguments)
    config = find_preset("zcu102")
    timing = Timing(config)
    tiles = []
    start = 0
    shown = (("scores, tile 1", 8, Post.SCORE), ("scores, tile 2", 8, Post.SCORE), ("linear layer", 48, Post.REQUANT))
    for name, words, post in shown:
        tiles.append((name, start, words, post))
        start += timing.tile_interval(words, post, False)
    names = [track.format(last=config.pairs - 1) for track in TRACKS]
    figure, axes = pyplot.subplots(figsize=(11, 5.2))
    for row in range(2):
        for colour, (name, begin, words, post) in zip(COLOURS, tiles, strict=True):
            for track, (first, length) in enumerate(spans(config, begin, words, post)):
                y = -(row * (len(TRACKS) + 1) + track)
                label = name if row == track == 0 else None
                axes.broken_barh([(first + row, length)], (y - 0.36, 0.72), color=colour, alpha=1 - 0.35 * row, label=label)
    ticks = [-(row * (len(TRACKS) + 1) + track) for row in range(2) for track in range(len(TRACKS))]
    axes.set_yticks(ticks, [f"row {row}: {name}" for row in range(2) for name in names])
    axes.set_xlabel("cycle")
    axes.set_xlim(0, None)
    axes.legend(loc="upper right")
    axes.grid(axis="x", alpha=0.3)
    figure.tight_layout()
    save_picture(figure, "tile", "tile")
    return 0


if __name__ == "__main__":
    sys.exit(main())
