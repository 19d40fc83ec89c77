"""AXI masters: burst reader, re-packing, the side loader of parameters, tables and rows, and the result writer."""
