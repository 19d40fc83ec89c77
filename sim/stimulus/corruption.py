"""Corrupted Programs: what is drawn from a case's number, how cases run on the machine's RTL, and what they must not do.

A case ends with done or an error code, and none of its images passes the deadline; it touches nothing outside the
windows that its registers give; and after a soft reset a correct Program gives the golden machine's records with every
counter as on a fresh machine.
"""

import json
import random
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache, reduce
from operator import or_
from pathlib import Path

import numpy as np

from hw import isa
from hw.batch import Batch, decode_records
from hw.config import TABLE_ENTRIES, AcceleratorConfig, ceil_div
from hw.control.descriptor_check import known_opcodes
from hw.device import RunResult, mismatches
from hw.golden import GoldenDevice
from hw.host import Status
from hw.isa import (
    COUNTERS,
    DESCRIPTOR_BYTES,
    DESCRIPTOR_FIELDS,
    FLAG_EXP,
    FLAG_PER_COLUMN,
    REGISTERS,
    Descriptor,
    Opcode,
    Operation,
    Post,
    Target,
)
from hw.memory_timing import MemoryTiming
from hw.numerics import EXP_WIDTH, SHIFT_WIDTH
from hw.program import Program
from hw.program_image import unpack_parameters
from sim.rtl.device import RtlDevice, memory_image
from sim.stimulus.workload import prepare

NETWORKS = (
    "vit:dim=8,depth=1,heads=2,tokens=5,classes=3",
    "vit:dim=12,depth=1,heads=3,tokens=4,classes=7,patch=2,channels=3,mlp_ratio=2",
)
"""Networks of a few thousand cycles; to them comes a gated pair of `GATED`."""
GATED = "vit:dim=8,depth=2,heads=1,tokens=4,classes=4,mlp_ratio=1"
START_CYCLES = 16
"""Most cycles from the host's write of start to the first image's start."""
MOST_BIAS = 1 << 25
"""Biases up to this cannot leave the range of `hw.numerics.requantize`."""


@dataclass(frozen=True)
class Case:
    """One corrupted run.

    Attributes:
        number: Seed of everything about it.
        kind: Name in `KINDS`.
        note: What was changed, for people.
        base: Index of the correct Program that it was made of.
        after: Index of the correct Program that runs after it.
        program: What the machine is given.
        images: Of the batch.
        registers: (name, mask): bits of a register that are flipped; an address counts as one register.
        settings: (name, value): registers that are set.
        deadline: Most cycles of an image.
        reset_after: Cycles after which the host resets the machine, or None: it waits for the interrupt.
        read_fault, write_fault: Number of the read beat or write response from which on the memory answers SLVERR; 0: never.
    """

    number: int
    kind: str
    note: str
    base: int
    after: int
    program: Program
    images: np.ndarray
    registers: tuple[tuple[str, int], ...] = ()
    settings: tuple[tuple[str, int], ...] = ()
    deadline: int = 0
    reset_after: int | None = None
    read_fault: int = 0
    write_fault: int = 0


@dataclass(frozen=True)
class Outcome:
    """What became of a case.

    Attributes:
        name: ``done``, the error's name in lower case, ``reset``, or ``hang``: no interrupt in time.
        latency: Cycles from the start to the interrupt, for the host.
        over: Cycles from the deadline of the first image, counted from the host's start, to its report; None for another outcome.
        compared: Whether the golden machine answered for its results.
        faults: What must not be; empty if all is well.
    """

    name: str
    latency: int
    over: int | None
    compared: bool
    faults: tuple[str, ...]


@dataclass(frozen=True)
class Correct:
    """A correct Program, and what its images give."""

    program: Program
    images: np.ndarray
    expected: RunResult


