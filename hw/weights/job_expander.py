"""Works out what each weight port reads for a GEMM."""

from amaranth.hdl import Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from hw.config import AcceleratorConfig
from hw.memory.burst_reader import BEATS_WIDTH
from hw.weights.jobs import port_job, weight_job


class JobExpander(wiring.Component):
    """One weight job into one job per port and repeat, repeat by repeat, port by port; 2 cycles from a job to port 0's first, one
    more for each further one.

    Members:
        job: stream of `weight_job`; taken with the last one of the last port.
        ports: ``weight_ports`` streams of `port_job`.
    """

    def __init__(self, config: AcceleratorConfig):
        self._config = config
        super().__init__(
            {
                "job": In(stream.Signature(weight_job(config))),
                "ports": Out(stream.Signature(port_job(config))).array(config.weight_ports),
            }
        )

    @staticmethod
    def model(config: AcceleratorConfig, address: int, k_words: int, column_tiles: int) -> list[tuple[int, int, int]]:
        """(address, beats, last_bytes) of each port, the same in every repeat."""
        size = config.weight_port_bytes(k_words, column_tiles)
        exact = k_words * column_tiles * config.groups_per_port * config.columns_per_beat * config.pe_depth
        last_bytes = config.axi_bytes - (size - exact)
        return [(address + m * size, size // config.axi_bytes, last_bytes) for m in range(config.weight_ports)]

    def elaborate(self, platform) -> Module:
        config = self._config
        m = Module()
        address_bits = (config.axi_bytes - 1).bit_length()
        words = Signal(32)
        size = Signal(BEATS_WIDTH + address_bits)
        address = Signal(config.address_width)
        repeats_left = Signal(16)
        job = self.job.payload
        beats = (size + (config.axi_bytes - 1)) >> address_bits
        m.d.sync += [
            words.eq(job.k_words * job.column_tiles),
            size.eq(words * (config.groups_per_port * config.columns_per_beat * config.pe_depth)),
        ]
        with m.FSM():
            with m.State("WORDS"):
                m.d.sync += [address.eq(job.address), repeats_left.eq(job.repeats)]
                with m.If(self.job.valid):
                    m.next = "BYTES"
            with m.State("BYTES"):
                m.next = "PORT0"
            for index, port in enumerate(self.ports):
                out = port.payload
                m.d.comb += [
                    out.address.eq(address),
                    out.beats.eq(beats),
                    out.last_bytes.eq((size - 1)[:address_bits] + 1),
                    out.k_words.eq(job.k_words),
                    out.column_tiles.eq(job.column_tiles),
                ]
                with m.State(f"PORT{index}"):
                    m.d.comb += port.valid.eq(1)
                    with m.If(port.ready):
                        if index < config.weight_ports - 1:
                            m.d.sync += address.eq(address + (beats << address_bits))
                            m.next = f"PORT{index + 1}"
                        else:
                            m.d.sync += [address.eq(job.address), repeats_left.eq(repeats_left - 1)]
                            m.d.comb += self.job.ready.eq(repeats_left == 1)
                            m.next = "PORT0"
                            with m.If(self.job.ready):
                                m.next = "WORDS"
        return m
