"""The network as data: float graph, integer graph, paths."""
