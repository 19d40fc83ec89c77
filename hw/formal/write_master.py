"""AXI4 write master: handshakes, 4 KiB, burst length, WLAST, and exactly the record's beats."""

from amaranth.hdl import Cat, Mux, Signal

from hw import isa
from hw.config import AcceleratorConfig
from hw.formal.harness import Harness, Opened, drive_freely
from hw.formal.proof import Mutant, Proof
from hw.formal.read_master import machine
from hw.memory.axi import BOUNDARY, BURST_INCR
from hw.memory.result_writer import RECORD_WORDS, ResultWriter

_MODULE = "hw.memory.result_writer"


def prove_write_rules(h: Harness, axi, config: AcceleratorConfig) -> None:
    """What AXI asks of the write channels, and what the machine promises beyond it."""
    address = (axi.awaddr, axi.awlen, axi.awsize, axi.awburst, axi.awid)
    h.prove("AWVALID stays until AWREADY, the address and all that goes with it too", h.held(axi.awvalid, axi.awready, *address))
    h.prove(
        "WVALID stays until WREADY, data, strobes and WLAST too", h.held(axi.wvalid, axi.wready, axi.wdata, axi.wstrb, axi.wlast)
    )
    size = (axi.awlen + 1) << (config.axi_bytes - 1).bit_length()
    h.prove("no burst crosses 4 KiB", ~axi.awvalid | ((axi.awaddr & (BOUNDARY - 1)) + size <= BOUNDARY))
    h.prove("no burst has more than burst_beats beats", ~axi.awvalid | (axi.awlen < config.burst_beats))
    aligned = (axi.awaddr & (config.axi_bytes - 1)) == 0
    h.prove(
        "bursts are INCR, of whole aligned beats with all bytes enabled",
        ~axi.awvalid | ((axi.awburst == BURST_INCR) & ((1 << axi.awsize) == config.axi_bytes) & aligned & axi.wstrb.all()),
    )
    h.prove("BREADY is always 1", axi.bready)


class Writes:
    """Counts what the bus has seen.

    Attributes:
        due: beats of the burst whose address was accepted that were not yet.
        open: bursts accepted without a response, of which `answerable` have all their data.
        left: beats of the record whose address was not yet accepted; `address`, in beats, of the first.
    """

    def __init__(self, h: Harness, writer: ResultWriter, config: AcceleratorConfig):
        m, axi = h.m, writer.axi
        bits = (config.axi_bytes - 1).bit_length()
        self.due, self.left = Signal(9), Signal(9)
        self.open, self.answerable = Signal(9), Signal(9)
        self.address = Signal(config.address_width - bits, name="next_address")
        self.sent, self.beat, answered = Signal(), Signal(), Signal()
        size = Signal(9)
        m.d.comb += [
            self.sent.eq(axi.awvalid & axi.awready),
            self.beat.eq(axi.wvalid & axi.wready),
            answered.eq(axi.bvalid & axi.bready),
            size.eq(Mux(self.sent, axi.awlen + 1, 0)),
        ]
        self.begins = writer.record.start & writer.idle & ~writer.abort
        m.d.sync += [
            self.due.eq(self.due + size - self.beat),
            self.left.eq(self.left - size),
            self.address.eq(self.address + size),
            self.open.eq(self.open + self.sent - answered),
            self.answerable.eq(self.answerable + (self.beat & (self.due == 1)) - answered),
        ]
        with m.If(self.begins):
            words = writer.record.head.classes + RECORD_WORDS
            m.d.sync += [
                self.left.eq((4 * words + config.axi_bytes - 1) >> bits),
                self.address.eq(writer.record.head.address >> bits),
            ]
        h.assume(~axi.bvalid | (self.answerable != 0))


def _writer(h: Harness, config: AcceleratorConfig) -> tuple[ResultWriter, Opened]:
    """A writer between records of any kind and a memory that obeys AXI."""
    writer = ResultWriter(config)
    opened = h.add(writer)
    drive_freely(h.m, writer)
    h.assume((writer.record.head.address & (config.axi_bytes - 1)) == 0)
    h.assume((writer.record.head.classes != 0) & (writer.record.head.classes <= config.classes))
    h.assume(~h.past(writer.abort) | writer.abort)
    return writer, opened


