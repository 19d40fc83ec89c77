"""What stands around the machine on a board without processors: UART, host bridge, shared memory; and all with the machine."""

import random
import struct
from collections import deque
from collections.abc import Callable

import numpy as np
import pytest
from amaranth.hdl import Module
from amaranth.lib import wiring

from hw.batch import Batch
from hw.boards.drivers.serial import BoardDevice, BridgeHost, memory_needed
from hw.boards.shell.host_bridge import Command, HostBridge
from hw.boards.shell.shared_memory import SharedMemory, check_size
from hw.boards.shell.uart import LEAST_DIVISOR, UartReceiver, UartTransmitter
from hw.boards.shell.uart_shell import ByteShell, UartShell, connect_channels
from hw.control.registers import IDENTITY, Registers
from hw.device import RunResult, mismatches
from hw.errors import InputError
from hw.golden import GoldenDevice
from hw.host import CLEAR_INTERRUPT, SOFT_RESET, START
from hw.isa import COUNTERS, REGISTERS, Error
from hw.memory.axi import AXI4ReadSignature, AXI4WriteSignature
from hw.presets import find_preset
from hw.program import Program
from sim.stimulus.workload import prepare
from tests.hw.simulation import simulate

TINY = find_preset("nano").with_fields(
    "rows=2,cols=2,pe_depth=2,activation_words=64,residual_words=16,weight_words=32,kv_words=16,parameter_tiles=8,row_tiles=3,"
    "classes=4,axi_bytes=8,outstanding=2,burst_beats=8,queue_depth=2,address_width=16"
)
NETWORK = "vit:dim=4,depth=1,heads=1,tokens=2,classes=3,patch=2,channels=1,mlp_ratio=1"
SIZE = 4096


def host_over(ctx, sent, received) -> BridgeHost:
    """A host over two streams of bytes."""

    async def exchange(request: bytes, size: int) -> bytes:
        ctx.set(sent.valid, 1)
        for byte in request:
            ctx.set(sent.payload, byte)
            await ctx.tick().until(sent.ready)
        ctx.set(sent.valid, 0)
        answer = bytearray()
        ctx.set(received.ready, 1)
        while len(answer) < size:
            _, _, valid, byte = await ctx.tick().sample(received.valid, received.payload)
            if valid:
                answer.append(byte)
        ctx.set(received.ready, 0)
        return bytes(answer)

    return BridgeHost(exchange)


@pytest.mark.parametrize("divisor", [LEAST_DIVISOR, 5, 25])
@pytest.mark.parametrize("drift", [-1, 0, 1])
def test_bytes_cross_a_line(divisor: int, drift: int, seed: int):
    """Transmitter to receiver, the line's clock 4 % off in either direction where bits are long enough to say so."""
    rng = random.Random(seed)
    data = [0x00, 0xFF, 0x55, *(rng.randrange(256) for _ in range(5))]
    m = Module()
    m.submodules.receiver = receiver = UartReceiver(divisor)
    m.submodules.transmitter = transmitter = UartTransmitter(divisor + (drift if divisor == 25 else 0))
    m.d.comb += receiver.line.eq(transmitter.line)
    taken: list[int] = []

    async def send(ctx):
        for byte in data:
            ctx.set(transmitter.data.payload, byte)
            ctx.set(transmitter.data.valid, 1)
            await ctx.tick().until(transmitter.data.ready)
            ctx.set(transmitter.data.valid, 0)
            for _ in range(rng.choice((0, 0, 3 * divisor))):
                await ctx.tick()
        await ctx.tick().repeat(11 * divisor)
        assert taken == data

    async def take(ctx):
        ctx.set(receiver.data.ready, 1)
        async for _, _, valid, payload in ctx.tick().sample(receiver.data.valid, receiver.data.payload):
            if valid:
                taken.append(payload)

    simulate(m, send, take)


def test_a_byte_without_a_stop_bit_is_dropped():
    receiver = UartReceiver(4)

    async def testbench(ctx):
        ctx.set(receiver.line, 0)
        await ctx.tick().repeat(4 * 10)
        ctx.set(receiver.line, 1)
        for _ in range(4 * 12):
            await ctx.tick()
            assert not ctx.get(receiver.data.valid)

    simulate(receiver, testbench)


