"""The NORM issue at its interface: no row tile before its residual is complete, none declared ready too early."""

from unittest.mock import patch

from amaranth.hdl import Mux, Signal
from amaranth.lib import data

from hw import isa
from hw.config import AcceleratorConfig
from hw.control import norm_issue
from hw.control.norm_issue import NormIssue
from hw.formal.harness import Harness, drive_freely
from hw.formal.proof import Mutant, Proof
from hw.formal.read_master import machine
from hw.isa import Opcode

_MODULE = "hw.control.norm_issue"
_STATISTICS, _WRITTEN = 3, 3
"""Latencies in place of those of `hw.timing`, so that few cycles show two row tiles."""


def _norm(config: AcceleratorConfig):
    def describe(h: Harness) -> None:
        m = h.m
        with patch.object(norm_issue, "STATISTICS_LATENCY", _STATISTICS), patch.object(norm_issue, "NORM_LATENCY", _WRITTEN):
            issue = NormIssue(config)
            h.add(issue)
        drive_freely(m, issue, but=("stop",))
        head, command = data.View(isa.descriptor_layout(Opcode.NORM), issue.descriptor), issue.norm
        h.assume(~issue.start | ~issue.busy)
        for field, most in (("words", 2), ("row_tiles", 2)):
            h.assume((head[field] != 0) & (head[field] <= most))
        words, row_tiles = Signal(2), Signal(2)
        first, waits, told = Signal.like(command.row_tile, name="first"), Signal(), Signal()
        begun, passes, commands, age = Signal(4), Signal(4), Signal(4), Signal(4)
        index, steps = Signal(4), config.pe_depth // config.norm_elements
        m.d.comb += index.eq(Mux(command.capture, 0, commands))
        m.d.sync += [
            begun.eq(begun + command.statistics),
            passes.eq(passes + command.capture),
            commands.eq(Mux(command.valid, index + 1, commands)),
            age.eq(Mux(command.statistics, 1, Mux(age == 15, 15, age + 1))),
        ]
        with m.If(issue.start):
            m.d.sync += [begun.eq(0), passes.eq(0), commands.eq(0), words.eq(head.words), row_tiles.eq(head.row_tiles)]
            m.d.sync += [first.eq(head.first_row_tile), waits.eq((head.flags & isa.FLAG_WAIT) != 0)]
        m.d.sync += told.eq(~issue.start & (told | issue.quiet))  # since the NORM is at hand
        residual = h.past(issue.residual_tiles)
        h.prove(
            "statistics of a row tile only when its residual is complete",
            ~command.statistics | told | (~waits & (residual > begun)),
        )
        state = (first + begun)[: len(first)]
        h.prove(
            "statistics of each row tile once, in order, by its row state",
            ~command.statistics | ((command.row_tile == state) & (begun < row_tiles)),
        )
        h.prove("a pass begins when its statistics are there", ~command.capture | ((passes < begun) & (age >= _STATISTICS)))
        h.prove("a pass has all words, and no more", ~command.valid | (index < words * steps))
        h.prove("the passes of a NORM are its row tiles", (passes <= row_tiles) & (issue.normalized_tiles <= row_tiles))
        h.prove("a pass begins behind the one before", ~command.capture | (passes == 0) | (commands == words * steps))

        # One word of one row tile: a feed command may read it `word` cycles after the row tile's first.
        tile, word = h.any_constant(1, "followed_tile"), h.any_constant(1, "followed_word")
        row = passes - 1 + command.capture
        written = command.valid & (row == tile) & (index == word * steps + steps - 1)
        since_written, was_written = Signal(5), Signal()
        ready = h.past(issue.normalized_tiles > tile) & (issue.normalized_tiles > tile)
        since_ready = Signal(5)
        m.d.sync += [
            was_written.eq(~issue.start & (was_written | written)),
            since_written.eq(Mux(was_written, since_written + (since_written != 31), 1)),
            since_ready.eq(Mux(ready, since_ready + (since_ready != 31), 0)),
        ]
        in_time = Mux(
            was_written | written,
            since_ready + _WRITTEN <= word + Mux(was_written, since_written, 0),
            since_ready + _WRITTEN < word,
        )
        h.prove(
            "a row tile is ready only when each of its words is written before its feed command", ~ready | (word >= words) | in_time
        )
        done = (passes == row_tiles) & (commands == words * steps)
        h.prove("a NORM is done only when all is written", issue.busy | h.past(~issue.busy) | done)

    return describe


PROOFS = (
    Proof(
        "norm-issue",
        "hw.control.norm_issue.NormIssue",
        f"depth 2; NORMs of at most 2 words and 2 row tiles; STATISTICS_LATENCY {_STATISTICS}, NORM_LATENCY {_WRITTEN}",
        _norm(machine(pe_depth=2, rows=2, row_tiles=2)),
        18,
        bounded=True,
        search=18,
        slow=True,
        mutants=(
            Mutant("statistics a row tile early", _MODULE, "(row_tile < self.residual_tiles)", "(row_tile <= self.residual_tiles)"),
            Mutant("quiet of the NORM before", _MODULE, "~self.start & (was_quiet | self.quiet)", "was_quiet | self.quiet"),
            Mutant("a NORM that does not wait", _MODULE, "((norm.flags & isa.FLAG_WAIT) == 0)", "1"),
            Mutant("a pass before its statistics", _MODULE, "timer.eq(STATISTICS_LATENCY - 1)", "timer.eq(STATISTICS_LATENCY - 2)"),
            Mutant("ready a cycle early", _MODULE, "head.words * steps - head.words)", "head.words * steps - head.words - 1)"),
        ),
    ),
)