@cache
def correct_programs(config: AcceleratorConfig) -> tuple[Correct, ...]:
    """The Programs that cases are made of and run between."""
    workloads = [prepare(name, config, images=2) for name in NETWORKS]
    pairs = [(workload.program, workload.images) for workload in workloads] + [_gated_pair(config)]
    return tuple(Correct(program, images, GoldenDevice().run(program, images)) for program, images in pairs)


def _gated_pair(config: AcceleratorConfig) -> tuple[Program, np.ndarray]:
    """A low-effort network, a gate and a high-effort network; two images, of which one leaves at the gate."""
    import torch

    from sw.compiler.programs import compile_pair
    from sw.data.pixels import to_input, to_pixels
    from sw.graph.path import Path
    from sw.networks.network import RANDOM, build_network, parse_network
    from sw.quantization.quantize import quantize

    spec = parse_network(GATED)
    pixels = np.random.default_rng(0).integers(0, 256, (64, *spec.image_size, spec.channels), dtype=np.uint8)
    with torch.no_grad():
        low, high = (quantize(build_network(GATED, RANDOM, seed), to_input(pixels)) for seed in (1, 2))
    program = compile_pair(low, high, config, threshold=0, low_path=Path.keeping([1], low.depth))
    images = to_pixels(pixels[:8])
    entropy = GoldenDevice().run(program, images, threshold=0).gate_entropy
    order = np.argsort(entropy)
    return replace(program, threshold=int(entropy[order[0]])), images[order[[-1, 0]]]


@cache
def fresh_results(config: AcceleratorConfig, timing: MemoryTiming) -> tuple[RunResult, ...]:
    """What the first image of each correct Program gives on a machine that has done nothing before."""
    device = RtlDevice(config)
    return tuple(device.run(good.program, good.images[:1], memory_timing=timing) for good in correct_programs(config))


# What each kind of corruption changes: attributes of a `Case`.
Changes = dict[str, object]


def _head(program: Program) -> bytearray:
    return bytearray(program.memory[: program.descriptor_count * DESCRIPTOR_BYTES])


def _with_head(program: Program, head: bytes | bytearray, count: int | None = None) -> Program:
    memory = bytes(head) + program.memory[len(head) :]
    return replace(program, memory=memory, descriptor_count=program.descriptor_count if count is None else count)


