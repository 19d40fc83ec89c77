"""Cycles and counters of an image without its RTL: equal to the RTL's, a hundred thousand times faster than its simulation.

The machine waits only at issue, and the memory is deterministic, so every event has a cycle that follows from earlier ones by
sums and maxima. Each unit (cpp/*.hpp, named as in hw/) extends sequences of such cycles as far as its inputs are known; queues
and credits appear as "entry i enters after entry i - depth has left". Only two things depend on what else happens at the time:
whose burst the memory takes next, and whether a table is still in use. When nothing more follows from what is known, the earliest
of those events happens (cpp/machine.hpp); whatever is still unknown is caused by one of them, so it comes later.
"""

from sim.cycle_model.prediction import Prediction, predict, predict_every_mask

__all__ = ["Prediction", "predict", "predict_every_mask"]
