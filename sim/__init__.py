"""The measurement: RTL simulation, cocotb benches, cycle model, energy and traces."""
