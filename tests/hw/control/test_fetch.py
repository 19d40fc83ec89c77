import pytest

from hw import isa
from hw.config import AcceleratorConfig
from hw.control.fetch import Fetch
from hw.isa import Descriptor, Error, Opcode, Post
from hw.memory.jobs import JobKind
from tests.hw.simulation import cached, simulate


def config(axi_bytes, **fields):
    return AcceleratorConfig(
        rows=2, cols=2, pe_depth=2, activation_words=64, residual_words=32, weight_words=16, kv_words=24,
        parameter_tiles=2, row_tiles=4, classes=10, axi_bytes=axi_bytes, queue_depth=2, **fields,
    )  # fmt: skip


BASE, IMAGE = 0x4000, 0x9000


def gemm(**changes):
    fields = dict(
        weights=512, parameters=1024, table=1536, source_stride=1, stride=1, k_words=2, k_elements=4, columns=4,
        column_tiles=2, row_tiles=1, tokens=2,
    )  # fmt: skip
    return Descriptor(Opcode.GEMM, {**fields, **changes})


END = Descriptor(Opcode.END, {"classes": 1})
GATE = Descriptor(Opcode.GATE, {"classes": 2})


def run(descriptors, axi_bytes=16, masks=(0, 0), cycles=400, proceed_at=None, accept=True, **fields):
    """Events of a run: jobs and entries in the order of their acceptance, pulse counts, error."""
    dut = cached(Fetch, config(axi_bytes, **fields))
    program = b"".join(d if isinstance(d, bytes) else d.encode() for d in descriptors)
    beats = [int.from_bytes(program[i : i + axi_bytes], "little") for i in range(0, len(program), axi_bytes)]
    log = {"weights": [], "side": [], "entries": [], "skipped": 0, "executed": 0, "error": None, "last_entry": 0}

    async def testbench(ctx):
        settings = dut.settings
        for name, value in dict(program_base=BASE, program_bytes=4096, descriptor_count=len(descriptors), image_stride=100,
                                path_mask_low=masks[0], path_mask_high=masks[1]).items():  # fmt: skip
            ctx.set(settings[name], value)
        ctx.set(dut.image_address, IMAGE)
        ctx.set(dut.start, 1)
        ctx.set(dut.descriptors.command.ready, 1)
        await ctx.tick()
        ctx.set(dut.start, 0)
        command = ctx.get(dut.descriptors.command.payload)
        assert ctx.get(dut.descriptors.command.valid)
        assert (command.address, command.beats) == (BASE, len(beats))
        for stream in (dut.weight_job, dut.side_job, dut.entries):
            ctx.set(stream.ready, accept)
        position = 0
        for cycle in range(cycles):
            valid = position < len(beats) and cycle % 3 != 0
            ctx.set(dut.descriptors.beats.valid, valid)
            ctx.set(dut.descriptors.beats.payload.data, beats[min(position, len(beats) - 1)])
            ctx.set(dut.proceed, cycle == proceed_at)
            position += valid and ctx.get(dut.descriptors.beats.ready)
            for name, stream in (("weights", dut.weight_job), ("side", dut.side_job), ("entries", dut.entries)):
                if ctx.get(stream.valid) and ctx.get(stream.ready):
                    log[name].append(ctx.get(stream.payload))
                    if name == "entries":
                        log["last_entry"] = cycle
            log["skipped"] += ctx.get(dut.events.descriptors_skipped)
            log["executed"] += ctx.get(dut.events.descriptors)
            await ctx.tick()
        log["error"] = (ctx.get(dut.error.code), ctx.get(dut.error.index))

    simulate(dut, testbench)
    return log


def test_a_softmax_takes_the_exp_table_where_exp_units_are_limited():
    softmax = Descriptor(Opcode.SOFTMAX, dict(table=512, keys=3, row_tiles=1, tokens=2))
    context = gemm(flags=isa.FLAG_EXP | isa.FLAG_KV, post=Post.REQUANT, table=0)
    log = run([softmax, context, END], exp_units=1)
    assert [(job.kind, job.address, job.exponential) for job in log["side"]] == [(JobKind.TABLE, BASE + 512, 1)]
    assert log["executed"] == len(log["entries"]) == 3 and log["error"] == (0, 0)


