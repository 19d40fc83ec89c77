"""Corrupted Programs on the RTL; benchmarks/machine/corrupted_programs.py runs ten thousand of them."""

from collections import Counter
from dataclasses import replace

import pytest

from hw.control.descriptor_check import known_opcodes
from hw.memory_timing import MemoryTiming
from hw.presets import find_preset
from sim.rtl.device import RtlDevice
from sim.stimulus.corruption import KINDS, START_CYCLES, Case, correct_programs, draw_case, fresh_results, run_cases

CONFIG = find_preset("nano")
TIMING = MemoryTiming()
CASES = 200


@pytest.fixture(scope="module")
def device():
    return RtlDevice(CONFIG, timeout_s=300)


def test_corrupted_programs_end_and_leave_nothing_behind(device):
    cases = [draw_case(number, CONFIG, TIMING) for number in range(CASES)]
    outcomes = run_cases(device, cases, TIMING)
    faults = [f"case {case.number} ({case.note}): {outcome.faults}" for case, outcome in zip(cases, outcomes, strict=True)]
    assert not any(outcome.faults for outcome in outcomes), "\n".join(
        fault for fault, outcome in zip(faults, outcomes, strict=True) if outcome.faults
    )
    names = Counter(outcome.name for outcome in outcomes)
    assert {case.kind for case in cases} == set(KINDS)
    assert {"done", "reset", "opcode", "field", "address", "buffer", "missing_end", "axi", "deadline", "start"} == set(names), names
    assert any(outcome.compared for outcome in outcomes)


def test_a_case_is_drawn_from_its_number_alone():
    first, again = (draw_case(7, CONFIG, TIMING) for _ in range(2))
    assert first.program == again.program and (first.note, first.deadline) == (again.note, again.deadline)


def test_what_must_not_be_is_seen(device, monkeypatch):
    """Each check finds its fault when the expectation, in place of the machine, is wrong."""
    good = correct_programs(CONFIG)[0]
    cycles = fresh_results(CONFIG, TIMING)[0].counters["cycles"]
    case = Case(number=0, kind="data", note="", base=0, after=0, program=good.program, images=good.images[:1], deadline=2 * cycles)
    (outcome,) = run_cases(device, [case], TIMING)
    assert (outcome.name, outcome.faults, outcome.compared) == ("done", (), True)

    late = replace(case, deadline=cycles // 2)
    (outcome,) = run_cases(device, [late], TIMING)
    assert outcome.name == "deadline" and outcome.over is not None
    assert 0 < outcome.over <= START_CYCLES
    monkeypatch.setattr("sim.stimulus.corruption.START_CYCLES", -1)
    (outcome,) = run_cases(device, [late], TIMING)
    assert outcome.name == "hang" and outcome.faults == ("no interrupt in time",)
    monkeypatch.undo()

    other = replace(good.expected, logits=good.expected.logits + 1)
    programs = (replace(good, expected=other), *correct_programs(CONFIG)[1:])
    monkeypatch.setattr("sim.stimulus.corruption.correct_programs", lambda config: programs)
    (outcome,) = run_cases(device, [case], TIMING)
    assert outcome.faults == ("wrong result after the reset, status 0x2",)


def test_well_formed_descriptors_are_of_every_operation():
    cases = [case for case in (draw_case(number, CONFIG, TIMING) for number in range(600)) if case.kind == "well-formed"]
    seen = {descriptor.opcode for case in cases for descriptor in case.program.descriptors()}
    assert seen == set(known_opcodes(CONFIG))