def _bursts(config: AcceleratorConfig):
    def describe(h: Harness) -> None:
        writer, opened = _writer(h, config)
        axi = writer.axi
        bits = (config.axi_bytes - 1).bit_length()
        prove_write_rules(h, axi, config)
        writes = Writes(h, writer, config)
        h.prove("data only for a burst whose address was accepted", ~axi.wvalid | (writes.due != 0))
        h.prove("WLAST exactly with the last beat of a burst", ~axi.wvalid | (axi.wlast == (writes.due == 1)))
        h.prove(
            "bursts cover the record's beats, in order, each once, and no others",
            ~axi.awvalid | ((axi.awlen < writes.left) & ((axi.awaddr >> bits) == writes.address)),
        )
        quiet = (writes.due == 0) & (writes.open == 0) & ~axi.awvalid & ~axi.wvalid
        h.prove("done only when all of the record was written and answered", ~writer.record.done | (quiet & (writes.left == 0)))
        h.prove("idle only with every burst written and answered", ~writer.idle | quiet)
        waiting = h.offered(axi.awvalid, axi.awready)
        h.prove("after an abort no address but one that waits", ~(h.past(writer.abort) & axi.awvalid) | waiting)
        prompt = ~axi.awvalid & ~axi.wvalid & ~writer.idle & ~writer.record.done & (writes.answerable == 0)
        waits, limit = Signal(8), config.axi_bytes // 4 + 2
        h.m.d.sync += waits.eq(Mux(prompt & (waits != limit), waits + 1, 0))
        h.prove(
            "an address, a beat or the end follows within axi_bytes / 4 + 2 cycles, unless the memory lets it wait", waits < limit
        )
        _invariants(h, writer, opened, config, writes)

    return describe


