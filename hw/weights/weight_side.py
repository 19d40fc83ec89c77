"""The weight side: ports, columns' memories, and the credits between them."""

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import fifo, stream, wiring
from amaranth.lib.wiring import In, Out

from hw import commands, signatures
from hw.config import AcceleratorConfig
from hw.memory.axi import AXI4ReadSignature
from hw.row.element_skew import ElementSkew
from hw.timing import FEED_LATENCY, WEIGHT_READ_LATENCY
from hw.weights.column_memory import ColumnMemory
from hw.weights.job_expander import JobExpander
from hw.weights.jobs import weight_job
from hw.weights.weight_port import WeightPort


class WeightSide(wiring.Component):
    """Streams weights into the columns' rings and serves weight commands from the rings or the K and V buffer.

    Args:
        config: the machine.
        dsp48: the PE pairs are cascades of DSP48E2s (`ElementSkew`).

    Members:
        job: stream of `weight_job`; a queue of ``queue_depth``, then every port's own.
        axi: ``weight_ports`` AXI4 read masters.
        command: `commands.weight_command`, in the cycle of row 0's feed command.
        columns: `signatures.columns`: weight words out, words of K and V in.
        credits: `signatures.weight_credits`.
        abort, idle, error: as `BurstReader`, of all ports.
        busy: a job is in the queue or in work.
        beats_accepted: beats that the ports accept in this cycle.
    """

    def __init__(self, config: AcceleratorConfig, *, dsp48: bool = False):
        self._config = config
        self._dsp48 = dsp48
        ports = config.weight_ports
        super().__init__(
            {
                "job": In(stream.Signature(weight_job(config))),
                "axi": Out(AXI4ReadSignature(config.address_width, config.axi_bytes)).array(ports),
                "command": In(commands.weight_command(config)),
                "columns": Out(signatures.columns(config)),
                "credits": In(signatures.weight_credits(config)),
                "abort": In(1),
                "idle": Out(1),
                "error": Out(1),
                "busy": Out(1),
                "beats_accepted": Out(range(ports + 1)),
            }
        )

    def elaborate(self, platform) -> Module:
        config = self._config
        m = Module()
        m.submodules.queue = queue = fifo.SyncFIFO(width=weight_job(config).size, depth=config.queue_depth)
        m.submodules.expander = expander = JobExpander(config)
        m.d.comb += [
            queue.w_data.eq(self.job.payload),
            queue.w_en.eq(self.job.valid),
            self.job.ready.eq(queue.w_rdy),
            expander.job.payload.eq(queue.r_data),
            expander.job.valid.eq(queue.r_rdy),
            queue.r_en.eq(expander.job.ready),
        ]

        # The last pair reads the last word FEED_LATENCY - WEIGHT_READ_LATENCY + pairs - 1 cycles after its command.
        credits = self.credits
        released = credits.release.replicate(len(credits.release_words)) & credits.release_words
        for stage in range(FEED_LATENCY + config.pairs + 1):
            delayed = Signal(credits.release_words.shape(), name=f"released_{stage}")
            m.d.sync += delayed.eq(released)
            released = delayed

        ports = [WeightPort(config) for _ in range(config.weight_ports)]
        tiles = []
        for index, port in enumerate(ports):
            m.submodules[f"port_{index}"] = port
            wiring.connect(m, expander.ports[index], port.job)
            wiring.connect(m, port.axi, wiring.flipped(self.axi[index]))
            ready = Signal(range(config.weight_words + 1), name=f"tiles_{index}")
            tiles.append(ready)
            m.d.sync += ready.eq(ready + port.tile_done - credits.take)
            m.d.comb += [port.release.eq(released), port.abort.eq(self.abort)]
        m.d.comb += [
            credits.available.eq(Cat(ready != 0 for ready in tiles).all()),
            self.idle.eq(Cat(port.idle for port in ports).all()),
            self.error.eq(Cat(port.error for port in ports).any()),
            self.busy.eq(queue.r_rdy | Cat(port.busy for port in ports).any()),
            self.beats_accepted.eq(sum(port.beat_accepted for port in ports)),
        ]

        self._columns(m, [port.write for port in ports])
        return m

    def _columns(self, m: Module, writes: list) -> None:
        """The columns' memories; a pair's read one cycle after those of the pair before."""
        config, command = self._config, self.command
        for stage in range(FEED_LATENCY - WEIGHT_READ_LATENCY):
            delayed = Signal(command.shape(), name=f"command_{stage}")
            m.d.sync += delayed.eq(command)
            command = delayed
        collected = [self.columns.collected]
        for word in range(config.key_slot_words):
            slot = Signal(self.columns.collected.shape(), name=f"collected_{word}")
            m.d.sync += slot.eq(collected[-1])
            collected.append(slot)
        for column in range(config.cols):
            if column and column % 2 == 0:
                delayed = Signal(command.shape(), name=f"command_pair_{column // 2}")
                m.d.sync += delayed.eq(command)
                command = delayed
            memory, skew = ColumnMemory(config, column), ElementSkew(config, dsp48=self._dsp48)
            m.submodules[f"column_{column}"], m.submodules[f"skew_{column}"] = memory, skew
            m.d.comb += [
                memory.command.eq(command),
                memory.write.eq(writes[memory.port]),
                *(port.eq(slot) for port, slot in zip(memory.collected, collected[1:], strict=True)),
                skew.word.eq(memory.word),
                self.columns.weights[column].eq(skew.skewed),
            ]
