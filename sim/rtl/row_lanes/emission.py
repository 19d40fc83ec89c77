"""A stack of rows as a SystemVerilog module of loops over rows."""

import re
from collections.abc import Iterator, Sequence

from sim.rtl.row_lanes.expressions import Expressions
from sim.rtl.row_lanes.netlist import Bit, Memory, Net, Row, UnsuitedRows
from sim.rtl.row_lanes.stack import Stack

LEAST_LANES = 16
"""Loops run over a power of two of rows, and at least this many: whole vector registers, without a remainder. Rows that do
not exist compute what nobody reads."""

LARGEST_EXPRESSION = 40
"""Operations in one loop, at most; longer expressions are cut by arrays."""

LOOPS_PER_TASK = 50
"""Loops in one function of the simulation: compile time grows faster than a function's length."""

Statement = tuple[str, int]
"""A statement on row ``r``, and the number of rows that it is for; 0 for one that stands alone."""


class StackEmitter:
    """Writes the module.

    A cycle computes the rows' inputs, then all combinational nets, then writes memories and registers: an update comes
    before those of the registers that it reads. Arrays and indices have a power of two of places, so that Verilator
    checks no bounds; that and an index no wider than needed are what the C++ compiler vectorizes.

    Args:
        row: the rows' netlist; nets for its inputs are added.
        stack: how rows hang together.
    """

    def __init__(self, row: Row, stack: Stack):
        self.row = row
        self.stack = stack
        self.lanes = max(LEAST_LANES, 1 << (stack.rows - 1).bit_length())
        self.index_bits = self.lanes.bit_length()  # the loops' last increment must not wrap
        self.above: list[tuple[Net, Net, int, str]] = []  # net, register above, its first bit, expression for row 0
        self._add_inputs()
        self.live, self.memories = self._find_live()
        self.expressions = Expressions(row)

    def _stack_bits(self, bits: Sequence[Bit]) -> str:
        """Bits of the stack's inputs as an expression."""
        places = {
            bit: (name, index)
            for name, port in self.stack.ports.items()
            if port["direction"] == "input"
            for index, bit in enumerate(port["bits"])
        }
        pieces: list[list[tuple[str, int]]] = []
        for bit in bits:
            name, index = ("", int(bit == "1")) if isinstance(bit, str) else places[bit]
            if name and pieces and pieces[-1][-1] == (name, index - 1):
                pieces[-1].append((name, index))
            else:
                pieces.append([(name, index)])
        texts = []
        for piece in pieces:
            name, first = piece[0]
            if not name:
                texts.append(f"1'd{first}")
            elif len(self.stack.ports[name]["bits"]) == len(piece):
                texts.append(name)
            else:
                texts.append(f"{name}[{piece[-1][1]}:{first}]")
        return texts[0] if len(texts) == 1 else f"{{{', '.join(reversed(texts))}}}"

    def _add_inputs(self) -> None:
        """Nets for the row's inputs: runs of bits that one register of the row above drives, or uniform bits."""
        for port, description in self.row.ports.items():
            if description["direction"] != "input":
                continue
            run: list[tuple[Bit, Net, int, Bit]] = []
            for index, bit in enumerate(description["bits"]):
                if (port, index) in self.stack.uniform:
                    self.row.add_net([bit], "uniform").name = self._stack_bits([self.stack.uniform[port, index]])
                    continue
                below, position, first = self.stack.above[port, index]
                register, offset = self._register(self.row.ports[below]["bits"][position], below)
                if run and (run[-1][1] is not register or run[-1][2] + 1 != offset):
                    self._add_run(run)
                    run = []
                run.append((bit, register, offset, first))
            if run:
                self._add_run(run)

    def _add_run(self, run: list[tuple[Bit, Net, int, Bit]]) -> None:
        net = self.row.add_net([bit for bit, *_ in run], "above")
        self.above.append((net, run[0][1], run[0][2], self._stack_bits([first for *_, first in run])))

    def _register(self, bit: Bit, port: str) -> tuple[Net, int]:
        net, offset = self.row.driver.get(bit, (None, 0))
        if net is None or net.kind != "register":
            raise UnsuitedRows(f"The rows' output {port} must come from registers")
        return net, offset

    def _needs(self, vectors: Sequence[Sequence[Bit]]) -> list[Net]:
        return list(
            {
                net.name: net for bits in vectors for bit in bits if bit in self.row.driver for net, _ in [self.row.driver[bit]]
            }.values()
        )

    def _find_live(self) -> tuple[list[Net], list[Memory]]:
        """Nets and memories that decide an output."""
        registers = {net.name: register for net, register, _, _ in self.above}
        live: set[str] = set()
        memories: set[str] = set()
        outputs = [bit for port in self.stack.ports.values() if port["direction"] == "output" for bit in port["bits"]]
        ends = [self.stack.outputs[bit] for bit in outputs if bit in self.stack.outputs]
        waiting = self._needs([[self.row.ports[port]["bits"][index] for _, port, index in ends]])
        while waiting:
            net = waiting.pop()
            if net.name in live:
                continue
            live.add(net.name)
            waiting += self._needs(list(net.inputs.values()))
            if net.kind == "above":
                waiting.append(registers[net.name])
            if net.memory is not None and net.memory.name not in memories:
                memories.add(net.memory.name)
                waiting += self._needs([bits for write in net.memory.writes for bits in write])
        return (
            [net for net in self.row.nets if net.name in live],
            [memory for memory in self.row.memories if memory.name in memories],
        )

    def emit(self, name: str) -> str:
        """Text of the module, called ``name``."""
        self._arrays: list[tuple[str, int, int]] = []  # name, bits, elements for each row
        for net in self.live:
            if net.kind in ("register", "above"):
                self._arrays.append((net.name, net.width, 1))
        statements = [*self._inputs(), *self._combinational(), *self._writes(), *self._updates()]
        places = 1 << self.index_bits
        inputs, outputs = self._ports("input"), self._ports("output")
        ports = [f"input clk{''.join(f', input {kind}{port}' for port, kind in inputs.items())}"]
        ports += [f"output reg {kind}{port}" for port, kind in outputs.items()]
        initial = [
            f"    for (r = 0; r < {self.lanes}; r = r + 1) {net.name}[r] = {net.width}'d{net.initial};"
            for net in self.live
            if net.initial
        ]
        lines = [
            f"module {name} ({', '.join(ports)});",
            *(f"  reg [{bits - 1}:0] {array} [0:{places * elements - 1}];" for array, bits, elements in self._arrays),
            *self._tasks(statements, inputs, outputs),
            *(["  initial begin : initial_values", "    integer r;", *initial, "  end"] if initial else []),
            "endmodule\n",
        ]
        return "\n".join(lines)

    def _ports(self, direction: str) -> dict[str, str]:
        """Ranges of the stack's ports by name, without the clock."""
        found = {name: len(port["bits"]) for name, port in self.stack.ports.items() if port["direction"] == direction}
        return {name: f"[{width - 1}:0] " for name, width in found.items() if name != "clk"}

    def _inputs(self) -> Iterator[Statement]:
        live = {net.name for net in self.live}
        for net, register, offset, first in self.above:
            if net.name in live:
                whole = offset == 0 and net.width == register.width
                piece = "" if whole else f"[{offset + net.width - 1}:{offset}]"
                yield f"{net.name}[r + {self.index_bits}'d1] = {register.name}[r]{piece};", self.lanes
                yield f"{net.name}[0] = {first};", 0

    def _ordered(self) -> list[Net]:
        """Combinational nets, inputs first."""
        done: dict[str, Net] = {}
        for root in self.live:
            path = [root] if root.is_combinational else []
            while path:
                net = path[-1]
                missing = [
                    other for other in self._needs(list(net.inputs.values())) if other.is_combinational and other.name not in done
                ]
                if net.name in done or not missing:
                    done[net.name] = net
                    path.pop()
                elif len(path) > len(self.live):
                    raise UnsuitedRows("Rows must have no combinational loop")
                else:
                    path.append(missing[0])
        return list(done.values())

    def _used_once(self) -> set[str]:
        """Nets that are used once, and then as a whole: what can be written where it is used."""
        vectors = [bits for net in self.live for bits in net.inputs.values()]
        vectors += [bits for memory in self.memories for write in memory.writes for bits in write]
        uses: dict[str, list[bool]] = {}
        for bits in vectors:
            for net, _, piece in self.expressions.runs(bits):
                if net is not None:
                    uses.setdefault(net.name, []).append(len(piece) == net.width)
        return {name for name, whole in uses.items() if whole == [True]}

    def _combinational(self) -> Iterator[Statement]:
        once = self._used_once()
        sizes: dict[str, int] = {}
        for net in self._ordered():
            size = 1 + sum(sizes.get(other.name, 0) for other in self._needs(list(net.inputs.values())))
            expression = self.expressions.of(net)
            if net.kind == "operation" and net.name in once and size <= LARGEST_EXPRESSION:
                self.expressions.inlined[net.name] = expression
                sizes[net.name] = size
            else:
                self._arrays.append((net.name, net.width, 1))
                yield f"{net.name}[r] = {expression};", self.stack.rows if net.kind == "read" else self.lanes

    def _writes(self) -> Iterator[Statement]:
        """Writes of memories: nothing is looped over where no row writes."""
        rows = self.stack.rows
        for memory in self.memories:
            self._arrays.append((memory.name, memory.width, 1 << memory.address_width))
            for number, (address, data, enable) in enumerate(memory.writes):
                enables, some = f"{memory.name}_enable_{number}", f"{memory.name}_some_{number}"
                together = len(set(enable)) == 1
                width = 1 if together else memory.width
                self._arrays += [(enables, width, 1), (some, width, 1)]
                place, value = self.expressions.place(memory, address), self.expressions.value(data)
                if not together:
                    value = f"({place} & ~{enables}[r]) | ({value} & {enables}[r])"
                guard = f"|{enables}[r]"
                if memory.size != 1 << memory.address_width:
                    guard = f"({guard}) && {self.expressions.value(address)} < {memory.size}"
                yield f"{enables}[r] = {self.expressions.value(enable[:width])};", rows
                yield f"{some}[0] = {width}'d0;", 0
                yield f"{some}[0] = {some}[0] | {enables}[r];", rows
                yield f"if (|{some}[0]) for (r = 0; r < {rows}; r = r + 1) if ({guard}) {place} = {value};", 0

    def _updates(self) -> list[Statement]:
        """Registers, each before those that it reads; where that is a circle, one of them by way of an array of its own."""
        texts = {net.name: self.expressions.of(net) for net in self.live if net.kind == "register"}
        reads = {name: set(re.findall(r"\bn\d+\b", text)) & texts.keys() - {name} for name, text in texts.items()}
        readers: dict[str, set[str]] = {name: {other for other in texts if name in reads[other]} for name in texts}
        widths = {net.name: net.width for net in self.live}
        early: list[Statement] = []
        late: list[Statement] = []
        pending = dict.fromkeys(texts)
        ready = [name for name in texts if not readers[name]]

        def release(name: str) -> None:
            for other in reads.pop(name, ()):
                readers[other].discard(name)
                if not readers[other] and other in pending:
                    ready.append(other)

        while pending:
            if not ready:
                name = next(iter(name for name in pending if name in reads))
                self._arrays.append((f"{name}_next", widths[name], 1))
                early.append((f"{name}_next[r] = {texts[name]};", self.lanes))
                texts[name] = f"{name}_next[r]"
                release(name)
                continue
            name = ready.pop()
            if name in pending:
                del pending[name]
                late.append((f"{name}[r] = {texts[name]};", self.lanes))
                release(name)
        return early + late

    def _tasks(self, statements: list[Statement], inputs: dict[str, str], outputs: dict[str, str]) -> list[str]:
        """The statements in tasks that are compiled apart, and the process that runs them.

        Verilator does not see what a task does to the arrays. Nothing else touches them, and the process hands all ports
        over to one task, whose body stays in order.
        """
        lines = ["  /*verilator lint_off IMPURE*/"]
        calls: list[str] = []

        def listed(names: list[str]) -> str:
            return f"({', '.join(names)})" if names else ""

        def task(name: str, used: dict[str, str], results: dict[str, str], body: list[str]) -> str:
            arguments = [f"input {kind}{port}" for port, kind in used.items()]
            arguments += [f"output {kind}{port}" for port, kind in results.items()]
            lines.extend([f"  task automatic {name}{listed(arguments)};", "    /*verilator no_inline_task*/", *body, "  endtask"])
            return f"    {name}{listed([*used, *results])};"

        for start in range(0, len(statements), LOOPS_PER_TASK):
            body = [f"    reg [{self.index_bits - 1}:0] r;"]
            for statement, count in statements[start : start + LOOPS_PER_TASK]:
                body.append(f"    {f'for (r = 0; r < {count}; r = r + 1) ' if count else ''}{statement}")
            words = set(re.findall(r"[\w$]+", " ".join(body)))
            calls.append(task(f"step_{len(calls)}", {port: kind for port, kind in inputs.items() if port in words}, {}, body))
        values = [f"    {port} = {self._output(self.stack.ports[port]['bits'])};" for port in outputs]
        calls.append(task("results", {}, outputs, values))
        call = task("step", inputs, outputs, calls).strip()
        lines += [f"  reg {kind}{port}_next;" for port, kind in outputs.items()]
        for port in outputs:
            call = re.sub(rf"(?<=[ (]){re.escape(port)}(?=[,)])", f"{port}_next", call)
        return [
            *lines,
            "  always @(posedge clk) begin",
            f"    {call}",
            *(f"    {port} <= {port}_next;" for port in outputs),
            "  end",
        ]

    def _output(self, bits: Sequence[Bit]) -> str:
        """An output of the stack after the edge."""
        pieces = []
        for bit in bits:
            if bit not in self.stack.outputs:
                raise UnsuitedRows("Outputs of the rows' module must come from a row")
            row, port, index = self.stack.outputs[bit]
            source = self.row.ports[port]["bits"][index]
            self._register(source, port)
            pieces.append((row, source))
        texts = []
        for row in dict.fromkeys(row for row, _ in pieces):
            texts.append(self.expressions.value([bit for other, bit in pieces if other == row], str(row)))
        return texts[0] if len(texts) == 1 else f"{{{', '.join(reversed(texts))}}}"
