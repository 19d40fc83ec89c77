"""What a proof says: properties and assumptions around a component, with its registers and memories in reach."""

from amaranth.asserts import AnyConst, AnySeq
from amaranth.hdl import Assert, Assume, ClockDomain, Const, Fragment, MemoryInstance, Module, Signal, Value
from amaranth.lib.wiring import Component, In


def drive_freely(m: Module, component: Component, *, but: tuple[str, ...] = ()) -> None:
    """Give every input of a component any value in any cycle.

    Args:
        m: the module around it.
        component: whose ports are driven.
        but: names of inputs, flattened with ``__``, that are left to the caller.
    """
    for path, member, value in component.signature.flatten(component):
        if member.flow == In and "__".join(map(str, path)) not in but:
            value = Value.cast(value)
            m.d.comb += value.eq(AnySeq(len(value)))


class Opened:
    """A component elaborated once, so that invariants may speak of what is inside it.

    Args:
        component: anything that elaborates.
    """

    def __init__(self, component):
        self.fragment = Fragment.get(component, None)

    def _part(self, path: list[str]) -> Fragment:
        part = self.fragment
        for name in path:
            part = part.find_subfragment(name)
        return part

    def signal(self, path: str) -> Signal:
        """A signal that the component drives, by its name behind the names of submodules, as in ``beats.inner_level``.

        Raises:
            KeyError: when there is no such signal; the message lists those that are.
        """
        *parts, name = path.split(".")
        fragment = self._part(parts)
        found = {}
        for statements in fragment.statements.values():
            for statement in statements:
                found.update({signal.name: signal for signal in statement._lhs_signals()})
        if name not in found:
            raise KeyError(f"{path} must be one of {', '.join(sorted(found))}")
        return found[name]

    def in_state(self, state: str, machine: str = "fsm") -> Value:
        """Whether a state machine of the component is in a state."""
        fsm = self.fragment.find_generated(machine)
        return fsm.state == fsm.encoding[state]

    def rows(self, path: str) -> list[Signal]:
        """The present contents of a memory, row by row, by the names of the submodules that lead to it."""
        instance = self._part(path.split("."))
        while not isinstance(instance, MemoryInstance):
            ((instance, _, _),) = instance.subfragments
        depth, width = instance._data.depth, Value.cast(Signal(instance._data.shape)).shape().width
        result = []
        for row in range(depth):
            data = Signal(width, name=f"row_{row}")
            address = Const(row, (depth - 1).bit_length())
            instance.read_port(domain="comb", addr=address, data=data, en=Const(1), transparent_for=())
            result.append(data)
        return result


class Harness:
    """The module around a component under proof, and the list of what is claimed of it.

    There is one clock and no reset: registers begin with their initial values.

    Args:
        strengthened: whether invariants count; a defect must break a property.

    Attributes:
        m: the module.
        clock: its only input.
        properties: texts of the properties, in order; `indicators` are 1 where they hold.
        invariants: as `properties`, of what only the induction needs.
    """

    def __init__(self, *, strengthened: bool = True):
        self._strengthened = strengthened
        self.m = Module()
        self.m.domains.sync = domain = ClockDomain("sync", reset_less=True)
        self.clock = domain.clk
        self.properties: list[str] = []
        self.invariants: list[str] = []
        self.indicators: list[Signal] = []
        self._parts = 0

    def add(self, component) -> Opened:
        """Take in a component under proof."""
        opened = Opened(component)
        self._parts += 1
        self.m.submodules[f"part_{self._parts}"] = opened.fragment
        return opened

    def prove(self, text: str, condition) -> None:
        """Claim that a condition holds in every cycle; several conditions may share a text."""
        if text not in self.properties:
            self.properties.append(text)
        self._assert(f"property_{self.properties.index(text)}", condition)

    def invariant(self, text: str, condition) -> None:
        """Claim a condition on the inside of the component; it is proven like any other, but finds no defects."""
        if not self._strengthened:
            return
        if text not in self.invariants:
            self.invariants.append(text)
        self._assert(f"invariant_{self.invariants.index(text)}", condition)

    def _assert(self, name: str, condition) -> None:
        holds = Signal(name=f"{name}_{len(self.indicators)}")
        self.indicators.append(holds)
        self.m.d.comb += [holds.eq(Value.cast(condition).any()), Assert(holds)]

    def assume(self, condition) -> None:
        """Restrict the environment in every cycle."""
        self.m.d.comb += Assume(condition)

    def any_value(self, shape, name: str) -> Signal:
        """A signal that has any value in any cycle."""
        signal = Signal(shape, name=name)
        self.m.d.comb += Value.cast(signal).eq(AnySeq(len(Value.cast(signal))))
        return signal

    def any_constant(self, shape, name: str) -> Signal:
        """A signal of any value that never changes."""
        signal = Signal(shape, name=name)
        self.m.d.comb += Value.cast(signal).eq(AnyConst(len(Value.cast(signal))))
        return signal

    def past(self, value, *, init: int = 0) -> Signal:
        """A value one cycle ago; ``init`` in the first cycle."""
        value = Value.cast(value)
        result = Signal(len(value), init=init)
        self.m.d.sync += result.eq(value)
        return result

    def offered(self, valid, ready) -> Signal:
        """Whether the cycle before ended with ``valid`` and no ``ready``: AXI then wants the same again."""
        return self.past(valid & ~ready)

    def held(self, valid, ready, *payload) -> Value:
        """The handshake rule: once ``valid``, it stays and the payload with it until ``ready``."""
        waited = self.offered(valid, ready)
        same = Const(1)
        for value in payload:
            same = same & (Value.cast(value) == self.past(value))
        return ~waited | (valid & same)
