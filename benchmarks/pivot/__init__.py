"""PIVOT's claims: where the delay goes, Path-Score, gated pairs and their energy-delay product."""
