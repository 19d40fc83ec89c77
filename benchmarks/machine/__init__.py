"""The machine in RTL: exactness, cycles, shapes, resources, and what corrupted Programs do."""