def _flip_descriptor_bits(rng: random.Random, program: Program) -> Changes:
    head = _head(program)
    bits = [rng.randrange(8 * len(head)) for _ in range(rng.choice([1, 1, 1, 2, 3, 5, 10, 100]))]
    for bit in bits:
        head[bit // 8] ^= 1 << bit % 8
    return {"program": _with_head(program, head), "note": f"head bits {bits[:10]}"}


def _extreme(rng: random.Random, program: Program, value: int, size: int) -> int:
    """A value that somebody may have forgotten, of ``size`` bytes."""
    limits = [number for number in vars(program.config).values() if isinstance(number, int)]
    most = (1 << 8 * size) - 1
    beat = program.config.axi_bytes
    drawn = rng.choice(
        [
            0, 1, 2, most, most - 1, most >> 1, (most >> 1) + 1, value - 1, value + 1, 2 * value, value // 2, value ^ 1,
            value + beat, value + beat // 2, len(program.memory) - rng.choice([0, 1, beat, 256]), rng.choice(limits),
            rng.choice(limits) + 1, rng.choice(limits) - 1, rng.randrange(17), rng.randint(0, most), 1 << rng.randrange(8 * size),
        ]
    )  # fmt: skip
    return drawn & most


def _set_fields(rng: random.Random, program: Program) -> Changes:
    """Fields of one operation become extreme, or those of another descriptor of the same operation."""
    head, descriptors, notes = _head(program), program.descriptors(), []
    for _ in range(rng.choice([1, 1, 1, 2, 2, 3, 6])):
        index = rng.randrange(len(descriptors))
        fields = DESCRIPTOR_FIELDS[descriptors[index].opcode]
        place = rng.randrange(len(fields))
        name, size, _ = fields[place]
        offset = index * DESCRIPTOR_BYTES + sum(size for _, size, _ in fields[:place])
        old = int.from_bytes(head[offset : offset + size], "little")
        twin = rng.choice([other for other in descriptors if other.opcode == descriptors[index].opcode])
        new = int(getattr(twin, name, 0)) if rng.random() < 0.2 else _extreme(rng, program, old, size)
        head[offset : offset + size] = new.to_bytes(size, "little")
        notes.append(f"{index} {descriptors[index].opcode.name}.{name} {old} -> {new}")
    return {"program": _with_head(program, head), "note": "; ".join(notes)}


def _rearrange(rng: random.Random, program: Program) -> Changes:
    """Descriptors are swapped, doubled, deleted, inserted or cut off."""
    head, count = _head(program), program.descriptor_count
    rows = [bytes(head[start : start + DESCRIPTOR_BYTES]) for start in range(0, len(head), DESCRIPTOR_BYTES)]
    action, first, second = rng.choice(["swap", "copy", "delete", "insert", "truncate", "shuffle"]), *rng.choices(range(count), k=2)
    if action == "swap":
        rows[first], rows[second] = rows[second], rows[first]
    elif action == "copy":
        rows[second] = rows[first]
    elif action == "delete":
        del rows[first]
        rows.append(bytes(DESCRIPTOR_BYTES))
        count -= rng.randrange(2)
    elif action == "insert":
        rows.insert(second, rows[first])
        rows.pop()
    elif action == "truncate":
        count = first
    else:
        rng.shuffle(rows)
    return {"program": _with_head(program, b"".join(rows), count), "note": f"{action} {first} {second}"}


def _random_bytes(rng: random.Random, program: Program) -> Changes:
    head = _head(program)
    first = rng.randrange(len(head))
    size = min(rng.choice([1, 2, 4, 16, DESCRIPTOR_BYTES, len(head)]), len(head) - first)
    head[first : first + size] = rng.randbytes(size)
    return {"program": _with_head(program, head), "note": f"{size} random bytes from {first}"}


def _corrupt_data(rng: random.Random, program: Program) -> Changes:
    """Weights, parameters and tables; the descriptors stay."""
    start = program.descriptor_count * DESCRIPTOR_BYTES
    memory = bytearray(program.memory)
    first = rng.randrange(start, len(memory))
    size = min(rng.choice([1, 1, 8, 64, 256, len(memory)]), len(memory) - first)
    if rng.random() < 0.5:
        memory[first : first + size] = rng.randbytes(size)
        note = f"{size} random bytes from {first}"
    else:
        bits = [rng.randrange(8 * first, 8 * len(memory)) for _ in range(rng.choice([1, 2, 10, 100]))]
        for bit in bits:
            memory[bit // 8] ^= 1 << bit % 8
        note = f"data bits {bits[:10]}"
    return {"program": replace(program, memory=bytes(memory)), "note": note}


def _tiled(rng: random.Random, config: AcceleratorConfig) -> dict[str, int]:
    """Sizes of a GEMM or NORM that agree with each other."""
    k_elements = rng.randint(1, rng.choice([8, 8, 40, config.pe_depth * config.weight_words]))
    columns = rng.randint(1, rng.choice([4, 16, config.classes, 100]))
    tokens = rng.randint(1, rng.choice([1, config.rows, 2 * config.rows, config.max_tokens]))
    row_tiles, k_words, post = ceil_div(tokens, config.rows), ceil_div(k_elements, config.pe_depth), rng.choice(list(Post))
    segments = rng.choice([0, 0, rng.randint(1, k_words)]) if post != Post.KEY else 0
    return {
        "k_elements": k_elements, "channels": k_elements, "k_words": k_words, "segment_words": segments,
        "words": ceil_div(k_elements, config.pe_depth), "columns": columns, "column_tiles": ceil_div(columns, config.cols),
        "tokens": tokens, "row_tiles": row_tiles, "element": rng.randrange(config.pe_depth),
        "blank_rows": rng.getrandbits(config.rows) * rng.randrange(2) if post in (Post.REQUANT, Post.ACTIVATION) else 0,
        "resident": rng.randint(0, 4),
        "classes": rng.randint(1, config.classes), "shift": rng.randrange(64), "inverse_shift": rng.randrange(64),
        "post": post, "target": rng.choice(list(Target)), "operation": rng.choice(list(Operation)),
        "first_row": rng.randrange(config.rows), "first_row_tile": rng.randint(0, config.row_tiles - row_tiles),
        "encoder": rng.randrange(32),
    }  # fmt: skip


def _well_formed(rng: random.Random, program: Program) -> Changes:
    """Some descriptors become others that the machine may well accept, and must then carry out to some end."""
    config, descriptors, notes = program.config, program.descriptors(), []
    head = _head(program)
    for _ in range(rng.choice([1, 1, 2, 3, 10])):
        index = rng.randrange(len(descriptors))
        opcode = descriptors[index].opcode if rng.random() < 0.8 else rng.choice(known_opcodes(config))
        fields = dict(descriptors[index].fields) if opcode == descriptors[index].opcode else {}
        sizes, share = _tiled(rng, config), rng.choice([0.2, 1.0])
        agreeing = rng.random() < 0.5
        for name, size, _ in DESCRIPTOR_FIELDS[opcode][1:]:
            most = (1 << 8 * size) - 1
            if name in sizes:
                if agreeing or name not in fields or (name not in TILED and rng.random() < share):
                    fields[name] = sizes[name]
            elif name == "flags" and rng.random() < share:
                fields[name] = fields.get(name, 0) ^ 1 << rng.randrange(KNOWN_FLAGS.bit_length()) & KNOWN_FLAGS
            elif name not in fields or rng.random() < share / 2:
                beats = rng.randrange(len(program.memory) // config.axi_bytes)
                small = rng.randrange(rng.choice([2, 8, 64]))
                fields[name] = (beats * config.axi_bytes if size == 4 else max(small, int(name.startswith("segment")))) & most
        encoded = Descriptor(opcode, fields).encode()
        head[index * DESCRIPTOR_BYTES : (index + 1) * DESCRIPTOR_BYTES] = encoded
        notes.append(f"{index} {opcode.name} {fields}")
    return {"program": _with_head(program, head), "note": "; ".join(notes)}


TILED = ("k_elements", "k_words", "columns", "column_tiles", "tokens", "row_tiles", "channels", "words")
"""Fields that depend on each other."""
KNOWN_FLAGS = reduce(or_, (value for name, value in vars(isa).items() if name.startswith("FLAG_")))

SET_REGISTERS = (
    "descriptor_count",
    "program_bytes",
    "image_stride",
    "result_stride",
    "path_mask_low",
    "path_mask_high",
    "threshold",
)
ADDRESS_REGISTERS = ("program_base", "image_base", "result_base")


def _wrong_registers(rng: random.Random, program: Program) -> Changes:
    flips, values = [], []
    for _ in range(rng.choice([1, 1, 2])):
        name = rng.choice([*SET_REGISTERS, *ADDRESS_REGISTERS, "image_count"])
        if name == "image_count":
            values.append((name, rng.randrange(5)))
        elif name == "result_base":
            # Within its own page or outside the memory: other cases' Programs are not for writing.
            flips.append((name, 1 << rng.choice([*range(11), *range(27, 34)])))
        elif name in ADDRESS_REGISTERS:
            flips.append((name, 1 << rng.randrange(34)))
        elif rng.random() < 0.3:
            flips.append((name, 1 << rng.randrange(32)))
        else:
            value = {"descriptor_count": program.descriptor_count, "program_bytes": len(program.memory)}.get(
                name, program.image_stride
            )
            values.append((name, _extreme(rng, program, value, 4)))
    return {"registers": tuple(flips), "settings": tuple(values), "note": f"flipped {flips}, set {values}"}


def _memory_errors(rng: random.Random, program: Program) -> Changes:
    beats = len(program.memory) // program.config.axi_bytes
    read, write = (rng.randint(1, beats), 0) if rng.random() < 0.8 else (0, 1)
    return {"read_fault": read, "write_fault": write, "note": f"SLVERR from read beat {read}, response {write}"}


def _mixed(rng: random.Random, program: Program) -> Changes:
    """Two kinds one after the other."""
    first = rng.choice([_flip_descriptor_bits, _set_fields, _well_formed, _corrupt_data])(rng, program)
    second = rng.choice([_wrong_registers, _memory_errors, _corrupt_data])(rng, first.get("program", program))  # type: ignore[arg-type]
    return first | second | {"note": f"{first['note']}; {second['note']}"}


KINDS: dict[str, tuple[float, Callable[[random.Random, Program], Changes]]] = {
    "descriptor bits": (0.15, _flip_descriptor_bits),
    "fields": (0.2, _set_fields),
    "well-formed": (0.2, _well_formed),
    "order": (0.1, _rearrange),
    "bytes": (0.05, _random_bytes),
    "data": (0.08, _corrupt_data),
    "registers": (0.1, _wrong_registers),
    "memory errors": (0.05, _memory_errors),
    "mixed": (0.07, _mixed),
}
"""Share of the cases, and what it does."""


def draw_case(number: int, config: AcceleratorConfig, timing: MemoryTiming) -> Case:
    """Case ``number``: the same corruption for the same number and `hw.isa`; deadline and reset suit the memory's timing."""
    rng = random.Random(number)
    programs = correct_programs(config)
    kind = rng.choices(list(KINDS), [share for share, _ in KINDS.values()])[0]
    base = rng.randrange(len(programs))
    good, cycles = programs[base], fresh_results(config, timing)[base].counters["cycles"]
    changes = KINDS[kind][1](rng, good.program)
    deadline = int(cycles * (rng.random() if rng.random() < 0.1 else rng.uniform(1.1, 2))) + 1
    return Case(
        number=number, kind=kind, base=base, after=rng.randrange(len(programs)), deadline=deadline,
        images=good.images[: rng.choice([1, 1, 2])], reset_after=int(rng.random() * cycles) + 1 if rng.random() < 0.05 else None,
        **({"program": good.program} | changes),  # type: ignore[arg-type]
    )  # fmt: skip


def _flipped(registers: dict[str, int], case: Case) -> dict[str, int]:
    known = {name for name, access, _ in REGISTERS if access == "rw"}
    changed = dict(registers)
    for name, mask in case.registers:
        if name in known or f"{name}_low" in known:
            changed[name] ^= mask
    return changed | dict(case.settings)


def run_cases(device: RtlDevice, cases: Sequence[Case], timing: MemoryTiming) -> list[Outcome]:
    """Run cases, each with a correct Program after it, on one simulated machine.

    Raises:
        BuildError: When the simulation cannot be built.
        BenchFailure: When the machine breaks AXI's rules; the log that the message shows names the run.
    """
    config = device.config
    programs, fresh = correct_programs(config), fresh_results(config, timing)
    memory, runs, results = memory_image(), [], []
    for case in cases:
        after = programs[case.after]
        settings = Batch(program=case.program, images=case.images, deadline=case.deadline).place(memory)
        results.append(settings["result_base"])
        registers = _flipped(settings, case)
        faults = {"read_fault": case.read_fault, "write_fault": case.write_fault}
        limit = max(1, registers["image_count"]) * (case.deadline + 1) + START_CYCLES
        runs.append({"registers": registers, "limit": limit, "reset_after": case.reset_after, "trusted": False} | faults)
        registers = Batch(program=after.program, images=after.images[:1]).place(memory)
        limit = 2 * fresh[case.after].counters["cycles"]
        runs.append(
            {"registers": registers, "limit": limit, "reset_after": None, "trusted": True, "read_fault": 0, "write_fault": 0}
        )
        results.append(registers["result_base"])
    memory.align()
    with tempfile.TemporaryDirectory(prefix="pivot-corruption-") as name:
        directory = Path(name)
        (directory / "memory.bin").write_bytes(memory.data)
        (directory / "job.json").write_text(json.dumps({"runs": runs}), encoding="utf-8")
        device.simulate(directory, len(memory.data), timing, "sim.benches.bench_corruption")
        answers = json.loads((directory / "result.json").read_text(encoding="utf-8"))
        dump = (directory / "dump.bin").read_bytes()
    return [
        _judge(case, runs[2 * i], answers[2 * i : 2 * i + 2], [dump[address:] for address in results[2 * i : 2 * i + 2]], fresh)
        for i, case in enumerate(cases)
    ]


def _judge(case: Case, run: dict, answers: Sequence[dict], records: Sequence[bytes], fresh: Sequence[RunResult]) -> Outcome:
    """The outcome of a case and of the correct Program after it."""
    bad, good = answers
    error = Status.decode(bad["status"]).error
    name = "reset" if case.reset_after is not None else "hang" if not bad["interrupt"] else error.name.lower() if error else "done"
    faults = [f"{bad[f'outside_{access}s']} {access} bursts outside" for access in ("read", "write") if bad[f"outside_{access}s"]]
    if name == "hang":
        faults.append("no interrupt in time")
    if not bad["rest"]:
        faults.append("busy after a soft reset")
    compared = name == "done" and case.kind == "data" and _representable(case.program)
    if compared:
        golden = GoldenDevice().run(case.program, case.images)
        wrong = mismatches(golden, decode_records(case.program, records[0], len(case.images)))
        faults += [f"{wrong} images differ from the golden machine"] if wrong else []
    correct, reference = correct_programs(case.program.config)[case.after], fresh[case.after]
    result = decode_records(correct.program, records[1], good["images_done"])
    if Status.decode(good["status"]).error or not good["interrupt"] or mismatches(_first_image(correct.expected), result):
        faults.append(f"wrong result after the reset, status {good['status']:#x}")
    elif not np.array_equal(result.cycles, reference.cycles) or good["counters"] != dict(reference.counters):
        differ = [key for key, _ in COUNTERS if good["counters"][key] != reference.counters[key]]
        faults.append(f"after the reset another {', '.join(differ)}")
    if good["outside_reads"] or good["outside_writes"]:
        faults.append("the correct Program leaves its windows")
    over = bad["latency"] - case.deadline if name == "deadline" and not bad["images_done"] else None
    return Outcome(name, bad["latency"], over, compared, tuple(faults))


def _first_image(result: RunResult) -> RunResult:
    """The result of the first image alone."""
    arrays = {name: getattr(result, name)[:1] for name in ("logits", "exits", "entropy", "gate_entropy", "cycles")}
    return replace(result, **arrays)


def _representable(program: Program) -> bool:
    """Whether shifts, biases and exp tables are such as `hw.numerics` tells the results of."""
    memory = np.frombuffer(program.memory, np.uint8)
    for descriptor in program.descriptors():
        user = Opcode.SOFTMAX if program.config.softmax_pass else Opcode.GEMM
        exponential = user == Opcode.SOFTMAX or descriptor.flags & FLAG_EXP
        if descriptor.opcode == user and exponential and np.any(memory[descriptor.table :][:TABLE_ENTRIES] >> EXP_WIDTH):
            return False
        if descriptor.opcode != Opcode.GEMM:
            continue
        if descriptor.flags & FLAG_PER_COLUMN:
            bias, _, shift = unpack_parameters(memory[descriptor.parameters :], descriptor.columns)
            if np.any(np.abs(bias) > MOST_BIAS) or np.any(shift >> SHIFT_WIDTH):
                return False
    return True
