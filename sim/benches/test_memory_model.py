"""The simulated memory against its recurrence."""

from pathlib import Path

import pytest

from hw.errors import InputError
from hw.memory_timing import MemorySchedule, MemoryTiming
from sim.benches import bench_memory_model as bench
from sim.rtl.bench_runner import run_bench
from sim.rtl.fast_top import MEMORY_MODEL
from sim.rtl.verilate import BuildError, lint, verilate

PARAMETERS = {
    "PORTS": bench.PORTS, "BEAT_BYTES": bench.BEAT_BYTES, "ADDRESS_WIDTH": 16, "CAPACITY_BYTES": bench.MEMORY_BYTES,
}  # fmt: skip


@pytest.mark.parametrize(
    ("memory", "idle", "seed"),
    [
        ("latency=120,bytes_per_cycle=32,outstanding=4", 0.0, 1),
        ("latency=7,bytes_per_cycle=24,outstanding=4", 0.3, 2),
        ("latency=1,bytes_per_cycle=1024,outstanding=64", 0.0, 3),
        ("latency=3,bytes_per_cycle=3,outstanding=2", 0.1, 4),
        ("latency=40,bytes_per_cycle=13,outstanding=1", 0.5, 5),
    ],
)
def test_every_beat_comes_in_the_cycle_of_the_recurrence(memory, idle, seed, tmp_path):
    executable = verilate([MEMORY_MODEL], "memory_model", parameters=PARAMETERS)
    content = b"".join(bench.content(address) for address in range(0, bench.MEMORY_BYTES, bench.BEAT_BYTES))
    (tmp_path / "memory.bin").write_bytes(content)
    run_bench(
        executable,
        "memory_model",
        "sim.benches.bench_memory_model",
        plusargs=[f"+memory={tmp_path / 'memory.bin'}", *MemoryTiming.parse(memory).plusargs],
        env={"PIVOT_SEED": str(seed), "PIVOT_MEMORY": memory, "PIVOT_IDLE": str(idle)},
        timeout_s=120,
    )


def test_source_has_no_lint_warnings(tmp_path):
    """And a warning would be seen: a signal that nobody reads is one."""
    lint([MEMORY_MODEL], "memory_model")
    unclean = tmp_path / "memory_model.sv"
    unclean.write_bytes(MEMORY_MODEL.read_bytes().replace(b"endmodule", b"    logic nobody;\nendmodule"))
    with pytest.raises(BuildError, match="nobody"):
        lint([unclean], "memory_model")


def test_missing_memory_file_ends_the_simulation(tmp_path):
    from sim.rtl.bench_runner import BenchFailure

    executable = verilate([MEMORY_MODEL], "memory_model", parameters=PARAMETERS)
    with pytest.raises(BenchFailure, match="must name a readable file"):
        run_bench(
            executable, "memory_model", "sim.benches.bench_memory_model", plusargs=[f"+memory={Path('/nowhere/memory.bin')}"],
            env={"PIVOT_SEED": "1", "PIVOT_MEMORY": "", "PIVOT_IDLE": "0"}, timeout_s=60,
        )  # fmt: skip


def test_lone_burst_comes_at_the_latency_and_one_beat_a_cycle():
    schedule = MemorySchedule(MemoryTiming(latency=10, bytes_per_cycle=16, outstanding=1), 16)
    assert schedule.read(5, 3) == [15, 16, 17]


def test_bandwidth_is_shared():
    schedule = MemorySchedule(MemoryTiming(latency=10, bytes_per_cycle=8, outstanding=1), 16)
    assert schedule.read(0, 2) == [11, 13]
    assert schedule.read(0, 1) == [15], "The second port waits for the first one's bytes"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("latency=0", "latency must be an integer from 1"),
        ("outstanding=65", "outstanding must be an integer from 1 to 64, not 65"),
        ("bytes_per_cycle=x", "--memory bytes_per_cycle must be an integer, not 'x'"),
        ("speed=1", "--memory takes field=value with a field of latency, bytes_per_cycle, outstanding, not 'speed=1'"),
        ("latency", "not 'latency'"),
    ],
)
def test_memory_option_rejections(text, message):
    with pytest.raises(InputError, match=message):
        MemoryTiming.parse(text)
