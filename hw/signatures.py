"""What connects the units of the machine: one signature for each arrow between them, made of the words of `hw.commands`.

Directions are those of the unit that begins: the issue for credits, the reader for reads, the loop over images for an image.
"""

from amaranth.hdl import signed
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import bits_for

from hw import commands, numerics
from hw.config import AcceleratorConfig
from hw.control.jobs import error_report, settings, stall_causes
from hw.memory.burst_reader import read_beat, read_command
from hw.memory.jobs import record_layout


def batch(config: AcceleratorConfig) -> wiring.Signature:
    """The registers' side of a batch.

    Members:
        start, soft_reset, clear_interrupt: one cycle high; a start while `busy` is ignored.
        settings: what the host wrote.
        busy, done, error, images_done: for the status.
        pending: the interrupt's cause.
    """
    return wiring.Signature(
        {
            "start": Out(1),
            "soft_reset": Out(1),
            "clear_interrupt": Out(1),
            "settings": Out(settings(config)),
            "busy": In(1),
            "done": In(1),
            "error": In(error_report()),
            "images_done": In(32),
            "pending": In(1),
        }
    )


def image(config: AcceleratorConfig) -> wiring.Signature:
    """The side of one image that starts it and decides whether it goes on.

    Members:
        start: one cycle high; `settings` and `address` (of the image) stay until the next one.
        flush: while high nothing is begun.
        proceed: one cycle high after `gate_done`: go on behind a GATE.
        settled: all that was issued is in its memory.
        index: of the descriptor at work.
        error: an error of a descriptor, until the units are reset.
        gate_done: one cycle high; then `entropy` (2^-12 nat) and `top1` are those of the logits, of `classes` classes.
        gate_end: the gate is the END.
    """
    return wiring.Signature(
        {
            "start": Out(1),
            "settings": Out(settings(config)),
            "address": Out(config.address_width),
            "flush": Out(1),
            "proceed": Out(1),
            "settled": In(1),
            "index": In(16),
            "error": In(error_report()),
            "gate_done": In(1),
            "gate_end": In(1),
            "classes": In(16),
            "entropy": In(numerics.LOGIT_WIDTH),
            "top1": In(commands.index_width(config.classes)),
        }
    )


def gate_request() -> wiring.Signature:
    """The issue's side of a GATE or END.

    Members:
        start: one cycle high, when the logits are complete; `end` (it is the END) and `classes` stay until `proceed`.
        proceed: one cycle high: go on.
    """
    return wiring.Signature({"start": Out(1), "end": Out(1), "classes": Out(16), "proceed": In(1)})


def record(config: AcceleratorConfig) -> wiring.Signature:
    """The side that has a result record written.

    Members:
        start: one cycle high while nothing is written: takes over `head`.
        head: `hw.memory.jobs.record_layout`, valid with `start`.
        done: one cycle high after the last write response of a whole record.
    """
    return wiring.Signature({"start": Out(1), "head": Out(record_layout(config)), "done": In(1)})


def logit_read(config: AcceleratorConfig) -> wiring.Signature:
    """The reader's side of the logits: `logit`, signed, 2^-12 nat, of class `address` one cycle later."""
    return wiring.Signature({"address": Out(commands.index_width(config.classes)), "logit": In(signed(numerics.LOGIT_WIDTH))})


def descriptor_read(config: AcceleratorConfig) -> wiring.Signature:
    """The reader's side of descriptors: a stream of `read_command` and the `beats` that answer it."""
    return wiring.Signature(
        {"command": Out(stream.Signature(read_command(config))), "beats": In(stream.Signature(read_beat(config)))}
    )


def parameter_read(config: AcceleratorConfig) -> wiring.Signature:
    """The reader's side of the parameter ring: `parameters` of a slot's column, READ_LATENCY cycles later."""
    return wiring.Signature(
        {
            "slot": Out(commands.index_width(config.parameter_tiles)),
            "column": Out(commands.index_width(config.cols)),
            "parameters": In(commands.parameter_layout(config)),
        }
    )


