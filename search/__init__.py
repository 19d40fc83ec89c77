"""The decision: CKA, Path-Score, the two phases, the hardware space, the store and the report."""
