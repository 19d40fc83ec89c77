"""The GEMM issue at its interface: nothing is used that is not loaded, nothing given back that was not taken."""

from amaranth.hdl import Signal
from amaranth.lib import data

from hw import isa
from hw.config import AcceleratorConfig
from hw.control.gemm_issue import GemmIssue
from hw.formal.harness import Harness, drive_freely
from hw.formal.proof import Mutant, Proof
from hw.formal.read_master import machine
from hw.isa import Opcode, Post

_MODULE = "hw.control.gemm_issue"


def _issue(config: AcceleratorConfig):
    def describe(h: Harness) -> None:
        issue = GemmIssue(config)
        h.add(issue)
        drive_freely(h.m, issue)
        m, credits = h.m, issue.weight_credits
        head = data.View(isa.descriptor_layout(Opcode.GEMM), issue.head)
        h.assume(~issue.accept | issue.ready)
        for field, most in (("k_words", 2), ("row_tiles", 2), ("columns", config.cols + 1)):
            h.assume((head[field] != 0) & (head[field] <= most))
        h.assume(head.post <= max(Post))

        def count(text: str, name: str, gained, spent, most: int) -> Signal:
            """Counts credits by what is seen at the ports; the environment loads no more than there is room for."""
            credit = Signal(8, name=name)
            m.d.sync += credit.eq(credit + gained - spent)
            h.assume(~gained | (credit < most))
            h.prove(text, ~spent | (credit != 0))
            return credit

        h.prove("a column tile of weights is taken only while one is there", ~credits.take | credits.available)
        taken = Signal(8)
        m.d.sync += taken.eq(taken + credits.take - credits.release)
        h.prove("weights are given back once for each time that they were taken", (~credits.release | (taken != 0)) & (taken <= 2))
        used = issue.tile.valid & issue.tile.release
        count("a column tile's parameters are used up only if they were loaded", "parameters", issue.parameter_loaded, used, 2)
        for bit, kind in enumerate(("activation", "exp")):
            name = f"tables_{bit}"
            loaded = count(
                f"a table ({kind}) is released only if it was loaded",
                name,
                issue.table_credits.loaded[bit],
                issue.table_credits.release[bit],
                2,
            )
            activates = issue.tile.valid & (issue.tile.post == Post.ACTIVATION)
            user = activates if bit == 0 else issue.feed.valid & issue.feed.exponential
            h.prove(f"a table ({kind}) is used only while it is loaded", ~user | (loaded != 0))

    return describe


PROOFS = (
    Proof(
        "gemm-issue-credits",
        "hw.control.gemm_issue.GemmIssue",
        "rows 2, cols 2, depth 2; GEMMs of at most 2 words, 2 row tiles and 2 column tiles, any number of them resident, in any "
        "order; NORMs at any time",
        _issue(machine(rows=2, cols=2, pe_depth=2)),
        14,
        bounded=True,
        search=14,
        slow=True,
        mutants=(
            Mutant(
                "takes weights that are not there", _MODULE, 'needs & ~flag["KV"] & ~self.weight_credits.available', "needs & 0"
            ),
            Mutant("uses parameters that are not there", _MODULE, 'flag["PER_COLUMN"] & (parameter_credit == 0)', "0"),
            Mutant(
                "keeps the weights of a token_major GEMM",
                "hw.control.gemm_loops",
                "self.last_use.eq(token_major | self.last_row_tile)",
                "self.last_use.eq(self.last_row_tile)",
            ),
            Mutant(
                "takes the weights of a token_major GEMM once",
                "hw.control.gemm_loops",
                "self.first_use.eq(token_major | (self.row_tile == 0))",
                "self.first_use.eq(self.row_tile == 0)",
            ),
            Mutant("uses a table that is not there", _MODULE, 'flag["EXP"] & ~exp_tables.available', "0"),
        ),
    ),
)
