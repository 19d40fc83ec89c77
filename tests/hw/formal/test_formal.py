import importlib.util
import json
import sys
from pathlib import Path

import pytest
from amaranth.hdl import Signal

from hw.errors import InputError
from hw.formal.__main__ import main
from hw.formal.catalogue import all_proofs, find_proof
from hw.formal.document import generate_proofs_page
from hw.formal.harness import Harness
from hw.formal.proof import Mutant, Outcome, Proof
from hw.formal.prover import check, plant, run_proofs

PROOFS = all_proofs()
QUICK = [proof for proof in PROOFS if not proof.slow]


def counter(limit):
    """A counter that stops at 5, claimed to stay below a limit."""

    def describe(h: Harness) -> None:
        count = Signal(4)
        with h.m.If(count != 5):
            h.m.d.sync += count.eq(count + h.any_value(1, "step"))
        h.prove("the count stays below the limit", count < limit)
        h.invariant("the count stops at 5", count <= 5)

    return describe


def test_names_differ_and_settings_are_told():
    assert len({proof.name for proof in PROOFS}) == len(PROOFS)
    assert all(proof.setting and proof.depth > 0 for proof in PROOFS)
    kinds = {proof.family or proof.name for proof in PROOFS}
    assert {proof.family or proof.name for proof in PROOFS if proof.mutants} == kinds  # every kind of proof can fail


def test_every_mutant_fits_the_source_that_it_is_put_into():
    for proof in PROOFS:
        for mutant in proof.mutants:
            source = Path(importlib.util.find_spec(mutant.module).origin).read_text()
            assert source.count(mutant.old) == 1, f"{proof.name}: {mutant.what}"


def test_induction_proves_and_finds_the_shortest_counterexample(tmp_path):
    assert check(Proof("c", "counter", "4 bits", counter(6), 2)).proven
    trace = tmp_path / "trace.vcd"
    failed = check(Proof("c", "counter", "4 bits", counter(5), 8), trace=trace)
    assert not failed.proven and failed.depth == 6 and failed.broken == ("the count stays below the limit",)
    assert trace.read_text().startswith("$")
    short = check(Proof("c", "counter", "4 bits", counter(5), 5, bounded=True))
    assert short.proven and short.depth == 5  # the count is 5 in cycle 6


def test_a_failed_induction_is_no_proof():
    def describe(h: Harness) -> None:
        count = Signal(4)
        with h.m.If(count != 5):
            h.m.d.sync += count.eq(count + h.any_value(1, "step"))
        h.prove("never 9", count != 9)  # which no invariant tells from 8

    outcome = check(Proof("c", "counter", "4 bits", describe, 4))
    assert not outcome.proven and "no induction" in outcome.reason and not outcome.broken


def test_a_mutant_must_fit_its_source(monkeypatch):
    with pytest.raises(ValueError, match="must not be loaded before"):
        plant(Mutant("", "hw.errors", "class", "klass"))
    monkeypatch.delitem(sys.modules, "hw.build.register_docs", raising=False)  # another test may have loaded it
    with pytest.raises(ValueError, match="once, not 0 times"):
        plant(Mutant("", "hw.build.register_docs", "no such text", ""))


@pytest.mark.parametrize("proof", QUICK, ids=lambda proof: proof.name)
def test_proof(proof):
    outcome = check(proof)
    assert outcome.proven, (outcome.broken, outcome.reason)


def test_mutants_are_noticed():
    """One defect of each kind of component; `python -m hw.formal --mutants` tries all."""
    names = ("read-arbiter", "table-credits-3", "sync-fifo-3", "parameter-placer-3x2", "drain-sequencer-4x4")
    found = run_proofs([find_proof(name) for name in names], mutants=True)
    assert {name for name, (outcome, _) in found.items() if outcome.proven} == set(names)
    missed = [(name, what) for name, (_, caught) in found.items() for what, outcome in caught.items() if not outcome.broken]
    assert not missed


@pytest.mark.slow
def test_all_proofs_and_mutants(tmp_path):
    assert main(["--mutants", "--json", str(tmp_path / "proofs.json")]) == 0
    assert len(json.loads((tmp_path / "proofs.json").read_text())) == len(PROOFS)


def test_command(capsys, tmp_path):
    assert main(["--list"]) == 0
    listed = capsys.readouterr().out
    assert all(proof.name in listed for proof in PROOFS)
    assert main(["no-such-proof"]) == 2
    assert "proof must be one of" in capsys.readouterr().err
    with pytest.raises(InputError):
        find_proof("no-such-proof")
    page = tmp_path / "proofs.md"
    assert main(["sync-fifo-1", "--docs", str(page), "--json", str(tmp_path / "proofs.json")]) == 0
    assert "sync-fifo-1" in page.read_text()
    assert json.loads((tmp_path / "proofs.json").read_text())["sync-fifo-1"]["proven"]


def test_the_page_shows_what_failed():
    page = generate_proofs_page({"sync-fifo-1": (Outcome(False, 3, 0.1, ("a",), ("a",), 0), {})})
    assert "**not proven**" in page


def test_the_page_is_of_these_proofs():
    text = (Path(__file__).parents[3] / "docs" / "proofs.md").read_text()
    assert [proof.name for proof in PROOFS if f"`{proof.name}`" not in text] == []
    assert "not proven" not in text
