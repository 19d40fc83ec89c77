import pytest

from hw.assignments import parse_assignments
from hw.errors import InputError

KINDS = {"rows": int, "ratio": float}


def test_fields_come_in_the_texts_order():
    assert list(parse_assignments("ratio=0.5, rows = 7,", KINDS, "--set")) == [("ratio", 0.5), ("rows", 7)]
    assert list(parse_assignments("", KINDS, "--set")) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rows", "--set takes field=value with a field of rows, ratio, not 'rows'"),
        ("rows=1,colour=3", "--set takes field=value with a field of rows, ratio, not 'colour=3'"),
        ("rows=0.5", "--set rows must be an integer, not '0.5'"),
        ("rows=3,ratio=1,rows=4", "--set rows must be given once, not as 3 and 4"),
        ("ratio=half", "--set ratio must be a number, not 'half'"),
    ],
)
def test_what_is_no_assignment_is_refused(text, message):
    with pytest.raises(InputError) as caught:
        list(parse_assignments(text, KINDS, "--set"))
    assert str(caught.value) == message
