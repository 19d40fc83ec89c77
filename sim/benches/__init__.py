"""The benches of ``pytest sim/``."""
