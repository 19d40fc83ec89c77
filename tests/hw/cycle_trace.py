"""Drive a component cycle by cycle and record what it answers."""

import random

from amaranth.hdl import Cat, Const, Value
from amaranth.lib import data

from tests.hw.simulation import simulate


def trace(component, inputs, outputs):
    """Outputs of ``component`` in every cycle.

    Args:
        component: a wiring.Component with scalar or struct members.
        inputs: per cycle a dict of member name to value (an int, or a dict of field to int for a struct); members not named are 0.
        outputs: names of the members to record.

    Returns:
        Per cycle a dict of name to int, or to a dict of ints for a struct.
    """
    driven = {name: getattr(component, name) for name in sorted({name for cycle in inputs for name in cycle})}
    answers = {name: getattr(component, name) for name in outputs}
    members = Cat(*driven.values())
    masks = {name: (1 << len(Value.cast(member))) - 1 for name, member in driven.items()}
    recorded = []

    async def bench(ctx):
        for cycle in inputs:
            word = position = 0
            for name, member in driven.items():
                word |= (bits(member, cycle[name]) & masks[name]) << position if name in cycle else 0
                position += masks[name].bit_length()
            ctx.set(members, word)
            recorded.append({name: plain(ctx.get(answer)) for name, answer in answers.items()})
            await ctx.tick()

    simulate(component, bench, cycles=len(inputs) + 2)
    return recorded


def bits(member, value):
    """What an input takes: an int as it is, an enumeration's, or a struct's from a dict."""
    if isinstance(value, int):
        return value
    return Const.cast(member.shape().const(value) if isinstance(member, data.View) else value).value


def plain(value):
    """A struct's value as a dict, an array's as a list, anything else as an int."""
    if not isinstance(value, data.Const):
        return int(value)
    shape = value.shape()
    if isinstance(shape, data.StructLayout):
        return {name: plain(value[name]) for name in shape.members}
    return [plain(value[index]) for index in range(shape.length)]


def seeded(seed):
    """A random generator whose seed is printed."""
    print(f"seed {seed}")
    return random.Random(seed)


def signed_corner(rng, width):
    """A signed integer of ``width`` bits, often an extreme one."""
    low, high = -(1 << (width - 1)), (1 << (width - 1)) - 1
    return rng.choice(
        (low, high, 0, -1, 1, rng.randint(low, high), rng.randint(low, high), rng.randint(low, high) >> (width // 2))
    )
