"""AXI4 read masters: handshakes, 4 KiB, burst length, bursts in flight, and exactly the beats asked for."""

from dataclasses import replace

from amaranth.hdl import Mux, Signal

from hw.config import AcceleratorConfig
from hw.formal.fifos import Follower
from hw.formal.harness import Harness, Opened, drive_freely
from hw.formal.proof import Mutant, Proof
from hw.memory.axi import BOUNDARY, BURST_INCR
from hw.memory.burst_reader import BEATS_WIDTH, BurstReader
from hw.memory.read_arbiter import ReadArbiter
from hw.presets import PRESETS

_READER = "hw.memory.burst_reader"
_ARBITER = "hw.memory.read_arbiter"


def machine(**fields: int) -> AcceleratorConfig:
    """The nano machine with narrow addresses and beats, and other ``fields``."""
    return replace(PRESETS["nano"], axi_bytes=8, address_width=16, **fields)


def prove_read_address_rules(h: Harness, axi, config: AcceleratorConfig) -> None:
    """What AXI asks of a read address channel, and what the machine promises beyond it."""
    address = (axi.araddr, axi.arlen, axi.arsize, axi.arburst, axi.arid)
    h.prove("ARVALID stays until ARREADY, the address and all that goes with it too", h.held(axi.arvalid, axi.arready, *address))
    size = (axi.arlen + 1) << (config.axi_bytes - 1).bit_length()
    h.prove("no burst crosses 4 KiB", ~axi.arvalid | ((axi.araddr & (BOUNDARY - 1)) + size <= BOUNDARY))
    h.prove("no burst has more than burst_beats beats", ~axi.arvalid | (axi.arlen < config.burst_beats))
    h.prove(
        "bursts are INCR, of whole aligned beats",
        ~axi.arvalid
        | ((axi.arburst == BURST_INCR) & (1 << axi.arsize == config.axi_bytes) & (axi.araddr & (config.axi_bytes - 1) == 0)),
    )
    h.prove("RREADY is always 1", axi.rready)


class Memory:
    """A memory that answers the bursts in order, any time after their addresses, with beats of any value.

    Attributes:
        bursts: accepted and not yet answered to the end.
        beats: still to come of all of them.
    """

    def __init__(self, h: Harness, axi, most: int):
        m = h.m
        self.bursts = Signal(range(most + 2))
        left = [Signal(9, name=f"left_{place}") for place in range(most + 1)]
        accepted, answered = Signal(), Signal()
        ends = Signal()
        h.assume(~axi.rvalid | (self.bursts != 0))
        h.assume(~axi.rvalid | (axi.rlast == (left[0] == 1)))
        m.d.comb += [
            accepted.eq(axi.arvalid & axi.arready),
            answered.eq(axi.rvalid & axi.rready),
            ends.eq(answered & (left[0] == 1)),
        ]
        m.d.sync += self.bursts.eq(self.bursts + accepted - ends)
        for place, register in enumerate(left):
            after = left[place + 1] if place < most else 0
            stays = register - answered if place == 0 else register
            new = accepted & (self.bursts - ends == place)
            m.d.sync += register.eq(Mux(new, axi.arlen + 1, Mux(ends, after, stays)))
        self.beats = sum(left)
        h.invariant(
            "the memory owes beats for the bursts that it accepted, and for no others",
            sum((register != 0) == (self.bursts > place) for place, register in enumerate(left)) == most + 1,
        )


class Commands:
    """Counts what commands still ask for at the address channel.

    Attributes:
        left: beats that the oldest command not yet asked for in full still wants.
        address: where they begin, in beats.
        following: a command behind it, with `following_left` and `following_address`.
    """

    def __init__(self, h: Harness, reader: BurstReader, config: AcceleratorConfig):
        m, axi = h.m, reader.axi
        bits = (config.axi_bytes - 1).bit_length()
        self.left, self.following_left = Signal(BEATS_WIDTH), Signal(BEATS_WIDTH)
        self.address, self.following_address = (Signal(config.address_width - bits, name=n) for n in ("next_", "following_"))
        self.following = Signal()
        command = reader.command
        taken, sent, size = Signal(), Signal(), Signal(9)
        done = Signal()
        m.d.comb += [
            taken.eq(command.valid & command.ready & ~reader.abort),
            sent.eq(axi.arvalid & axi.arready),
            size.eq(Mux(sent, axi.arlen + 1, 0)),
            done.eq(self.left == size),
        ]
        address, beats = command.payload.address >> bits, command.payload.beats
        m.d.sync += [self.left.eq(self.left - size), self.address.eq(self.address + size)]
        with m.If(done & self.following):
            m.d.sync += [self.left.eq(self.following_left), self.address.eq(self.following_address), self.following.eq(0)]
        with m.If(taken & done & ~self.following):
            m.d.sync += [self.left.eq(beats), self.address.eq(address)]
        with m.Elif(taken):
            m.d.sync += [self.following.eq(1), self.following_left.eq(beats), self.following_address.eq(address)]
        with m.If(reader.abort):
            m.d.sync += [self.left.eq(Mux(axi.arvalid & ~axi.arready, axi.arlen + 1, 0)), self.following.eq(0)]