def weight_credits(config: AcceleratorConfig) -> wiring.Signature:
    """The issue's side of the weight ring.

    Members:
        available: every port holds a column tile that was not taken.
        take: one cycle high, in the cycle before a column tile's first weight command; only while `available`.
        release: one cycle high with the last weight command of a column tile's last row tile: ``release_words`` are free.
    """
    words = bits_for(config.weight_words)
    return wiring.Signature({"available": In(1), "take": Out(1), "release": Out(1), "release_words": Out(words)})


def parameter_credits() -> wiring.Signature:
    """The sequencer's side of the parameter ring.

    Members:
        loaded: one cycle high per column tile of parameters that is in the ring.
        release: one cycle high when the oldest slot may be overwritten.
    """
    return wiring.Signature({"loaded": In(1), "release": Out(1)})


def table_credits() -> wiring.Signature:
    """The issue's side of the tables; bit 0 is the activation tables', bit 1 the exp tables'.

    Members:
        loaded: one cycle high per loaded table; slots of a kind are used in turn, from 0.
        release: one cycle high when the oldest slot in use may be overwritten.
    """
    return wiring.Signature({"loaded": In(2), "release": Out(2)})


def load_rows() -> wiring.Signature:
    """The issue's side of a LOAD.

    Members:
        go: one cycle high: the rows of the oldest LOAD may be written.
        done: one cycle high when all of them are in their banks.
    """
    return wiring.Signature({"go": Out(1), "done": In(1)})


def row_commands(config: AcceleratorConfig) -> wiring.Signature:
    """What the sequencer tells row 0: feed, lane, norm and, with ``softmax_pass``, softmax."""
    words = {"feed": commands.feed_command, "lane": commands.lane_command, "norm": commands.norm_command}
    if config.softmax_pass:
        words["softmax"] = commands.softmax_command
    return wiring.Signature({name: Out(word(config)) for name, word in words.items()})


def row_writes(config: AcceleratorConfig) -> wiring.Signature:
    """What the side loader writes into the rows, from row 0 down: words of a LOAD, entries of tables."""
    return wiring.Signature({"load": Out(commands.load_word(config)), "table_write": Out(commands.table_write(config))})


def columns(config: AcceleratorConfig) -> wiring.Signature:
    """The weight side's side of the array.

    Members:
        weights: a word per column, at row 0; elements of a column of pair p come FEED_LATENCY + p cycles and their
            `element_delays` after the weight command, meaningless without one.
        collected: words of K and V from the bottom row; word j is in its memory for commands from j + 1 cycles later on.
    """
    weights = Out(commands.weight_word(config)).array(config.cols)
    return wiring.Signature({"weights": weights, "collected": In(commands.collector_word(config))})


def issue_events() -> wiring.Signature:
    """What the issue does in a cycle, for the counters; all belongs to the cycle of the decision, one before the command.

    Every cycle has exactly one of `array`, `gate` or a cause in `stall`, but for those of a SOFTMAX's pass; waiting for the drain
    interval and being stopped count as `drain`.

    Members:
        operation: of the descriptor at work; while it waits for a NORM the operation is NORM.
        array, attention_array: a word is issued; it belongs to an attention.
        norm: the NORM at work decides a command that normalises, whatever else is at work.
        gate: a GATE or END is at work.
        tiles: a tile begins.
        stall: why nothing is issued.
    """
    events = ("array", "attention_array", "norm", "gate", "tiles")
    return wiring.Signature({"operation": Out(4), **{name: Out(1) for name in events}, "stall": Out(stall_causes())})


def fetch_events() -> wiring.Signature:
    """Descriptors that are handed on, and those that a path mask drops: one cycle high for each."""
    return wiring.Signature({"descriptors": Out(1), "descriptors_skipped": Out(1)})


def batch_events() -> wiring.Signature:
    """The batch, for the counters.

    Members:
        clear: sets all to 0, over any event.
        busy: counts cycles.
        exits_low: one cycle high per image that leaves at a gate.
    """
    return wiring.Signature({"clear": Out(1), "busy": Out(1), "exits_low": Out(1)})
