"""The page of proven properties, from results."""

from collections.abc import Mapping

from hw.formal.catalogue import SUBJECTS, proofs_of
from hw.formal.proof import Outcome, Proof
from hw.tables import markdown_table

_INTRODUCTION = """\
# Proofs

What is proven of the machine's components, by `python -m hw.formal --mutants --docs docs/proofs.md`. The components are the
ones that are built, at the sizes that stand with each proof; their environment does anything that its side of the interface
allows.

*Induction, k*: the properties hold in every cycle, forever: in the first k cycles, and in any cycle if in the k before it
(temporal induction with Yosys' SAT solver). *n cycles*: bounded model checking, they hold in the first n cycles after reset,
whatever the inputs. *Invariants*: facts about registers inside, proven with the properties, that make the induction go through.
*Defects*: changes to the component's source for each of which a property must fail; the number is how many did.

Seconds are of one core, Yosys' preparation included.
"""


def _method(proof: Proof, outcome: Outcome) -> str:
    if not outcome.proven:
        return "**not proven**"
    return f"{outcome.depth} cycles" if proof.bounded else f"induction, k = {outcome.depth}"


def _merged(proofs: tuple[Proof, ...]) -> dict[str, list[Proof]]:
    """Proofs of one component that differ in size alone, by their texts' first part."""
    groups: dict[str, list[Proof]] = {}
    for proof in proofs:
        groups.setdefault(proof.family or proof.name, []).append(proof)
    return groups


def generate_proofs_page(results: Mapping[str, tuple[Outcome, Mapping[str, Outcome]]]) -> str:
    """The page as Markdown.

    Args:
        results: as `hw.formal.prover.run_proofs` returns them; proofs that are missing are left out.
    """
    parts = [_INTRODUCTION]
    for subject, title in SUBJECTS.items():
        proofs = tuple(proof for proof in proofs_of(subject) if proof.name in results)
        if not proofs:
            continue
        parts.append(f"## {title}\n")
        for family, group in _merged(proofs).items():
            parts.append(_family(family, group, results))
    return "\n".join(parts)


def _family(family: str, group: list[Proof], results: Mapping[str, tuple[Outcome, Mapping[str, Outcome]]]) -> str:
    texts = dict.fromkeys(text for proof in group for text in results[proof.name][0].properties)
    lines = [f"### {family}\n", f"`{group[0].component}`\n", *(f"- {text}" for text in texts), ""]
    rows = []
    for proof in group:
        outcome, caught = results[proof.name]
        noticed = sum(bool(found.broken) for found in caught.values())
        defects = f"{noticed} of {len(caught)}" if caught else ""
        cells = (f"`{proof.name}`", proof.setting, _method(proof, outcome), outcome.invariants, f"{outcome.seconds:.1f}", defects)
        rows.append(cells)
    lines.append(markdown_table(("proof", "setting", "method", "invariants", "seconds", "defects"), rows).rstrip())
    found = [(what, result) for proof in group for what, result in results[proof.name][1].items()]
    if found:
        lines += ["", "Defects noticed: " + "; ".join(f"{what} (cycle {result.depth})" for what, result in found) + "."]
    return "\n".join([*lines, ""])