def _reader(h: Harness, config: AcceleratorConfig) -> tuple[BurstReader, Opened]:
    """A reader between any commands, an obedient memory and any consumer; an abort lasts."""
    reader = BurstReader(config)
    opened = h.add(reader)
    drive_freely(h.m, reader)
    command = reader.command
    h.assume(h.held(command.valid, command.ready, command.payload))
    h.assume(~command.valid | ((command.payload.beats != 0) & (command.payload.beats <= 1 << 24)))
    h.assume(~h.past(reader.abort) | reader.abort)
    return reader, opened


def _addresses(config: AcceleratorConfig):
    def describe(h: Harness) -> None:
        reader, opened = _reader(h, config)
        axi = reader.axi
        prove_read_address_rules(h, axi, config)
        memory = Memory(h, axi, config.outstanding)
        commands = Commands(h, reader, config)
        bits = (config.axi_bytes - 1).bit_length()
        size = Signal(9)
        h.m.d.comb += size.eq(Mux(axi.arvalid, axi.arlen + 1, 0))
        h.prove("at most `outstanding` bursts are in flight", memory.bursts + axi.arvalid <= config.outstanding)
        h.prove(
            "bursts ask for the commands' beats, in order, each once, and for no others",
            ~axi.arvalid | ((size <= commands.left) & (axi.araddr >> bits == commands.address)),
        )
        accepted = axi.rvalid & axi.rready
        h.prove("every beat that arrives has room in the FIFO", ~accepted | opened.signal("beats.w_rdy"))
        h.prove("idle only without a burst in flight or waiting", reader.idle == ((memory.bursts == 0) & ~axi.arvalid))
        waiting = h.offered(axi.arvalid, axi.arready)
        h.prove("after an abort no address but one that waits", ~(h.past(reader.abort) & axi.arvalid) | waiting)

        _invariants(h, reader, opened, config, memory, commands, size)
        # A consumer that takes data and a memory that waits for nothing: the next burst comes soon.
        prompt = reader.data.ready & (axi.rvalid | (memory.bursts == 0)) & ~reader.abort
        waits, limit = Signal(8), config.outstanding * config.burst_beats + 4
        h.m.d.sync += waits.eq(Mux(prompt & ~axi.arvalid & (commands.left != 0) & (waits != limit), waits + 1, 0))
        h.prove("a burst is asked for within outstanding x burst_beats + 4 cycles, if data comes and goes", waits < limit)
        level = opened.signal("beats.level")
        flying, shown = memory.bursts != 0, opened.signal("beats.r_rdy")
        through = Mux(level == 0, Mux(flying, 2, 0), (level == 1) & (flying | ~shown))  # cycles in the FIFO without a pop
        still = memory.beats + level + through
        h.invariant("every waiting cycle brings the next burst nearer", axi.arvalid | (waits + still < limit - 1))

    return describe


def _invariants(h: Harness, reader, opened: Opened, config, memory: Memory, commands: Commands, size) -> None:
    axi, capacity = reader.axi, config.outstanding * config.burst_beats
    left, address, free, flying = (opened.signal(name) for name in ("left", "address", "free", "flying"))
    level = opened.signal("beats.level")
    h.invariant("bursts are counted", flying == memory.bursts + axi.arvalid)
    h.invariant("every burst has its mark", opened.signal("finals.level") == flying)
    h.invariant("every place is free, promised or taken", free + memory.beats + size + level == capacity)
    if capacity > 1:
        inner, shown = opened.signal("beats.inner_level"), opened.signal("beats.r_rdy")
        h.invariant("the FIFO's output register fills at once", (level == inner + shown) & (shown | (inner <= 1)))
    end = commands.left == size
    h.invariant(
        "what is left to ask for",
        Mux(
            commands.following,
            end & axi.arvalid & (left == commands.following_left) & (address == commands.following_address),
            (left == commands.left - size)
            & (commands.left >= size)
            & ((left == 0) | (address == (commands.address + size)[: len(address)])),
        ),
    )
    h.invariant("commands have beats", ~commands.following | (commands.following_left != 0))


