"""Stages are shown where a command asks for it: on a terminal while they run, elsewhere when they take long."""

import sys
import time

import pytest

from hw import progress as shown
from hw.progress import progress, stage


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(shown, "PATIENCE_S", 0.02)


def run_stages():
    with stage("a quick one"):
        pass
    with stage("[b] slow/one") as rename:
        rename("slow one, half done")
        time.sleep(0.2)


def test_without_a_terminal_long_stages_are_told(impatient, capsys):
    with progress():
        run_stages()
    assert capsys.readouterr() == ("", "[b] slow/one ...\n")


def test_nothing_is_shown_unless_a_command_asks(impatient, capsys):
    run_stages()
    with progress():
        pass
    run_stages()
    assert capsys.readouterr() == ("", "")


def test_an_error_ends_a_stage(impatient, capsys):
    with pytest.raises(ValueError), progress(), stage("never told"):
        raise ValueError
    time.sleep(0.05)
    assert capsys.readouterr().err == ""


def test_a_terminal_shows_what_runs(impatient, monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    with progress():
        run_stages()
    error = capsys.readouterr().err
    assert "slow one, half done" in error and "slow/one ...\n" not in error
