"""Commands tell of errors in one line."""

import pytest

from hw.errors import InputError, MachineError, command


def raising(error, *failures):
    @command(*failures)
    def main(arguments=None):
        if error is not None:
            raise error
        return len(arguments or ())

    return main


@pytest.mark.parametrize(
    ("error", "failures", "code"),
    [
        (InputError("rows must be 4"), (), 2),
        (InputError("rows must be 4"), (ValueError,), 2),  # whatever it is besides
        (MachineError("rows must be 4"), (RuntimeError, OSError), 1),
    ],
)
def test_an_error_is_one_line_and_a_code(error, failures, code, capsys):
    assert raising(error, *failures)([]) == code
    assert capsys.readouterr() == ("", "error: rows must be 4\n")


def test_other_errors_and_results_pass():
    with pytest.raises(ValueError, match="a bug"):
        raising(ValueError("a bug"), RuntimeError)()
    assert raising(None)(["a", "b"]) == 2 and raising(None)() == 0
