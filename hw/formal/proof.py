"""What is to be proven, by which method, and which defects the proof must notice."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hw.formal.harness import Harness


@dataclass(frozen=True)
class Mutant:
    """A defect put into a component's source: its proof must find a counterexample.

    Attributes:
        what: the defect, in words.
        module: dotted name of the module that it is put into.
        old: text that occurs once in the module's source.
        new: what stands there instead.
    """

    what: str
    module: str
    old: str
    new: str


@dataclass(frozen=True)
class Proof:
    """Properties of one component.

    Attributes:
        name: what commands call it.
        component: what it is about.
        setting: the configuration that it holds for, in words.
        describe: puts the component, its environment and the properties into a `Harness`.
        depth: greatest k of the induction; with ``bounded``, cycles from the start.
        bounded: bounded model checking: the properties hold for the first ``depth`` cycles.
        mutants: defects that it must notice within ``search`` cycles.
        family: heading that it shares with proofs of the same properties at other sizes.
        slow: takes more than a few seconds.
    """

    name: str
    component: str
    setting: str
    describe: Callable[["Harness"], None]
    depth: int
    bounded: bool = False
    mutants: tuple[Mutant, ...] = ()
    search: int = 30
    family: str = ""
    slow: bool = False


@dataclass(frozen=True)
class Outcome:
    """What came of a proof.

    Attributes:
        proven: every property holds.
        depth: k of the induction that succeeded, cycles checked, or cycles of the counterexample.
        seconds: processor time.
        broken: properties and invariants that the counterexample breaks in its last cycle; empty without a counterexample.
        properties: what was claimed.
        invariants: number of auxiliary invariants.
        reason: why there is neither a proof nor a counterexample; empty where there is one.
    """

    proven: bool
    depth: int
    seconds: float = 0.0
    broken: tuple[str, ...] = ()
    properties: tuple[str, ...] = ()
    invariants: int = 0
    reason: str = ""
