"""Reads switching activity as Verilator writes it: SAIF 2.0, "backward", a tree of instances with one line per bit."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from hw.errors import InputError

_LINE = re.compile(
    r"\((?P<name>\S+) \(T0 (?P<zero>\d+)\) \(T1 (?P<one>\d+)\) \(TZ \d+\) \(TX \d+\) \(TB \d+\) \(TC (?P<toggles>\d+)\)\)"
    r"|\(INSTANCE (?P<instance>\S+)|\((?P<block>NET|SAIFILE)\b|\((?P<header>[A-Z_]+) (?P<value>[^)]*)\)|(?P<end>\))|(?P<bad>\S+)"
)
_INDEX = re.compile(r"\\?\[(\d+)\\?\]$")
_COMMENT = re.compile(r"//[^\n]*")


@dataclass
class Activity:
    """A signal.

    Attributes:
        changes: Changes of value by bit; a signal of one bit has bit 0.
        high: Time spent at 1 by bit, in the file's time units.
    """

    changes: dict[int, int] = field(default_factory=dict)
    high: dict[int, int] = field(default_factory=dict)

    @property
    def toggles(self) -> int:
        """Changes of value of all bits together."""
        return sum(self.changes.values())


@dataclass
class Instance:
    """A module of the design.

    Attributes:
        name: Of the instance.
        signals: Activity by signal, without backslashes.
        children: Instances below.
    """

    name: str
    signals: dict[str, Activity] = field(default_factory=dict)
    children: list["Instance"] = field(default_factory=list)

    def child(self, *names: str) -> "Instance":
        """The instance at a path below.

        Raises:
            KeyError: When there is none; the message names the path.
        """
        here = self
        for name in names:
            below = [instance for instance in here.children if instance.name == name]
            if not below:
                raise KeyError("/".join(names))
            here = below[0]
        return here

    def walk(self, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], "Instance"]]:
        """This instance and all below it, each with the names that lead there from this one."""
        yield path, self
        for instance in self.children:
            yield from instance.walk((*path, instance.name))


@dataclass
class Saif:
    """A whole file.

    Attributes:
        duration: Simulated time, in units of `timescale`.
        timescale: Such as ``1ps``.
        top: The outermost instance; its children are what the file names.
    """

    duration: int
    timescale: str
    top: Instance


def parse_saif(text: str, *, source: str = "SAIF") -> Saif:
    """Read a file's text.

    Args:
        text: The file.
        source: What an error calls it.

    Raises:
        InputError: When the text is no such file, with the place where it ceases to be one.
    """
    headers: dict[str, str] = {}
    open_instances = [Instance("")]
    blocks: list[str] = []
    text = _COMMENT.sub("", text)
    for match in _LINE.finditer(text):
        kind = match.lastgroup
        if kind == "toggles":
            if not blocks or blocks[-1] != "NET":
                raise InputError(f"{source}: net {match['name']} must stand in a NET block")
            index = _INDEX.search(match["name"])
            name = match["name"][: index.start() if index else None].replace("\\", "")
            signal = open_instances[-1].signals.setdefault(name, Activity())
            bit = int(index[1]) if index else 0
            signal.changes[bit], signal.high[bit] = int(match["toggles"]), int(match["one"])
        elif kind == "instance":
            instance = Instance(match["instance"].replace("\\", ""))
            open_instances[-1].children.append(instance)
            open_instances.append(instance)
            blocks.append("INSTANCE")
        elif kind == "block":
            blocks.append(match["block"])
        elif kind == "value":
            headers[match["header"]] = match["value"].strip().strip('"')
        elif kind == "end" and blocks:
            if blocks.pop() == "INSTANCE":
                open_instances.pop()
        else:
            line = text.count("\n", 0, match.start()) + 1
            raise InputError(f"{source}: line {line} must be SAIF as Verilator writes it, not {match[0][:40]!r}")
    if blocks or "DURATION" not in headers:
        raise InputError(f"{source} must be a complete SAIF file with a DURATION")
    return Saif(int(headers["DURATION"]), headers.get("TIMESCALE", ""), open_instances[0])


def read_saif(path: Path) -> Saif:
    """Read a file.

    Raises:
        InputError: As `parse_saif`, and when there is no such file.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"SAIF file must be readable: {path}: {error.strerror}") from None
    return parse_saif(text, source=str(path))