def _data(config: AcceleratorConfig):
    def describe(h: Harness) -> None:
        reader, _ = _reader(h, config)
        axi, m = reader.axi, h.m
        Memory(h, axi, config.outstanding)
        h.assume(~reader.abort)
        command = reader.command
        h.assume(~command.valid | ((command.payload.beats < 8) & (command.payload.address == 0)))
        h.assume(axi.rdata[2:] == 0)
        accepted, popped = axi.rvalid & axi.rready, reader.data.valid & reader.data.ready
        held, wanted = Signal(8), Signal(16)
        taken = Signal()
        m.d.comb += taken.eq(command.valid & command.ready)
        m.d.sync += [
            held.eq(held + accepted - popped),
            wanted.eq(wanted + Mux(taken, command.payload.beats, 0) - popped),
        ]
        h.prove(
            "no data without a beat that arrived, no beat that no command asked for",
            ~reader.data.valid | ((held != 0) & (wanted != 0)),
        )
        h.prove("data that waits stays the same", h.held(reader.data.valid, reader.data.ready, reader.data.payload))
        follower = Follower(h, push=accepted, pop=popped, data=axi.rdata, level=held)
        h.prove("any beat comes out once, unchanged and in order", ~follower.leaves | (reader.data.payload.data == follower.data))
        # Any one command: beats of others before it, and its own.
        before, own, chosen = Signal(16), Signal(16), Signal()
        with m.If(taken & ~chosen & h.any_value(1, "choose_command")):
            m.d.sync += [chosen.eq(1), before.eq(wanted - popped), own.eq(command.payload.beats)]
        with m.Elif(popped & (before != 0)):
            m.d.sync += before.eq(before - 1)
        with m.Elif(popped & (own != 0)):
            m.d.sync += own.eq(own - 1)
        mine = popped & (before == 0) & (own != 0)
        h.prove(
            "`last` marks the last beat of a command, and no other of its beats", ~mine | (reader.data.payload.last == (own == 1))
        )
        h.prove("`last` marks the beat before a command's first", ~(popped & (before == 1)) | reader.data.payload.last)
        h.prove("an error is reported with its beat", reader.error == (accepted & axi.rresp[1]))

    return describe


def _arbiter(h: Harness) -> None:
    config = machine()
    arbiter = ReadArbiter(config)
    opened = h.add(arbiter)
    drive_freely(h.m, arbiter)
    axi, clients = arbiter.axi, (arbiter.fetch, arbiter.side)
    payload = ("araddr", "arlen", "arsize", "arburst")
    for client in clients:
        h.assume(h.held(client.arvalid, client.arready, *(getattr(client, name) for name in payload)))
    h.prove(
        "ARVALID stays until ARREADY, the address and all that goes with it too",
        h.held(axi.arvalid, axi.arready, axi.arid, *(getattr(axi, name) for name in payload)),
    )
    for identifier, client in enumerate(clients):
        shown = axi.arvalid & (axi.arid == identifier)
        same = client.arvalid
        for name in payload:
            same = same & (getattr(axi, name) == getattr(client, name))
        h.prove("an address on the bus is its client's", ~shown | same)
        h.prove(
            "a client's address is taken exactly when the bus takes it", (client.arvalid & client.arready) == (shown & axi.arready)
        )
        h.prove("data goes to the client of its identifier", client.rvalid == (axi.rvalid & (axi.rid == identifier)))
        h.prove("data is handed through", (client.rdata == axi.rdata) & (client.rlast == axi.rlast) & (client.rresp == axi.rresp))
    h.prove("the bus has an address as soon as a client has one", axi.arvalid == (clients[0].arvalid | clients[1].arvalid))
    h.prove(
        "fetch is first, unless the side loader's address waits already",
        ~(clients[0].arvalid & axi.arvalid & (axi.arid == 1)) | h.offered(axi.arvalid & (axi.arid == 1), axi.arready),
    )
    h.prove("RREADY is always 1", axi.rready)
    locked, locked_side = opened.signal("locked"), opened.signal("locked_side")
    h.invariant("a turn is kept for an address that waits", locked == h.offered(axi.arvalid, axi.arready))
    h.invariant("and for its client", ~locked | (locked_side == h.past(axi.arid)))
    for identifier, client in enumerate(clients):
        h.invariant("that still has it", ~(locked & (locked_side == identifier)) | client.arvalid)