@pytest.mark.parametrize("axi_bytes", [8, 16, 32, 64])
def test_jobs_of_every_operation(axi_bytes):
    load = Descriptor(
        Opcode.LOAD,
        dict(
            flags=isa.FLAG_IMAGE, address=7, stride=1, segment_bytes=3, segments=1, tokens_inner=2, tokens_outer=1, inner_stride=9
        ),
    )
    flags = isa.FLAG_PER_COLUMN
    program = [load, gemm(flags=flags, post=Post.ACTIVATION), gemm(flags=isa.FLAG_KV | isa.FLAG_EXP), END, gemm()]
    log = run(program, axi_bytes)
    assert log["error"] == (0, 0)
    assert log["executed"] == 4
    assert [(entry.index, entry.descriptor) for entry in log["entries"]] == [
        (i, int.from_bytes(program[i].encode(), "little")) for i in range(4)
    ]
    assert [(job.address, job.k_words, job.column_tiles) for job in log["weights"]] == [(BASE + 512, 2, 2)]
    kinds = [(int(job.kind), job.address, job.exponential) for job in log["side"]]
    assert kinds[0][:2] == (JobKind.ROWS, IMAGE + 7)
    assert kinds[1:] == [
        (JobKind.TABLE, BASE + 1536, 0),
        (JobKind.PARAMETERS, BASE + 1024, 0),
        (JobKind.TABLE, BASE + 1536, 1),
    ]
    rows = log["side"][0].rows
    assert (rows.stride, rows.segment_bytes, rows.tokens_inner, rows.inner_stride) == (1, 3, 2, 9)
    assert log["side"][0].limit == IMAGE + 100
    assert log["side"][2].column_tiles == 2


def test_token_major_streams_again_for_every_row_tile():
    flags = isa.FLAG_PER_COLUMN
    changes = [dict(resident=resident, row_tiles=3, tokens=5) for resident in (0, 1, 2)]
    log = run([*(gemm(flags=flags, **fields) for fields in changes), END])
    assert log["error"] == (0, 0)
    assert [job.repeats for job in log["weights"]] == [3, 1, 1]
    assert [(job.repeats, job.column_tiles) for job in log["side"]] == [(3, 2), (1, 2), (1, 2)]


def test_contiguous_rows():
    fields = dict(stride=1, segment_bytes=6, segments=1, segment_words=3, tokens_inner=2, tokens_outer=1, inner_stride=6)
    log = run([Descriptor(Opcode.LOAD, fields | dict(flags=flags)) for flags in (0, isa.FLAG_CONTIGUOUS)] + [END])
    assert log["error"] == (0, 0)
    assert [(job.contiguous, job.rows.segment_words) for job in log["side"]] == [(0, 3), (1, 3)]


def test_masks_drop_attentions():
    low, high = isa.FLAG_ATTENTION, isa.FLAG_ATTENTION | isa.FLAG_HIGH
    program = [gemm(flags=f, encoder=e) for f in (low, high) for e in (0, 31)] + [gemm(encoder=31), END]
    log = run(program, masks=(1, 1 << 31))
    assert [entry.index for entry in log["entries"]] == [0, 3, 4, 5]
    assert (log["skipped"], log["executed"]) == (2, 4)
    assert len(log["weights"]) == 3


def test_stops_at_a_gate_until_told():
    assert [e.index for e in run([gemm(), GATE, gemm(), END])["entries"]] == [0, 1]
    log = run([gemm(), GATE, gemm(), END], proceed_at=200)
    assert [e.index for e in log["entries"]] == [0, 1, 2, 3]
    assert log["error"] == (0, 0)


@pytest.mark.parametrize(
    ("bad", "code"),
    [
        (bytes(64), Error.OPCODE),
        (gemm(tokens=9), Error.FIELD),
        (gemm(weights=4096), Error.ADDRESS),
        (gemm(base=64), Error.BUFFER),
    ],
)
def test_errors_name_the_descriptor_and_stop(bad, code):
    log = run([gemm(), gemm(), bad, gemm(), END])
    assert log["error"] == (code, 2)
    assert [e.index for e in log["entries"]] == [0, 1]
    assert len(log["weights"]) == 2


def test_missing_end():
    log = run([gemm(), gemm()])
    assert log["error"] == (Error.MISSING_END, 1)


def test_a_dropped_descriptor_is_not_checked():
    assert run([gemm(flags=isa.FLAG_ATTENTION, tokens=9), END])["error"] == (0, 0)


def test_units_that_do_not_accept_hold_the_queue():
    log = run([gemm()] * 5 + [END], accept=False)
    assert log["entries"] == [] and log["executed"] == 0
