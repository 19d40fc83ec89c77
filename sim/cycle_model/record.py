"""The result writer and the memory's write channel (hw/memory/result_writer.py)."""

from hw.config import AcceleratorConfig
from hw.isa import RECORD_HEAD_BYTES
from hw.memory.axi import BOUNDARY
from sim.cycle_model.memory import Bus
from sim.cycle_model.network import Network, Process


class RecordWriter:
    """Writes one record.

    Attributes:
        write: Cycle of the next write beat; None while none is known.
        beats: Written so far.
        done: Cycle of the record's end; None before.
    """

    def __init__(self, config: AcceleratorConfig, network: Network, bus: Bus) -> None:
        self._config, self._bus = config, bus
        self._network = network
        self._responses = network.times()
        self._sent = network.times()
        self._response = -1
        self.write: int | None = None
        self.beats = 0
        self.done: int | None = None

    def begin(self, start: int, classes: int) -> None:
        """``record_start`` is in cycle ``start``."""
        self._network.start(self._run(start + 1, classes))

    def accept(self, cycle: int) -> None:
        """The write beat that is due goes to the memory."""
        self._response = self._bus.write(cycle)
        self.beats += 1
        self.write = None
        self._sent.put(cycle)

    def _run(self, cycle: int, classes: int) -> Process:
        config = self._config
        beat_words, boundary = config.axi_bytes // 4, BOUNDARY // config.axi_bytes
        left = -(-(RECORD_HEAD_BYTES + 4 * classes) // config.axi_bytes)
        beat = bursts = 0
        responses: list[int] = []
        while left:
            outstanding = self._bus.timing.outstanding
            if bursts >= outstanding:
                cycle = max(cycle, responses[bursts - outstanding] + 1)
            size = min(config.burst_beats, left, boundary - beat % boundary)
            for _ in range(size):
                self.write = cycle = cycle + 1 + beat_words
                sent = len(self._sent)
                while len(self._sent) == sent:
                    yield self._sent
            responses.append(max(self._response, responses[-1] + 1 if responses else 0))
            cycle += 1
            beat, left, bursts = beat + size, left - size, bursts + 1
        self.done = max(cycle, responses[-1] + 1)
