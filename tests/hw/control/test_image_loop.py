import pytest

from hw.config import AcceleratorConfig
from hw.control.image_loop import ImageLoop, flush_cycles
from hw.isa import NO_GATE, Error
from tests.hw.simulation import cached, simulate

CONFIG = AcceleratorConfig(
    rows=2, cols=3, pe_depth=4, activation_words=64, residual_words=32, weight_words=11, kv_words=64,
    parameter_tiles=3, row_tiles=4, classes=10,
)  # fmt: skip
SETTINGS = dict(
    program_base=0x1000, program_bytes=640, descriptor_count=3, image_base=0x2000, image_stride=784, image_count=3,
    result_base=0x8000, result_stride=80, threshold=100, deadline=0,
)  # fmt: skip


class Bench:
    """Loop with units that answer after fixed delays; ``plan`` gives each image's gates as (entropy, at END)."""

    def __init__(self, plan, cycles=600, stimuli=None, always=None, **settings):
        self.plan, self.cycles, self.stimuli, self.always = plan, cycles, stimuli or {}, always or {}
        self.settings = {**SETTINGS, **settings}
        self.records, self.starts, self.events, self.busy_until = [], [], {}, 0
        self.dut = cached(ImageLoop, CONFIG)
        simulate(self.dut, self.testbench)

    async def testbench(self, ctx):
        dut = self.dut
        for name, value in self.settings.items():
            ctx.set(dut.batch.settings[name], value)
        inputs = {"start": dut.batch, "soft_reset": dut.batch, "clear_interrupt": dut.batch, "index": dut.image, "error": dut.image}
        pulses = ("start", "soft_reset", "clear_interrupt", "index", "axi_error", "address_error")
        ctx.set(dut.image.settled, 1)
        schedule, gates, shown = {}, [], {}
        for now in range(self.cycles):
            values = dict.fromkeys(pulses, 0) | {"idle": 1, "error": {"code": 0, "index": 0}}
            values |= {"start": now == 2} | self.always | self.stimuli.get(now, {})
            for name, value in values.items():
                if shown.get(name) != value:
                    ctx.set(getattr(inputs.get(name, dut), name), value)
            shown = values
            evaluated = schedule.get(now) == "gate" and bool(gates)
            ctx.set(dut.image.gate_done, evaluated)
            if evaluated:
                entropy, end = gates.pop(0)
                for name, value in (("entropy", entropy), ("gate_end", end), ("top1", 4), ("classes", 7)):
                    ctx.set(getattr(dut.image, name), value)
            ctx.set(dut.record.done, schedule.get(now) == "record")
            events = {"flush": dut.image, "proceed": dut.image, "exits_low": dut.events, "clear": dut.events, "unit_reset": dut}
            for name, part in events.items():
                if ctx.get(getattr(part, name)):
                    self.events.setdefault(name, []).append(now)
            if ctx.get(dut.image.start):
                self.starts.append((now, ctx.get(dut.image.address)))
                gates = list(self.plan[len(self.starts) - 1])
                schedule[now + 20] = "gate"
            if ctx.get(dut.image.proceed):
                schedule[now + 20] = "gate"
            if ctx.get(dut.record.start):
                self.records.append(ctx.get(dut.record.head))
                schedule[now + 9] = "record"
            if ctx.get(dut.batch.busy):
                self.busy_until = now
            if ctx.get(dut.batch.pending):
                self.events.setdefault("pending", []).append(now)
            await ctx.tick()
        self.done, self.images_done = ctx.get(dut.batch.done), ctx.get(dut.batch.images_done)
        self.error = (ctx.get(dut.batch.error.code), ctx.get(dut.batch.error.index))


def test_batch_with_exits_at_the_gate_and_at_the_end():
    bench = Bench([[(100, 0)], [(101, 0), (55, 1)], [(300, 1)]])
    assert [address for _, address in bench.starts] == [0x2000, 0x2000 + 784, 0x2000 + 2 * 784]
    fields = ("address", "exit", "entropy", "gate_entropy", "top1", "classes")
    assert [tuple(record[name] for name in fields) for record in bench.records] == [
        (0x8000, 0, 100, 100, 4, 7),
        (0x8050, 1, 55, 101, 4, 7),
        (0x80A0, 1, 300, NO_GATE, 4, 7),
    ]
    assert [record.cycles for record in bench.records] == [20, 40, 20]
    assert (bench.done, bench.images_done, bench.error) == (1, 3, (0, 0))
    assert len(bench.events["proceed"]) == len(bench.events["exits_low"]) == 1
    assert bench.events["pending"][0] == bench.busy_until + 1
    # Units are reset before every image, and after the last one.
    assert all(start - 1 in bench.events["unit_reset"] for start, _ in bench.starts)
    assert bench.busy_until < 160


