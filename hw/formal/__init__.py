"""Proofs of the machine's components: properties, induction, bounded model checking."""
