"""The machine with a memory on the chip and a UART to a host."""

from collections.abc import Iterable
from typing import Any

from amaranth.hdl import Module
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from hw.accelerator import Accelerator
from hw.boards.shell.host_bridge import HostBridge
from hw.boards.shell.shared_memory import SharedMemory
from hw.boards.shell.uart import UartReceiver, UartTransmitter
from hw.config import AcceleratorConfig
from hw.memory.axi import AXI4ReadSignature, AXI4WriteSignature


def connect_channels(m: Module, signature: wiring.Signature, master: Any, slave: Any) -> None:
    """Connect the channels of ``signature``, as the master sees it, which may be a part of what either has."""
    for name, member in signature.members.items():
        source, target = (master, slave) if member.flow == Out else (slave, master)
        m.d.comb += getattr(target, name).eq(getattr(source, name))


class ByteShell(wiring.Component):
    """The machine and its memory behind a `HostBridge`.

    Args:
        config: the machine.
        memory_bytes: of the memory on the chip, a power of two.
        shared: as `Accelerator`.

    Members:
        received, sent: the bridge's bytes from and to the host.
        interrupt: the machine's.
    """

    def __init__(self, config: AcceleratorConfig, memory_bytes: int, *, shared: bool):
        self._config, self._memory_bytes, self._shared = config, memory_bytes, shared
        super().__init__({"received": In(stream.Signature(8)), "sent": Out(stream.Signature(8)), "interrupt": Out(1)})

    def elaborate(self, platform) -> Module:
        m = Module()
        config = self._config
        m.submodules.machine = machine = Accelerator(config, shared=self._shared)
        m.submodules.bridge = bridge = HostBridge(config)
        readers = [*(getattr(machine, f"m{port}_axi") for port in range(config.weight_ports + 1)), bridge.memory]
        writers = [machine.m0_axi, bridge.memory]
        m.submodules.memory = memory = SharedMemory(config, size=self._memory_bytes, readers=len(readers), writers=len(writers))
        channels = (config.address_width, config.axi_bytes)
        self._connect_all(m, AXI4ReadSignature(*channels), readers, memory.readers)
        self._connect_all(m, AXI4WriteSignature(*channels), writers, memory.writers)
        wiring.connect(m, wiring.flipped(self.received), bridge.received)
        wiring.connect(m, wiring.flipped(self.sent), bridge.sent)
        wiring.connect(m, bridge.control, machine.s_axi)
        m.d.comb += self.interrupt.eq(machine.interrupt)
        return m

    @staticmethod
    def _connect_all(m: Module, signature: wiring.Signature, masters: Iterable, slaves: Iterable) -> None:
        for master, slave in zip(masters, slaves, strict=True):
            connect_channels(m, signature, master, slave)


class UartShell(wiring.Component):
    """A `ByteShell` on the two lines of a UART.

    Args:
        config, memory_bytes, shared: as `ByteShell`.
        divisor: cycles of a bit.

    Members:
        rx: line from the host, synchronous to the clock.
        tx: line to the host.
        interrupt: the machine's.
    """

    def __init__(self, config: AcceleratorConfig, memory_bytes: int, divisor: int, *, shared: bool):
        self._divisor = divisor
        self._inside = ByteShell(config, memory_bytes, shared=shared)
        super().__init__({"rx": In(1, init=1), "tx": Out(1, init=1), "interrupt": Out(1)})

    def elaborate(self, platform) -> Module:
        m = Module()
        m.submodules.inside = inside = self._inside
        m.submodules.receiver = receiver = UartReceiver(self._divisor)
        m.submodules.transmitter = transmitter = UartTransmitter(self._divisor)
        wiring.connect(m, receiver.data, inside.received)
        wiring.connect(m, inside.sent, transmitter.data)
        m.d.comb += [receiver.line.eq(self.rx), self.tx.eq(transmitter.line), self.interrupt.eq(inside.interrupt)]
        return m
