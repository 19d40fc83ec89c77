"""Two burst readers on one AXI4 read master."""

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.config import AcceleratorConfig
from hw.memory.axi import AXI4ReadSignature


class ReadArbiter(wiring.Component):
    """The descriptor fetch (``arid`` 0, first) and the side loader (``arid`` 1) on the system port's read channels.

    Address and data pass in the same cycle. An address that waits for ``arready`` keeps its turn. Data goes where ``rid``
    says, so the memory may interleave the two. Both clients must always take data, as `BurstReader` does.

    Members:
        fetch, side: the clients' AXI4 read masters.
        axi: AXI4 read master of the system port.
    """

    def __init__(self, config: AcceleratorConfig):
        signature = AXI4ReadSignature(config.address_width, config.axi_bytes)
        super().__init__({"fetch": In(signature), "side": In(signature), "axi": Out(signature)})

    def elaborate(self, platform) -> Module:
        m = Module()
        locked = Signal()
        locked_side = Signal()
        side = Signal()
        m.d.comb += side.eq((locked & locked_side) | (~locked & ~self.fetch.arvalid))
        m.d.sync += [locked.eq(self.axi.arvalid & ~self.axi.arready), locked_side.eq(side)]
        for identifier, client in enumerate((self.fetch, self.side)):
            with m.If(side == identifier):
                m.d.comb += [
                    getattr(self.axi, name).eq(getattr(client, name))
                    for name in ("araddr", "arlen", "arsize", "arburst", "arvalid")
                ]
                m.d.comb += [self.axi.arid.eq(identifier), client.arready.eq(self.axi.arready)]
            m.d.comb += [
                client.rvalid.eq(self.axi.rvalid & (self.axi.rid == identifier)),
                client.rid.eq(self.axi.rid),
                client.rdata.eq(self.axi.rdata),
                client.rresp.eq(self.axi.rresp),
                client.rlast.eq(self.axi.rlast),
            ]
        m.d.comb += self.axi.rready.eq(1)
        return m
