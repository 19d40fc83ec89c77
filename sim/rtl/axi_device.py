"""The machine's RTL as a device behind cocotbext-axi: slow, and hostile on every channel."""

import json
import tempfile
from pathlib import Path

from hw.config import AcceleratorConfig
from hw.memory_timing import MemoryTiming
from sim.rtl.bench_runner import run_bench
from sim.rtl.device import RtlDevice, accelerator_verilog, job_files
from sim.rtl.fast_top import axi_top
from sim.rtl.verilate import verilate


class AxiDevice(RtlDevice):
    """Runs jobs as `RtlDevice` does, on cocotbext-axi's memories, which know no `MemoryTiming`.

    Args:
        config: The machine.
        idle: Share of the cycles in which each channel pauses, 0 to below 1.
        seed: Of the pauses.
        timeout_s: Wall-clock seconds after which a simulation is killed.

    Attributes:
        seen: After a run, for each job the bytes that crossed the ports, by the names of their counters.
    """

    def __init__(self, config: AcceleratorConfig, *, idle: float = 0.3, seed: int = 0, timeout_s: float = 600.0) -> None:
        super().__init__(config, timeout_s=timeout_s)
        self.idle = idle
        self.seed = seed
        self.seen: list[dict[str, int]] = []

    def simulate(self, directory: Path, size: int, timing: MemoryTiming, bench: str = "sim.benches.bench_axi") -> float:
        """As `RtlDevice.simulate`, but the memory keeps no timing, and nothing is said of building."""
        with tempfile.TemporaryDirectory(prefix="pivot-top-") as name:
            top = Path(name) / "axi_top.sv"
            top.write_text(axi_top(self.config), encoding="utf-8")
            executable = verilate([top, accelerator_verilog(self.config)], "axi_top")
        env = job_files(directory) | {"PIVOT_SEED": str(self.seed), "PIVOT_IDLE": str(self.idle)}
        run_bench(executable, "axi_top", bench, env=env, cwd=directory, timeout_s=self.timeout_s)
        self.seen = json.loads((directory / "seen.json").read_text(encoding="utf-8"))
        return 0.0
