"""Where a convolution stem's maps lie in the banks: of the ways in which a row's part of the picture may lie, the cheapest."""

from collections.abc import Sequence
from dataclasses import dataclass

from hw.config import AcceleratorConfig, ceil_div
from hw.program import ImageLayout
from sw.compiler.stem_geometry import StemGeometry
from sw.compiler.stem_window import Window, map_window, picture_windows


@dataclass(frozen=True)
class StemPlan:
    """How a stem runs in the activation banks.

    Some row tiles are computed one after the other, then embedded together: their last maps lie at the bank's beginning, tile
    behind tile; the other maps, of one row tile at a time, behind the last tile but one.

    Attributes:
        geometry: which pixels.
        windows: map i as convolution i reads it.
        bases: first word of map i.
        slot_words: words of a row tile's last map.
        row_tiles: that are embedded together at most.
        words: of the bank.
    """

    geometry: StemGeometry
    windows: tuple[Window, ...]
    bases: tuple[int, ...]
    slot_words: int
    row_tiles: int
    words: int

    @property
    def line_words(self) -> int:
        """Words of a line of the last map."""
        return self.slot_words // self.geometry.side

    def image_layout(self) -> ImageLayout:
        """The picture in memory: every window lies inside."""
        geometry, window = self.geometry, self.windows[0]
        border = geometry.halos[0]
        (height, width), pitch = geometry.image_size, geometry.pitches[0]
        lines = (geometry.grid[0] - 1) * pitch + window.lines
        line_bytes = (geometry.grid[1] - 1) * pitch * window.pixel_bytes + window.strip_start(window.strips - 1) + window.line_bytes
        return ImageLayout(
            height=height, width=width, channels=geometry.convolutions[0].inputs, top=border, left=border,
            bottom=max(0, lines - border - height), right=max(0, ceil_div(line_bytes, window.pixel_bytes) - border - width),
            pixel_bytes=window.pixel_bytes,
        )  # fmt: skip


def _plan(geometry: StemGeometry, picture: Window, row_tiles: int) -> StemPlan:
    """Maps alternate between the two ends of the space behind the row tiles that are done, the last but one at the far end."""
    pe_depth, count = picture.pe_depth, len(geometry.convolutions)
    windows = (picture, *(map_window(geometry, stage, pe_depth) for stage in range(1, count)))
    slot = geometry.side * ceil_div(geometry.side * geometry.convolutions[-1].outputs, pe_depth)
    sizes = [*(window.words for window in windows), slot]
    start = (row_tiles - 1) * slot
    end = start + max(sizes[stage] + sizes[stage + 1] for stage in range(count))
    bases = tuple(start if (count - stage) % 2 == 0 else end - sizes[stage] for stage in range(count))
    return StemPlan(geometry, windows, bases, slot, row_tiles, end)


def least_plan(geometry: StemGeometry, pe_depth: int) -> StemPlan:
    """The plan with the fewest words of activation bank."""
    return min((_plan(geometry, picture, 1) for picture in picture_windows(geometry, pe_depth)), key=lambda plan: plan.words)


def most_k_words(plan: StemPlan) -> int:
    """Words of the longest dot product of a stem's convolutions."""
    return max(window.most_k_words for window in plan.windows)


def choose_plan(geometry: StemGeometry, dim: int, row_tiles: int, config: AcceleratorConfig) -> StemPlan:
    """The plan with the fewest predicted cycles that fits a machine; of those, the one that embeds most row tiles at once.

    Args:
        geometry: of the stem.
        dim: channels of the residual stream.
        row_tiles: of the network.
        config: a machine of at least the sizes of `least_plan`.
    """

    def cost(plan: StemPlan) -> tuple[int, int]:
        picture = plan.windows[0]
        stem = picture.feed_cycles(config.cols) + picture.load_cycles(geometry.grid[1], config)
        k_words, column_tiles = plan.slot_words, ceil_div(dim, config.cols)
        stream = config.weight_port_bytes(k_words, column_tiles) // config.axi_bytes
        tile = max(config.cols, k_words) * column_tiles
        cycles = row_tiles * stem + sum(max(stream, count * tile) for count in chunks(row_tiles, plan.row_tiles))
        return cycles, -plan.row_tiles

    pictures = list(picture_windows(geometry, config.pe_depth))
    plans = [_plan(geometry, picture, tiles) for picture in pictures for tiles in range(1, row_tiles + 1)]
    fitting = [p for p in plans if p.words <= config.activation_words and most_k_words(p) <= config.weight_words]
    return min(fitting, key=cost)


def chunks(total: int, most: int) -> Sequence[int]:
    """``total`` things in as few parts of at most ``most`` as there can be, as equal as they can be."""
    parts = ceil_div(total, most)
    return [total // parts + (part < total % parts) for part in range(parts)]
