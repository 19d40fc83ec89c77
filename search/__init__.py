"""The decision: CKA, Path-Score, the two phases, the store and the report."""
