"""AXI4 memories for Amaranth's simulator: random waits, interleaved identifiers, protocol checks."""

import random
from collections import deque

from hw.config import AcceleratorConfig


class ReadMemory:
    """Answers the read channels ``axi`` of a master from ``contents``; drive it with `process`.

    Args:
        busy: chance that a cycle refuses AR or gives no beat.
        latency: fewest cycles from an address to its first beat.
        bad: addresses of beats that answer SLVERR.
    """

    def __init__(self, config: AcceleratorConfig, axi, contents: bytes, rng: random.Random, *, busy=0.0, latency=3, bad=()):
        self.config, self.axi, self.contents, self.rng = config, axi, contents, rng
        self.busy, self.latency, self.bad = busy, latency, set(bad)
        self.bursts: list[tuple[int, int, int]] = []  # (identifier, address, beats)
        self.most_flying = 0
        self.beat_cycles: list[int] = []

    def _take(self, identifier: int, address: int, length: int, size: int, burst: int, ready_at: int, queues) -> None:
        axi_bytes = self.config.axi_bytes
        beats = length + 1
        assert 1 << size == axi_bytes and burst == 1
        assert address % axi_bytes == 0 and beats <= self.config.burst_beats
        assert address // 4096 == (address + beats * axi_bytes - 1) // 4096
        assert address + beats * axi_bytes <= len(self.contents), f"read beyond memory at {address:#x}"
        self.bursts.append((identifier, address, beats))
        queues[identifier].append([ready_at, address, beats])

    async def process(self, ctx) -> None:
        axi, axi_bytes, cycle = self.axi, self.config.axi_bytes, 0
        queues: dict[int, deque] = {0: deque(), 1: deque()}
        waiting, arready, rvalid = None, 0, 0
        sample = (axi.arvalid, axi.arid, axi.araddr, axi.arlen, axi.arsize, axi.arburst, axi.rready)
        async for _, _, arvalid, *address, rready in ctx.tick().sample(*sample):
            cycle += 1
            assert waiting is None or (arvalid and waiting == address), "AR must hold until it is taken"
            waiting = address if arvalid and not arready else None
            if arvalid and arready:
                self._take(*address, cycle + self.latency, queues)
            if not rvalid or rready:
                ready = [key for key, queue in queues.items() if queue and queue[0][0] <= cycle]
                rvalid = int(bool(ready) and self.rng.random() >= self.busy)
                if rvalid:
                    queue = queues[key := self.rng.choice(ready)]
                    entry = queue[0]
                    ctx.set(axi.rid, key)
                    ctx.set(axi.rdata, int.from_bytes(self.contents[entry[1] : entry[1] + axi_bytes], "little"))
                    ctx.set(axi.rresp, 2 if entry[1] in self.bad else 0)
                    ctx.set(axi.rlast, int(entry[2] == 1))
                    self.beat_cycles.append(cycle)
                    self.most_flying = max(self.most_flying, sum(map(len, queues.values())))
                    entry[1], entry[2] = entry[1] + axi_bytes, entry[2] - 1
                    if not entry[2]:
                        queue.popleft()
                ctx.set(axi.rvalid, rvalid)
            arready = int(self.rng.random() >= self.busy)
            ctx.set(axi.arready, arready)


class WriteMemory:
    """Takes the write channels ``axi`` of a master into ``contents``; arguments as `ReadMemory`, ``bad``: addresses of bursts."""

    def __init__(self, config: AcceleratorConfig, axi, size: int, rng: random.Random, *, busy=0.0, latency=3, bad=()):
        self.config, self.axi, self.contents, self.rng = config, axi, bytearray(b"\xee" * size), rng
        self.busy, self.latency, self.bad = busy, latency, set(bad)
        self.bursts: list[tuple[int, int]] = []
        self.answered = 0

    async def process(self, ctx) -> None:
        axi, axi_bytes, cycle = self.axi, self.config.axi_bytes, 0
        addresses, beats, responses = deque(), deque(), deque()
        awready = wready = bvalid = 0
        sample = (axi.awvalid, axi.awaddr, axi.awlen, axi.wvalid, axi.wdata, axi.wstrb, axi.wlast, axi.bready)
        async for _, _, awvalid, awaddr, awlen, wvalid, wdata, wstrb, wlast, bready in ctx.tick().sample(*sample):
            cycle += 1
            if awvalid and awready:
                assert awaddr % axi_bytes == 0 and awlen < self.config.burst_beats
                assert awaddr // 4096 == (awaddr + (awlen + 1) * axi_bytes - 1) // 4096
                addresses.append((awaddr, awlen + 1))
                self.bursts.append((awaddr, awlen + 1))
            if wvalid and wready:
                assert wstrb == (1 << axi_bytes) - 1
                beats.append((wdata, wlast))
            while addresses and len(beats) >= addresses[0][1]:
                address, count = addresses.popleft()
                for index in range(count):
                    value, last = beats.popleft()
                    assert last == (index == count - 1)
                    start = address + index * axi_bytes
                    self.contents[start : start + axi_bytes] = value.to_bytes(axi_bytes, "little")
                responses.append((cycle + self.latency, 2 if address in self.bad else 0))
            self.answered += bvalid and bready
            if not bvalid or bready:
                bvalid = int(bool(responses) and responses[0][0] <= cycle and self.rng.random() >= self.busy)
                if bvalid:
                    ctx.set(axi.bresp, responses.popleft()[1])
                ctx.set(axi.bvalid, bvalid)
            awready, wready = (int(self.rng.random() >= self.busy) for _ in range(2))
            ctx.set(axi.awready, awready)
            ctx.set(axi.wready, wready)
