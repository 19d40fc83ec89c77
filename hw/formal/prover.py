"""Runs proofs with Yosys' SAT solver, each in a process of its own."""

import importlib.util
import os
import re
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import BrokenExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from hw.files import write_file
from hw.formal.proof import Mutant, Outcome, Proof

if TYPE_CHECKING:
    from hw.formal.harness import Harness

TIMEOUT = 900
"""Seconds that one call of the solver may take."""
SEARCH_CYCLES = 30
"""Cycles in which a counterexample is looked for when an induction fails."""
_PREPARE = (
    "hierarchy -top proof",
    "proc",
    "flatten",
    "opt -full",
    "memory",
    "async2sync",
    "chformal -lower",
    "opt -full",
    "clean",
)


def plant(mutant: Mutant) -> None:
    """Load a module with a defect in its source, in place of the true one; to be called before anything imports it.

    Raises:
        ValueError: when the source does not hold the mutant's text exactly once, or the module is loaded already.
    """
    if mutant.module in sys.modules:
        raise ValueError(f"{mutant.module} must not be loaded before its mutant")
    parent, _, name = mutant.module.rpartition(".")
    spec = importlib.util.find_spec(mutant.module)
    if spec is None or spec.origin is None:
        raise ValueError(f"{mutant.module} must be a module with a source")
    source = Path(spec.origin).read_text(encoding="utf-8")
    if source.count(mutant.old) != 1:
        raise ValueError(f"{mutant.module} must hold {mutant.old!r} once, not {source.count(mutant.old)} times")
    module = importlib.util.module_from_spec(spec)
    sys.modules[mutant.module] = module
    setattr(sys.modules[parent], name, module)
    exec(compile(source.replace(mutant.old, mutant.new), spec.origin, "exec"), module.__dict__)


def check(proof: Proof, *, trace: Path | None = None, search: int = 0) -> Outcome:
    """Run one proof in this process.

    Args:
        proof: what to prove.
        trace: file for the waveform (VCD) of a counterexample.
        search: where positive, do not prove: look for a counterexample to the properties in the first ``search`` cycles.

    Raises:
        SystemExit: when Yosys rejects the design: it ends the process.
    """
    from amaranth.back import rtlil

    from hw.formal.harness import Harness
    from hw.verilog import read_design, run_pass

    start = time.process_time()
    harness = Harness(strengthened=not search)
    proof.describe(harness)
    design = read_design([rtlil.convert(harness.m, name="proof", ports=[harness.clock, *harness.indicators], emit_src=False)])
    for command in _PREPARE:
        run_pass(design, command)
    verdict, text = _solve(design, harness, search or proof.depth, bounded=proof.bounded or bool(search), trace=trace)
    if verdict.reason and not proof.bounded:
        found, text = _solve(design, harness, SEARCH_CYCLES, bounded=True, trace=trace)
        if not found.proven and not found.reason:
            verdict = found
    broken = () if verdict.proven or verdict.reason else _broken(text, harness)
    seconds = round(time.process_time() - start, 1)
    return replace(
        verdict, seconds=seconds, broken=broken, properties=tuple(harness.properties), invariants=len(harness.invariants)
    )


def _solve(design, harness: "Harness", depth: int, *, bounded: bool, trace: Path | None) -> tuple[Outcome, str]:
    """One call of the solver: its verdict, and its log."""
    from hw.toolchain import require_pyosys
    from hw.verilog import yosys_directory

    shown = " ".join(f"-show {signal.name}" for signal in harness.indicators)
    method = "-tempinduct-baseonly" if bounded else "-tempinduct"
    with yosys_directory() as directory:
        log, waveform = directory / "log", directory / "trace.vcd"
        dump = f"-dump_vcd {waveform}" if trace else ""
        require_pyosys().Pass.call(
            design, f"tee -q -o {log} sat -prove-asserts -set-assumes {method} -maxsteps {depth} -timeout {TIMEOUT} {dump} {shown}"
        )
        text = log.read_text(encoding="utf-8")
        if trace and waveform.exists():
            write_file(trace, waveform.read_bytes())
    return _verdict(text, depth), text