@pytest.mark.parametrize(
    ("config", "size", "message"),
    [
        (TINY, 2048, "a power of two of at least 4096 bytes, not 2048"),
        (TINY, 5000, "a power of two of at least 4096 bytes, not 5000"),
        (TINY, 1 << 17, "address_width must be at least 17 for a memory of 131072 bytes, not 16"),
    ],
)
def test_sizes_that_cannot_be(config, size: int, message: str):
    with pytest.raises(InputError, match=message):
        check_size(config, size)


async def read_bursts(ctx, axi, rng: random.Random, model: bytearray, busy: float, count: int) -> None:
    """Random bursts one after the other, with waits, against ``model``."""
    for _ in range(count):
        beats = rng.randint(1, 8)
        outside = rng.random() < 0.2
        address = rng.randrange(SIZE // 8 - 8) * 8 + SIZE * outside * rng.randint(1, 15)
        identifier = rng.randrange(2)
        for name, value in (("araddr", address), ("arlen", beats - 1), ("arid", identifier), ("arvalid", 1)):
            ctx.set(getattr(axi, name), value)
        await ctx.tick().until(axi.arready)
        ctx.set(axi.arvalid, 0)
        taken = 0
        while taken < beats:
            ready = int(rng.random() >= busy)
            ctx.set(axi.rready, ready)
            sample = (axi.rvalid, axi.rdata, axi.rresp, axi.rid, axi.rlast)
            _, _, valid, data, response, got, last = await ctx.tick().sample(*sample)
            if not (valid and ready):
                continue
            start = address + 8 * taken
            assert (response, got, last) == (2 * outside, identifier, taken == beats - 1)
            assert outside or data == int.from_bytes(model[start : start + 8], "little")
            taken += 1
        ctx.set(axi.rready, 0)


async def write_bursts(ctx, axi, rng: random.Random, model: bytearray, busy: float, count: int, base: int) -> None:
    """Random bursts into 1 KiB from ``base``, with waits and strobes, repeated in ``model``."""
    for _ in range(count):
        beats = rng.randint(1, 8)
        outside = rng.random() < 0.2
        address = base + rng.randrange(128 - 8) * 8
        for name, value in (("awaddr", address + SIZE * outside), ("awlen", beats - 1), ("awvalid", 1)):
            ctx.set(getattr(axi, name), value)
        await ctx.tick().until(axi.awready)
        ctx.set(axi.awvalid, 0)
        for beat in range(beats):
            while rng.random() < busy:
                await ctx.tick()
            data, strobe = rng.randbytes(8), rng.randrange(256)
            for name, value in (
                ("wdata", int.from_bytes(data, "little")),
                ("wstrb", strobe),
                ("wlast", beat == beats - 1),
                ("wvalid", 1),
            ):
                ctx.set(getattr(axi, name), value)
            await ctx.tick().until(axi.wready)
            ctx.set(axi.wvalid, 0)
            for lane in range(8):
                if strobe >> lane & 1 and not outside:
                    model[address + 8 * beat + lane] = data[lane]
        while rng.random() < busy:
            await ctx.tick()
        ctx.set(axi.bready, 1)
        (response,) = await ctx.tick().sample(axi.bresp).until(axi.bvalid)
        assert response == 2 * outside
        ctx.set(axi.bready, 0)


@pytest.mark.parametrize("busy", [0.0, 0.6])
def test_memory_serves_all_masters(busy: float, seed: int):
    """Two masters write into places of their own at once, then three read all of it at once."""
    rng = random.Random(seed)
    memory = SharedMemory(TINY, size=SIZE, readers=3, writers=2)
    model = bytearray(SIZE)
    ends = {"writers": 0, "readers": 0}

    def writer(index: int) -> Callable:
        async def process(ctx):
            await write_bursts(ctx, memory.writers[index], random.Random(rng.random()), model, busy, 20, 1024 * (1 + index))
            ends["writers"] += 1

        return process

    def reader(index: int) -> Callable:
        async def process(ctx):
            while ends["writers"] < 2:
                await ctx.tick()
            await read_bursts(ctx, memory.readers[index], random.Random(rng.random()), model, busy, 20)
            ends["readers"] += 1

        return process

    async def testbench(ctx):
        while ends["readers"] < 3:
            await ctx.tick()

    run_testbenches(memory, testbench, *(writer(index) for index in range(2)), *(reader(index) for index in range(3)))
    assert any(model[1024:2048]) and any(model[2048:3072])


def run_testbenches(component, *testbenches: Callable, cycles: int = 20000) -> None:
    """Run testbenches side by side until all have ended."""
    from amaranth.sim import Simulator

    simulator = Simulator(component)
    simulator.add_clock(1e-6)
    for testbench in testbenches:
        simulator.add_testbench(testbench)

    async def watchdog(ctx):
        for _ in range(cycles):
            await ctx.tick()
        raise AssertionError(f"not finished after {cycles} cycles")

    simulator.add_testbench(watchdog, background=True)
    simulator.run()


class BridgeWithTargets(wiring.Component):
    """A bridge, the registers and a memory of 4 KiB."""

    def __init__(self):
        self.bridge, self.registers = HostBridge(TINY), Registers(TINY)
        super().__init__({})

    def elaborate(self, platform):
        m = Module()
        m.submodules.bridge, m.submodules.registers = bridge, registers = self.bridge, self.registers
        m.submodules.memory = memory = SharedMemory(TINY, size=SIZE, readers=1, writers=1)
        wiring.connect(m, bridge.control, registers.bus)
        channels = (TINY.address_width, TINY.axi_bytes)
        connect_channels(m, AXI4ReadSignature(*channels), bridge.memory, memory.readers[0])
        connect_channels(m, AXI4WriteSignature(*channels), bridge.memory, memory.writers[0])
        return m


def test_bridge_reads_and_writes_words(seed: int):
    rng = random.Random(seed)
    content = rng.randbytes(4 * 37)
    start = 4 * rng.randrange(1, 100)
    settings = {name: rng.getrandbits(32) for name, access, _ in REGISTERS if access == "rw"}

    top = BridgeWithTargets()

    async def testbench(ctx):
        ctx.set(top.bridge.received.valid, 1)
        for byte in b"\0\x05\xff":  # no commands
            ctx.set(top.bridge.received.payload, byte)
            await ctx.tick().until(top.bridge.received.ready)
        host = host_over(ctx, top.bridge.received, top.bridge.sent)
        await host.write_memory(start, content)
        for name, value in settings.items():
            await host.write(name, value)
        assert await host.read_memory(start - 4, 39) == bytes(4) + content + bytes(4)
        assert {name: await host.read(name) for name in settings} == settings
        assert await host.read("identity") == IDENTITY
        with pytest.raises(RuntimeError, match="WRITE_MEMORY at 0x1000 must be answered OKAY, not with response 2"):
            await host.write_memory(SIZE, b"beyond")

    simulate(top, testbench)


@pytest.fixture(scope="module")
def workload():
    return prepare(NETWORK, TINY, images=2)


def power_of_two(size: int) -> int:
    return 1 << (size - 1).bit_length()


def test_a_program_over_bytes_is_the_golden_machines(workload):
    """Upload, start, poll, read back: the whole machine on the shell, bit for bit, with the counters that it shows."""
    size = power_of_two(memory_needed(workload.program, 2))
    shell = ByteShell(TINY, size, shared=False)
    answers: list[RunResult] = []

    async def testbench(ctx):
        host = host_over(ctx, shell.received, shell.sent)
        answers.append(await host.run(Batch(program=workload.program, images=workload.images), size))

    simulate(shell, testbench, cycles=30000)
    result = answers[0]
    golden = GoldenDevice(TINY).run(workload.program, workload.images)
    assert result.error == Error.NONE and len(result) == 2
    assert mismatches(golden, result) == 0
    assert len(np.unique(result.logits)) > 3  # the images differ, and no logit is a constant
    assert list(result.counters) == [name for name, _ in COUNTERS]
    assert result.counters["descriptors"] == 2 * workload.program.descriptor_count
    assert 0 < result.cycles.sum() <= result.counters["cycles"]


def test_the_shell_answers_on_its_lines():
    """Through the pins' UART alone: a word into the memory and back, and the identity."""
    divisor = LEAST_DIVISOR
    shell = UartShell(TINY, SIZE, divisor, shared=False)
    requests = [
        (struct.pack("<BIHI", Command.WRITE_MEMORY, 8, 0, 0x12345678), b"\0"),
        (struct.pack("<BIH", Command.READ_MEMORY, 8, 0), struct.pack("<I", 0x12345678) + b"\0"),
        (struct.pack("<BIH", Command.READ_REGISTERS, 0, 0), struct.pack("<I", IDENTITY) + b"\0"),
    ]

    async def testbench(ctx):
        for request, expected in requests:
            for byte in request:
                for bit in range(10):
                    ctx.set(shell.rx, (1 << 9 | byte << 1) >> bit & 1)
                    await ctx.tick().repeat(divisor)
            answer = bytearray()
            for _ in expected:
                await ctx.tick().until(~shell.tx)
                await ctx.tick().repeat(divisor // 2)
                bits = 0
                for bit in range(8):
                    await ctx.tick().repeat(divisor)
                    bits |= ctx.get(shell.tx) << bit
                await ctx.tick().repeat(divisor)
                assert ctx.get(shell.tx)
                answer.append(bits)
            assert answer == expected

    simulate(shell, testbench)


class FakeBoard:
    """Memory and registers that answer frames; a start leaves ``records`` and ``status``."""

    def __init__(self, status: int = 2, images_done: int = 1):
        self.memory, self.registers, self.controls = bytearray(SIZE), {}, []
        self.status, self.images_done = status, images_done
        self.polls: deque[int] = deque([1, 1])

    def exchange(self, request: bytes, size: int) -> bytes:
        command, address, more = struct.unpack_from("<BIH", request)
        data, count = request[7:], 4 * (more + 1)
        if command == Command.WRITE_MEMORY:
            self.memory[address : address + count] = data
        if command == Command.WRITE_REGISTERS:
            name = REGISTERS[address // 4][0]
            self.registers[name] = struct.unpack("<I", data)[0]
            self.controls += [self.registers[name]] if name == "control" else []
        if command == Command.READ_MEMORY:
            return bytes(self.memory[address : address + count]) + b"\0"
        if command == Command.READ_REGISTERS:
            name = REGISTERS[address // 4][0] if address // 4 < len(REGISTERS) else ""
            value = {"status": self.polls.popleft() if self.polls else self.status, "images_done": self.images_done}.get(name, 0)
            return struct.pack("<I", value) * (more + 1) + b"\0"
        return b"\0"


def program(config=TINY) -> Program:
    return Program(config, bytes(range(128)), 2, 9, 3, (5, 6), 7)


def test_device_sets_registers_and_names_errors():
    board = FakeBoard(status=2 | 4 | Error.DEADLINE << 8 | 9 << 16, images_done=0)
    images = np.arange(18, dtype=np.int8).reshape(2, 3, 3, 1)
    result = BoardDevice(TINY, SIZE, board.exchange).run(program(), images, deadline=77)
    assert len(result) == 0 and result.error == Error.DEADLINE and result.error_descriptor == 9
    assert board.memory[:128] == program().memory
    assert board.memory[128:144] == images[0].tobytes() + bytes(7)
    expected = {"program_bytes": 128, "image_base_low": 128, "image_stride": 16, "result_base_low": 160, "image_count": 2}
    expected |= {"path_mask_low": 5, "path_mask_high": 6, "threshold": 7, "deadline": 77}
    assert {name: board.registers[name] for name in expected} == expected
    assert board.controls == [CLEAR_INTERRUPT, START, SOFT_RESET, CLEAR_INTERRUPT]


def test_what_does_not_fit_is_refused():
    device = BoardDevice(TINY, 128, FakeBoard().exchange)
    images = np.zeros((1, 3, 3, 1), np.int8)
    with pytest.raises(InputError, match="must fit 128 bytes of memory, not take 192"):
        device.run(program(), images)
    with pytest.raises(InputError, match="Program must be compiled for"):
        device.run(program(find_preset("nano")), images)
    with pytest.raises(RuntimeError, match="WRITE_MEMORY at 0x0 must be answered OKAY, not with response 2"):
        BoardDevice(TINY, SIZE, lambda request, size: b"\2").run(program(), images)
    with pytest.raises(RuntimeError, match="WRITE_MEMORY at 0x0 must be answered with 1 bytes, not 0"):  # a port that timed out
        BoardDevice(TINY, SIZE, lambda request, size: b"").run(program(), images)
