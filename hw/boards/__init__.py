"""Boards: devices, capacities, vendor projects and builds with open tools."""

from hw.boards.board import Board
from hw.boards.ulx3s import ULX3S
from hw.boards.zcu102 import ZCU102
from hw.errors import InputError

BOARDS: dict[str, Board] = {board.name: board for board in (ZCU102, ULX3S)}
"""Boards by name."""


def find_board(name: str) -> Board:
    """A board by its name.

    Raises:
        InputError: for an unknown name; the message lists the known ones.
    """
    if name not in BOARDS:
        raise InputError(f"board must be one of {', '.join(BOARDS)}, not {name!r}")
    return BOARDS[name]