@pytest.mark.parametrize(
    "bad",
    [
        dict(image_count=0), dict(descriptor_count=0), dict(program_bytes=0), dict(program_bytes=191), dict(program_base=0x1020),
        dict(image_base=8), dict(result_base=4), dict(result_stride=88), dict(descriptor_count=1 << 16, program_bytes=1 << 24),
    ],
)  # fmt: skip
def test_bad_registers_are_refused(bad):
    bench = Bench([[]] * 3, cycles=20, **bad)
    assert bench.error == (Error.START, 0)
    assert not bench.starts and not bench.done and bench.events["pending"]


@pytest.mark.parametrize(
    ("stimulus", "expected"),
    [
        ({"error": {"code": Error.BUFFER, "index": 17}}, (Error.BUFFER, 17)),
        ({"axi_error": 1, "index": 9}, (Error.AXI, 9)),
        ({"address_error": 1, "index": 8}, (Error.ADDRESS, 8)),
        ({"address_error": 1, "index": 8, "axi_error": 1, "error": {"code": Error.BUFFER, "index": 17}}, (Error.ADDRESS, 8)),
    ],
)
def test_errors_are_reported_at_once_and_end_busy_when_all_is_quiet(stimulus, expected):
    quiet = {now: {"idle": 0} for now in range(19, 200)}
    quiet[15] = stimulus
    bench = Bench([[(300, 1)]] * 3, stimuli=quiet)
    assert bench.error == expected
    assert not bench.records and not bench.done and bench.images_done == 0
    assert bench.events["flush"] == list(range(16, 201))
    assert bench.events["pending"][0] == 16 and bench.busy_until == 200
    assert bench.events["unit_reset"][-1] == 200


def test_an_error_waits_for_the_tokens_under_way():
    bench = Bench([[(300, 1)]] * 3, stimuli={15: {"axi_error": 1}})
    assert bench.busy_until - 15 >= flush_cycles(CONFIG)


@pytest.mark.parametrize("plan", [[[]], [[(300, 1)]]], ids=["at work", "after the record"])
def test_a_memory_that_never_answers_is_late_to_the_cycle_and_keeps_the_loop_busy(plan):
    bench = Bench(plan, always={"idle": 0}, deadline=50)
    assert bench.error == (Error.DEADLINE, 0) and bench.images_done == len(bench.records) == len(plan[0])
    assert bench.events["pending"][0] == bench.starts[0][0] + 1 + 50
    assert bench.busy_until == 599 and not bench.done


def test_a_record_longer_than_its_stride_is_not_written():
    assert Bench([[(300, 1)]] * 3, result_stride=64).done, "7 classes take 60 bytes"
    bench = Bench([[(101, 0), (300, 1)]] * 3, result_stride=48, stimuli={now: {"index": 6} for now in range(600)})
    assert bench.error == (Error.ADDRESS, 6)
    assert not bench.records and bench.images_done == 0


def test_deadline_is_per_image():
    assert Bench([[(300, 1)]] * 3, deadline=35, cycles=200).done
    least = next(deadline for deadline in range(25, 40) if Bench([[(300, 1)]] * 3, deadline=deadline, cycles=200).done)
    whole = Bench([[(300, 1)]] * 3, cycles=200)
    assert whole.starts[1][0] - whole.starts[0][0] == least + 1
    bench = Bench([[(300, 1)], [(101, 0), (300, 1)], []], deadline=35, cycles=200, always={"index": 6})
    assert bench.error == (Error.DEADLINE, 6)
    assert bench.images_done == 1


def test_soft_reset_while_busy_idle_and_after_an_error():
    bench = Bench([[(300, 1)]] * 3, stimuli={15: {"soft_reset": 1}})
    assert (bench.error, bench.done, bench.images_done) == ((0, 0), 0, 0)
    assert not bench.records and "pending" not in bench.events
    assert bench.busy_until < 15 + flush_cycles(CONFIG) + 5

    bench = Bench([[(300, 1)]] * 4, stimuli={15: {"axi_error": 1}, 190: {"soft_reset": 1}, 250: {"start": 1}})
    assert bench.done and bench.images_done == 3 and bench.error == (0, 0)
    assert bench.events["unit_reset"].count(190) == 1
    assert bench.starts[1][1] == 0x2000


def test_interrupt_is_cleared():
    bench = Bench([[(300, 1)]] * 3, stimuli={400: {"clear_interrupt": 1}})
    assert bench.events["pending"][-1] == 400 and bench.done