def _invariants(h: Harness, writer: ResultWriter, opened: Opened, config: AcceleratorConfig, writes: Writes) -> None:
    state = {name: opened.in_state(name) for name in ("IDLE", "BURST", "FILL", "SEND", "RESPONSE")}
    left, address, slot = (opened.signal(name) for name in ("beats_left", "address", "slot"))
    h.invariant("one state", sum(state.values()) == 1)
    h.invariant(
        "the burst's beats are counted",
        Mux(state["FILL"] | state["SEND"], opened.signal("burst_left") == writes.due, writes.due == 0),
    )
    h.invariant("a burst has data to send while it fills", ~(state["FILL"] | state["SEND"]) | (writes.due != 0))
    h.invariant("bursts without a response are counted", opened.signal("pending") == writes.open)
    h.invariant("all but the burst at work may be answered", writes.open == writes.answerable + (writes.due != 0))
    h.invariant("what is left is known", left == writes.left)
    h.invariant("there is something to ask for", ~state["BURST"] | (left != 0))
    h.invariant("and where", (left == 0) | (address == writes.address))
    h.invariant("an idle writer owes nothing", ~state["IDLE"] | ((writes.due == 0) & (writes.open == 0)))
    h.invariant("data is shown when a beat is full", writer.axi.wvalid == state["SEND"])
    h.invariant("a beat begins at its first word", state["FILL"] | (slot == 0))
    total = writes.left + writes.open + Mux(writes.due != 0, writes.due - 1, 0)
    h.invariant("counts are small", total <= (4 * (config.classes + RECORD_WORDS) + config.axi_bytes - 1) // config.axi_bytes)


def _content(config: AcceleratorConfig):
    """Words of the record, one class's logit standing for all."""

    def describe(h: Harness) -> None:
        writer, opened = _writer(h, config)
        m, axi = h.m, writer.axi
        writes = Writes(h, writer, config)
        h.assume(~writer.abort)
        index, logit = (
            h.any_constant(range(config.classes), "class_index"),
            h.any_constant(writer.logits.logit.shape(), "class_logit"),
        )
        h.assume((h.past(writer.logits.address) != index) | (writer.logits.logit == logit))
        record = Signal(writer.record.head.shape())
        beat = Signal(9)
        with m.If(writes.begins):
            m.d.sync += [record.eq(writer.record.head), beat.eq(0)]
        with m.Elif(writes.beat):
            m.d.sync += beat.eq(beat + 1)
        words = config.axi_bytes // 4
        slot, filling = opened.signal("slot"), opened.in_state("FILL")
        for lane in range(words):
            word, number = axi.wdata.word_select(lane, 32), beat * words + lane
            filled = filling & (slot > lane)
            extended = Cat(logit, logit[-1].replicate(32 - len(logit)))
            claims = [
                ("the head's fields are in their places", number == position, 0 if name.startswith("reserved") else record[name])
                for position, (name, _) in enumerate(isa.RECORD_FIELDS)
            ]
            mine = (index < record.classes) & (number == index + RECORD_WORDS)
            claims.append(("any class's logit is in its place, sign-extended", mine, extended))
            claims.append(("zeros fill up the last beat", number >= record.classes + RECORD_WORDS, 0))
            for text, where, value in claims:
                h.prove(text, ~(axi.wvalid & where) | (word == value))
                h.invariant("words that wait for a whole beat are right", ~(filled & where) | (word == value))
        _invariants(h, writer, opened, config, writes)
        at_work = ~writer.idle & ~opened.in_state("RESPONSE")
        position = opened.signal("words.index")
        h.invariant("the words are in step", ~at_work | (position == beat * words + slot + Mux(axi.wvalid, words, 0)))
        h.invariant(
            "and the logits with them", ~at_work | (h.past(writer.logits.address) == (position - RECORD_WORDS)[: len(index)])
        )
        h.invariant("the record holds still", ~at_work | (opened.signal("record") == record.as_value()))
        h.invariant("its classes exist", ~at_work | ((record.classes != 0) & (record.classes <= config.classes)))
        beats = (4 * (record.classes + RECORD_WORDS) + config.axi_bytes - 1) // config.axi_bytes
        h.invariant("no beat is lost", ~at_work | writer.abort | h.past(writer.abort) | (beat + writes.left + writes.due == beats))

    return describe


_MUTANTS = (
    Mutant("forgets the 4 KiB boundary", _MODULE, "with m.Elif(to_boundary < config.burst_beats):", "with m.Elif(0):"),
    Mutant("WLAST a beat early", _MODULE, "axi.wlast.eq(burst_left == 1)", "axi.wlast.eq(burst_left <= 2)"),
    Mutant("takes data back", _MODULE, "with m.If(axi.wready):\n", "with m.If(1):\n"),
    Mutant("done before the last response", _MODULE, "with m.If(pending == 0):", "with m.If(1):"),
    Mutant("writes the same addresses again", _MODULE, "[address.eq(address + size), beats_left", "[beats_left"),
    Mutant("ends a burst early on abort", _MODULE, "with m.If(axi.wlast):", "with m.If(axi.wlast | self.abort):"),
)

PROOFS = (
    *(
        Proof(
            f"result-writer-{beats}",
            "hw.memory.result_writer.ResultWriter",
            f"burst_beats {beats}, axi_bytes 8, address_width 16, at most {classes} classes",
            _bursts(machine(burst_beats=beats, classes=classes)),
            5,
            search=50,
            family="result-writer",
            mutants=_MUTANTS if beats == 3 else (),
        )
        for beats, classes in ((1, 3), (3, 3), (4, 16))
    ),
    Proof(
        "result-writer-content",
        "hw.memory.result_writer.ResultWriter",
        "burst_beats 4, axi_bytes 8, at most 3 classes",
        _content(machine(burst_beats=4, classes=3)),
        4,
        search=30,
        mutants=(
            Mutant("every other word is left out", _MODULE, "index + self.advance))", "index + 2 * self.advance))"),
            Mutant(
                "a start that comes too early is heard",
                _MODULE,
                "words.restart.eq(self.record.start & self.idle)",
                "words.restart.eq(self.record.start)",
            ),
        ),
    ),
)
