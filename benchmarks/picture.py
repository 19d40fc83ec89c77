"""Pictures of docs/images."""

import io
from typing import Any

from benchmarks.result import DOCS
from hw.files import write_file


def save_picture(figure: Any, name: str, salt: str) -> None:
    """Write a matplotlib figure to ``docs/images/<name>.svg``: the same file from the same figures.

    Args:
        figure: what to write.
        name: stem of the file.
        salt: of the identifiers in the file.
    """
    from matplotlib import pyplot

    content = io.BytesIO()
    with pyplot.rc_context({"svg.hashsalt": salt}):
        figure.savefig(content, format="svg", metadata={"Date": None})
    pyplot.close(figure)
    write_file(DOCS / "images" / f"{name}.svg", content.getvalue())
