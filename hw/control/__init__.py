"""The sequencer: registers, descriptor fetch and check, issue, draining, gate, counters and the loop over the images."""