_SIZES = ((1, 1), (2, 1), (1, 2), (3, 1), (3, 2), (4, 2), (16, 4))
"""Beats of a burst and bursts in flight."""
_MUTANTS = (
    Mutant("reserves nothing for a burst", _READER, "(free >= size) & ", ""),
    Mutant("forgets the 4 KiB boundary", _READER, "with m.Elif(to_boundary < config.burst_beats):", "with m.Elif(0):"),
    Mutant("a burst too many in flight", _READER, "(flying != config.outstanding)", "(flying <= config.outstanding)"),
    Mutant("changes the address while it waits", _READER, "(~self.axi.arvalid | self.axi.arready) & ", ""),
    Mutant(
        "drops a waiting address on abort", _READER, "with m.If(self.axi.arready):", "with m.If(self.axi.arready | self.abort):"
    ),
    Mutant("takes the next command a burst too early", _READER, "(left == 0) | (issue & final)", "(left == 0) | issue"),
    Mutant(
        "asks for whole bursts only", _READER, "with m.If((left < config.burst_beats) & (left <= to_boundary)):", "with m.If(0):"
    ),
    Mutant("two places with an output register", _READER, "depth = 3 if capacity == 2 else capacity", "depth = capacity"),
)
_DATA_MUTANTS = (
    Mutant(
        "marks the last beat of every burst",
        _READER,
        "beat.last.eq(self.axi.rlast & finals.r_data)",
        "beat.last.eq(self.axi.rlast)",
    ),
    Mutant(
        "marks every beat of the last burst", _READER, "beat.last.eq(self.axi.rlast & finals.r_data)", "beat.last.eq(finals.r_data)"
    ),
    Mutant("takes data that nobody takes", _READER, "beats.r_en.eq(pop)", "beats.r_en.eq(1)"),
)

PROOFS = (
    *(
        Proof(
            f"burst-reader-{beats}x{bursts}",
            "hw.memory.burst_reader.BurstReader",
            f"burst_beats {beats}, outstanding {bursts}, axi_bytes 8, address_width 16",
            _addresses(machine(burst_beats=beats, outstanding=bursts)),
            4,
            search=40,
            family="burst-reader",
            mutants=_MUTANTS[:-1] if (beats, bursts) == (4, 2) else _MUTANTS[-1:] if (beats, bursts) == (2, 1) else (),
            slow=beats >= 16,
        )
        for beats, bursts in _SIZES
    ),
    *(
        Proof(
            f"burst-reader-data-{beats}x{bursts}",
            "hw.memory.burst_reader.BurstReader",
            f"burst_beats {beats}, outstanding {bursts}, axi_bytes 8, address_width 16; "
            "commands of 1 to 7 beats at address 0, beats of 2 symbolic bits",
            _data(machine(burst_beats=beats, outstanding=bursts)),
            depth,
            bounded=True,
            slow=True,
            search=depth,
            family="burst-reader-data",
            mutants=_DATA_MUTANTS if (beats, bursts) == (2, 2) else (),
        )
        for beats, bursts, depth in ((2, 1, 12), (2, 2, 9))
    ),
    Proof(
        "read-arbiter",
        "hw.memory.read_arbiter.ReadArbiter",
        "axi_bytes 8, address_width 16",
        _arbiter,
        4,
        mutants=(
            Mutant(
                "fetch interrupts an address that waits",
                _ARBITER,
                "side.eq((locked & locked_side) | (~locked & ~self.fetch.arvalid))",
                "side.eq(~self.fetch.arvalid)",
            ),
            Mutant("data goes to both", _ARBITER, "self.axi.rvalid & (self.axi.rid == identifier)", "self.axi.rvalid"),
            Mutant(
                "both believe that their address was taken",
                _ARBITER,
                "m.d.comb += [self.axi.arid.eq(identifier), client.arready.eq(self.axi.arready)]",
                "m.d.comb += [self.axi.arid.eq(identifier), self.fetch.arready.eq(self.axi.arready)]",
            ),
        ),
    ),
)
