"""What stands around the machine on a board without processors: a UART to a host, and a memory on the chip."""
