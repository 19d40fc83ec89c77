"""Tables: in Markdown for pages, as text for the terminal."""

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table


def markdown_table(head: Iterable[object], rows: Iterable[Iterable[object]]) -> str:
    """A Markdown table, with a newline at its end; a ``|`` within a cell is escaped."""
    cells = [[str(cell).replace("|", "\\|") for cell in row] for row in (head, *rows)]
    lines = [cells[0], ["---"] * len(cells[0]), *cells[1:]]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def text_table(*head: str, title: str | None = None, words: int = 1, unbroken: Collection[int] = ()) -> "Table":
    """A table for the terminal, without rows yet. What is too long for its column goes on in the next line.

    Args:
        head: titles of the columns; not shown where all are empty.
        title: of the table.
        words: columns at the left that hold words; the others hold figures, which stand at the right.
        unbroken: places of the columns whose lines are never wrapped.
    """
    from rich.table import Table

    table = Table(title=title, show_header=any(head))
    for place, column in enumerate(head):
        table.add_column(column, justify="left" if place < words else "right", no_wrap=place in unbroken, overflow="fold")
    return table


def terminal(*, stderr: bool = False, width: int | None = None) -> "Console":
    """The terminal; every text is shown as it is, for there are names of the user's in it.

    Args:
        stderr: whether it is reached by stderr.
        width: in characters; the terminal's own where None.
    """
    from rich.console import Console

    return Console(stderr=stderr, width=width, markup=False, emoji=False, highlight=False)
