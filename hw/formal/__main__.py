"""Prove properties of the machine's components: handshakes, credits, FIFOs.

    python -m hw.formal [NAME ...] [--list] [--mutants] [--json FILE] [--docs FILE] [--traces DIR] [--workers N]

Exit code 1 when a property does not hold, or a mutant is not noticed.
"""

import argparse
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from hw.errors import command
from hw.files import check_writable, make_directory, write_file, write_json

if TYPE_CHECKING:
    from hw.formal.proof import Mutant, Outcome, Proof


def parser() -> argparse.ArgumentParser:
    """The command line."""
    result = argparse.ArgumentParser(prog="python -m hw.formal", description=str(__doc__).splitlines()[0])
    result.add_argument("names", nargs="*", metavar="NAME", help="proofs to run (default: all)")
    result.add_argument("--list", action="store_true", help="list the proofs, run none")
    result.add_argument("--quick", action="store_true", help="leave out the slow ones")
    result.add_argument("--mutants", action="store_true", help="also put defects into the components, which the proofs must notice")
    result.add_argument("--json", type=Path, metavar="FILE", help="write the results to this file")
    result.add_argument("--docs", type=Path, metavar="FILE", help="write the table of proofs (docs/proofs.md) to this file")
    result.add_argument("--traces", type=Path, metavar="DIR", help="write counterexamples as NAME.vcd")
    result.add_argument("--workers", type=int, metavar="N", help="processes at a time (default: the machine's cores)")
    return result


def describe(proof: "Proof", mutant: "Mutant | None", outcome: "Outcome") -> str:
    """One line about a result."""
    if mutant is not None:
        found = f"noticed in cycle {outcome.depth}" if outcome.broken else "NOT NOTICED"
        return f"{proof.name}, mutant '{mutant.what}': {found} ({outcome.seconds:.1f} s)"
    if outcome.proven:
        method = f"{outcome.depth} cycles" if proof.bounded else f"induction, k = {outcome.depth}"
        return f"{proof.name}: proven, {len(outcome.properties)} properties, {method} ({outcome.seconds:.1f} s)"
    why = outcome.reason or f"cycle {outcome.depth}: " + "; ".join(outcome.broken)
    return f"{proof.name}: FAILED, {why} ({outcome.seconds:.1f} s)"


def run(arguments: argparse.Namespace) -> int:
    """Do what the command line asks; returns the exit code.

    Raises:
        InputError: for an unknown proof, or a place that cannot be written.
    """
    from hw.formal.catalogue import all_proofs, find_proof
    from hw.formal.document import generate_proofs_page
    from hw.formal.prover import run_proofs

    proofs = [find_proof(name) for name in dict.fromkeys(arguments.names)] or all_proofs()
    if arguments.quick:
        proofs = [proof for proof in proofs if not proof.slow]
    if arguments.list:
        for proof in proofs:
            print(f"{proof.name:28} {proof.component} ({proof.setting})")
        return 0
    check_writable(arguments.json, arguments.docs)
    if arguments.traces:
        make_directory(arguments.traces)
    total = len(proofs) + sum(len(proof.mutants) for proof in proofs) * arguments.mutants
    done = failed = 0

    def progress(proof: "Proof", mutant: "Mutant | None", outcome: "Outcome") -> None:
        nonlocal done, failed
        done += 1
        failed += not (outcome.proven if mutant is None else outcome.broken)
        print(f"[{done}/{total}] {describe(proof, mutant, outcome)}", flush=True)

    results = run_proofs(proofs, mutants=arguments.mutants, workers=arguments.workers, traces=arguments.traces, progress=progress)
    if arguments.json:
        content = {
            name: asdict(outcome) | {"mutants": {what: asdict(found) for what, found in caught.items()}}
            for name, (outcome, caught) in results.items()
        }
        write_json(arguments.json, content)
    if arguments.docs:
        write_file(arguments.docs, generate_proofs_page(results))
    print(f"{total - failed} of {total} as they should be")
    return 1 if failed else 0


@command()
def main(arguments: list[str] | None = None) -> int:
    """The command; returns the exit code."""
    return run(parser().parse_args(arguments))


if __name__ == "__main__":
    sys.exit(main())
