"""Random machines, each with networks that it can just hold: what whole-machine tests draw from a seed."""

import random
from dataclasses import dataclass, replace

from hw.config import AcceleratorConfig
from hw.memory_timing import MemoryTiming

QUICK_SEEDS = (16, 47, 49)
"""Machines of the quick tests: few, but between them they have whatever `features` names."""
ALL_SEEDS = range(200)
"""Machines of the benchmark and of the slow tests."""
NETWORKS_PER_MACHINE = 3


@dataclass(frozen=True)
class RandomCase:
    """A machine with what it runs.

    Attributes:
        config: The machine.
        timing: Of its memory.
        networks: (name, loop order) of each network.
    """

    config: AcceleratorConfig
    timing: MemoryTiming
    networks: list[tuple[str, str]]


def random_case(seed: int) -> RandomCase:
    """The machine of a seed."""
    rng = random.Random(seed)
    networks = [random_network(rng) for _ in range(NETWORKS_PER_MACHINE)]
    config, timing = random_machine(rng, networks), random_timing(rng)
    case = RandomCase(config, timing, [(name, random_loop_order(rng)) for name in networks])
    return replace(case, config=_rarer(random.Random(f"rarer {seed}"), config, networks))


def features(case: RandomCase) -> set[str]:
    """What a machine, its memory and its networks have of all that tests of random machines are to meet."""
    config, timing = case.config, case.timing
    columns = "one column" if config.cols == 1 else "odd columns" if config.cols % 2 else "even columns"
    pe = "one product" if config.pe_depth == 1 else "one chain" if config.pe_depth <= 8 else "chains and a tree"
    orders = {"number of resident tiles" if order.isdecimal() else order for _, order in case.networks}
    found = {
        columns, pe, *orders, f"{config.weight_ports} weight ports", f"beats of {config.axi_bytes} bytes",
        f"{config.score_columns} scores a cycle", "exp units limited" if config.exp_units else "exp units unlimited",
        "one row" if config.rows == 1 else "rows as loops" if config.rows >= 8 else "rows",
        "words normalised whole" if config.norm_elements == config.pe_depth else "words normalised in groups",
        "memory below a port's peak" if timing.bytes_per_cycle < config.axi_bytes else "memory at a port's peak",
    }  # fmt: skip
    rarer = {
        "K and V gathered": config.gathers,
        "bursts of one beat": config.burst_beats == 1,
        "one burst at a time": min(config.outstanding, timing.outstanding) == 1,
        "colour": any("channels=3" in name for name, _ in case.networks),
        "a deep network": any("depth=2" in name for name, _ in case.networks),
    }
    return found | {name for name, has in rarer.items() if has}


def random_network(rng: random.Random) -> str:
    """Name of a small ViT with odd shapes, about 10,000 to 200,000 multiply-accumulates."""
    heads = rng.randint(1, 3)
    dim = heads * rng.randint(1, 30 // heads)
    hidden = rng.randint(1, 3 * dim)
    numbers = {
        "dim": max(6, dim - dim % heads), "depth": rng.randint(1, 2), "heads": heads, "tokens": rng.randint(2, 21),
        "classes": rng.randint(2, 17), "patch": rng.randint(1, 5), "channels": rng.choice([1, 1, 3]),
    }  # fmt: skip
    numbers["dim"] = -(-numbers["dim"] // heads) * heads
    numbers["mlp_ratio"] = max(1, hidden // numbers["dim"])
    return "vit:" + ",".join(f"{name}={value}" for name, value in numbers.items())


def random_timing(rng: random.Random) -> MemoryTiming:
    """Memory from ideal to starving."""
    return MemoryTiming(
        latency=rng.choice([1, 2, 7, 40, 120]), bytes_per_cycle=rng.choice([3, 8, 16, 32, 64]),
        outstanding=rng.choice([1, 2, 4, 16]),
    )  # fmt: skip


def random_loop_order(rng: random.Random) -> str:
    """A loop order of `sw.compiler.loop_order`."""
    return rng.choice(["auto", "auto", "weight_major", "token_major", str(rng.randint(2, 5))])


def random_machine(rng: random.Random, networks: list[str]) -> AcceleratorConfig:
    """A configuration of a random shape whose buffers hold the networks with little or no room to spare."""
    rows, cols, pe_depth = rng.randint(1, 9), rng.randint(1, 9), rng.randint(1, 8)
    least = _least(networks, rows, cols, pe_depth)
    config = AcceleratorConfig(
        rows=rows, cols=cols, pe_depth=pe_depth, **least,
        norm_elements=rng.choice([n for n in range(1, pe_depth + 1) if pe_depth % n == 0]),
        weight_ports=rng.randint(1, 3), axi_bytes=rng.choice([8, 16, 16, 32]), burst_beats=rng.choice([1, 3, 8, 16]),
        outstanding=rng.randint(1, 8), queue_depth=rng.randint(2, 9),
    )  # fmt: skip
    return replace(config, **_grown(rng, least))


def _least(networks: list[str], rows: int, cols: int, pe_depth: int) -> dict[str, int]:
    """Smallest buffers with which the networks work."""
    from sw.compiler.memory_map import required_config
    from sw.networks.network import parse_network

    needs = [required_config(parse_network(name), rows, cols, pe_depth) for name in networks]
    return {field: max(need[field] for need in needs) for field in needs[0]}


def _grown(rng: random.Random, least: dict[str, int]) -> dict[str, int]:
    """Buffers with little or no room to spare."""
    grown = {name: value + rng.choice([0, 0, 1, rng.randint(0, value)]) for name, value in least.items()}
    return grown | {"row_tiles": min(256, grown["row_tiles"])}


def _rarer(rng: random.Random, config: AcceleratorConfig, networks: list[str]) -> AcceleratorConfig:
    """The machine with what few have: limited exp units, one column, PEs deeper than a chain of packed products."""
    fields: dict[str, int] = {}
    if rng.random() < 1 / 3:
        fields["exp_units"] = rng.randint(1, config.rows)
    if rng.random() < 1 / 5:
        cols = rng.choice([1, config.cols])
        pe_depth = 64 if cols == 1 and config.rows <= 4 and rng.random() < 1 / 3 else rng.randint(9, 16)
        divisors = [n for n in range(1, pe_depth + 1) if pe_depth % n == 0]
        fields |= {"cols": cols, "pe_depth": pe_depth, "norm_elements": rng.choice(divisors)}
        fields |= _grown(rng, _least(networks, config.rows, cols, pe_depth))
    return replace(config, **fields)
