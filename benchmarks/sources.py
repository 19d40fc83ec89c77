"""What figures depend on, as files and folders from the checkout's root.

Left out is what carries figures and makes none: `hw.errors`, `hw.files`, `hw.tables`, `hw.processes`, `hw.progress`,
`hw.provenance`, `search.report`.
"""

NETWORKS = (
    "hw/assignments.py", "hw/config.py", "hw/numerics.py", "hw/row/table.py", "sw/assets", "sw/data", "sw/graph", "sw/importing",
    "sw/networks", "sw/quantization",
)  # fmt: skip
"""Networks in floating point and in integers, their weights and data."""
TRAINING = (*NETWORKS, "sw/training")

CONTRACT = (
    "hw/assignments.py", "hw/commands.py", "hw/config.py", "hw/isa.py", "hw/numerics.py", "hw/presets.py", "hw/signatures.py",
    "hw/timing.py",
)  # fmt: skip
"""Shapes, formats, descriptors and latencies."""
PROGRAMS = (
    *NETWORKS, *CONTRACT, "hw/control/gate.py", "hw/control/jobs.py", "hw/memory/axi.py", "hw/memory/burst_reader.py",
    "hw/memory/jobs.py", "hw/memory_timing.py", "hw/program.py", "hw/program_image.py", "hw/row/element_skew.py", "sw/compiler",
)  # fmt: skip
"""Compiled networks."""
GOLDEN = (*PROGRAMS, "hw/device.py", "hw/golden.py", "hw/interpreter.py", "hw/row")
"""Answers of the golden machine."""
CYCLES = (
    *PROGRAMS, "hw/build/c_header.py", "hw/build/register_docs.py", "hw/control/descriptor_check.py", "hw/control/norm_issue.py",
    "hw/control/registers.py", "hw/memory/gearbox.py", "hw/memory/segment_planner.py", "hw/memory/segment_reader.py",
    "hw/memory/side_loader.py", "hw/memory/word_placer.py", "hw/toolchain.py", "sim/cpp_build.py", "sim/cycle_model",
    "sim/program_counts.py",
)  # fmt: skip
"""Counters of the cycle model."""
ENERGY = (*CYCLES, "sim/energy/estimate.py", "sim/energy/table.py")
"""Estimates from the cycle model's counters."""

STATUS = ("benchmarks/freshness.py", "benchmarks/result.py", "benchmarks/sources.py", "benchmarks/status.py")
"""The command that tells how old results are."""

MACHINE = (
    *CONTRACT, "hw/accelerator.py", "hw/control", "hw/memory", "hw/row", "hw/toolchain.py", "hw/verilog.py", "hw/weights",
)  # fmt: skip
"""The accelerator's Verilog."""
SYNTHESIS = (*MACHINE, "hw/build/logic_levels.py", "hw/build/resources.py", "hw/build/synthesis.py")
"""Resources."""
RTL = (
    *PROGRAMS, *MACHINE, "hw/__init__.py", "hw/batch.py", "hw/device.py", "hw/host.py", "sim/cpp_build.py", "sim/rtl",
    "sim/timeline/probe.py", "sim/timeline/probe.sv",
)  # fmt: skip
"""Compiled networks on the simulated accelerator."""
WORKLOAD = ("sim/program_counts.py", "sim/stimulus/workload.py")
"""A network with images, ready for a machine."""
LV_VIT = (*TRAINING, "benchmarks/lv_vit", "benchmarks/pivot/lv_vit_weights.py")
"""The shipped LV-ViTs."""
