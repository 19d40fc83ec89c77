"""The machine's RTL under Verilator, as a device."""
