"""The one parser of ``field=value,field=value``."""

from collections.abc import Iterator, Mapping
from typing import TypeVar

from hw.errors import InputError

Number = TypeVar("Number", bound=float)

_NUMBERS: dict[type[float], str] = {int: "an integer", float: "a number"}


def parse_assignments(text: str, kinds: Mapping[str, type[Number]], where: str) -> Iterator[tuple[str, Number]]:
    """Fields and their values, in the text's order.

    Args:
        text: such as ``rows=7,cols=1``; may be empty.
        kinds: int or float by the name of a field.
        where: what takes the text, for messages.

    Raises:
        InputError: for an unknown field, a value that is no number of its kind, or a field that is given twice.
    """
    given: dict[str, Number] = {}
    for item in filter(None, text.split(",")):
        name, separator, value = (part.strip() for part in item.partition("="))
        if not separator or name not in kinds:
            raise InputError(f"{where} takes field=value with a field of {', '.join(kinds)}, not {item!r}")
        try:
            number = kinds[name](value)
        except ValueError:
            raise InputError(f"{where} {name} must be {_NUMBERS[kinds[name]]}, not {value!r}") from None
        if name in given:
            raise InputError(f"{where} {name} must be given once, not as {given[name]} and {number}")
        given[name] = number
        yield name, number
