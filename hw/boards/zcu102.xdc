# The machine has no pins of the programmable logic: clock, reset, interrupt and memory all come from the processing system,
# whose IP constrains pl_clk0. What is left is about the bitstream.
set_property BITSTREAM.GENERAL.COMPRESS TRUE [current_design]