def _verdict(text: str, limit: int) -> Outcome:
    """What the solver's log says, up to what only `check` knows."""
    depth = max(map(int, re.findall(r"\*\* Trying induction with length (\d+) \*\*", text)), default=0)
    if "Induction step proven: SUCCESS!" in text or "proved base case for" in text:
        return Outcome(True, depth)
    if "model found for base case: FAIL!" in text:
        return Outcome(False, depth)
    if "Reached maximum number of time steps" in text:
        return Outcome(False, depth, reason=f"no induction with k up to {limit}")
    return Outcome(False, depth, reason=f"no answer within {TIMEOUT} s")


def _broken(text: str, harness: "Harness") -> tuple[str, ...]:
    """Texts of what is 0 in the last cycle of the solver's model."""
    model = text.rpartition("Time Signal Name")[2]
    rows = re.findall(r"^ +(\d+) \\(property|invariant)_(\d+)_\d+ .*([01])\s*$", model, re.MULTILINE)
    end = max((int(cycle) for cycle, *_ in rows), default=0)
    texts = {"property": harness.properties, "invariant": harness.invariants}
    return tuple(dict.fromkeys(texts[kind][int(number)] for cycle, kind, number, bit in rows if int(cycle) == end and bit == "0"))


def run_proof(name: str, mutant: Mutant | None = None, trace: Path | None = None) -> Outcome:
    """`check` a proof of the catalogue; to be called in a fresh process.

    Args:
        name: of the proof.
        mutant: defect to look for instead of proving.
        trace: as for `check`.
    """
    if mutant is not None:
        plant(mutant)
    from hw.formal.catalogue import find_proof

    proof = find_proof(name)
    return check(proof, trace=trace, search=proof.search if mutant else 0)


def run_proofs(
    proofs: Sequence[Proof],
    *,
    mutants: bool = False,
    workers: int | None = None,
    traces: Path | None = None,
    progress: Callable[[Proof, Mutant | None, Outcome], None] = lambda proof, mutant, outcome: None,
) -> dict[str, tuple[Outcome, dict[str, Outcome]]]:
    """Run proofs of the catalogue side by side, each and each mutant in a process of its own, as Yosys keeps global state and
    ends the process when it fails.

    Args:
        proofs: what to prove.
        mutants: whether to look for a counterexample with each proof's mutants too.
        workers: processes at a time; the machine's cores where None.
        traces: directory for the waveforms of failing proofs, ``<name>.vcd``.
        progress: called as results come in.

    Returns:
        By proof, in the order of ``proofs``: its outcome, and those of its mutants by what they are.
    """
    from concurrent.futures import as_completed

    from hw.processes import worker_pool

    work: list[tuple[Proof, Mutant | None]] = [(proof, None) for proof in proofs]
    if mutants:
        work += [(proof, mutant) for proof in proofs for mutant in proof.mutants]
    work.sort(key=lambda item: not item[0].slow)  # the longest first, so that no process is left alone with it at the end
    outcomes: dict[str, Outcome] = {}
    caught: dict[str, dict[str, Outcome]] = {proof.name: {} for proof in proofs}
    count = min(workers or os.cpu_count() or 1, len(work))
    with worker_pool(count, tasks_per_worker=1) as pool:
        futures = {}
        for proof, mutant in work:
            trace = traces / f"{proof.name}.vcd" if traces and mutant is None else None
            futures[pool.submit(run_proof, proof.name, mutant, trace)] = proof, mutant
        for future in as_completed(futures):
            proof, mutant = futures[future]
            try:
                outcome = future.result()
            except BrokenExecutor:
                outcome = Outcome(False, 0, reason="the process died")
            if mutant is None:
                outcomes[proof.name] = outcome
            else:
                caught[proof.name][mutant.what] = outcome
            progress(proof, mutant, outcome)
    return {proof.name: (outcomes[proof.name], caught[proof.name]) for proof in proofs}
