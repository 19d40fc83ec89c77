"""All proofs, in the order of the documentation."""

from importlib import import_module

from hw.errors import InputError
from hw.formal.proof import Proof

SUBJECTS = {
    "register_file": "AXI4-Lite slave",
    "read_master": "AXI4 read masters",
    "write_master": "AXI4 write master",
    "gemm_loops": "Loops of a GEMM",
    "issue_credits": "Credits of the issue",
    "norm_issue": "NORM beside GEMMs",
    "credits": "Credits of tables and parameters",
    "weights": "Weight ring",
    "collector": "Collector",
    "gearbox": "Gearbox and drain queue",
    "fifos": "FIFOs",
}
"""Modules of this package with a tuple ``PROOFS``, and their titles."""


def proofs_of(subject: str) -> tuple[Proof, ...]:
    """The proofs of one of `SUBJECTS`; imports the components that they are about."""
    return import_module(f"hw.formal.{subject}").PROOFS


def all_proofs() -> list[Proof]:
    """Every proof; names differ."""
    return [proof for subject in SUBJECTS for proof in proofs_of(subject)]


def find_proof(name: str) -> Proof:
    """The proof of a name.

    Raises:
        InputError: for an unknown name; the message lists the known ones.
    """
    proofs = {proof.name: proof for proof in all_proofs()}
    if name not in proofs:
        raise InputError(f"proof must be one of {', '.join(proofs)}, not {name!r}")
    return proofs[name]
