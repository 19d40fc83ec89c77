"""Components made of components: members of the parts that face outwards become members of the whole."""

from collections.abc import Mapping

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import Out


def outward_members(part: wiring.Component, names: Mapping[str, str]) -> dict[str, wiring.Member]:
    """Signature members of a whole for its part's.

    Arguments:
        part: the component inside.
        names: by the whole's name, the part's name of each port or interface.
    """
    return {outer: part.signature.members[inner] for outer, inner in names.items()}


def connect_outward(m: Module, whole: wiring.Component, part: wiring.Component, names: Mapping[str, str]) -> None:
    """Connect a part's members with the whole's members made by `outward_members` of the same names."""
    for outer, inner in names.items():
        outside, inside, member = getattr(whole, outer), getattr(part, inner), part.signature.members[inner]
        if member.is_signature:
            wiring.connect(m, wiring.flipped(outside), inside)
        else:
            m.d.comb += outside.eq(inside) if member.flow == Out else inside.eq(outside)


def same(*names: str) -> dict[str, str]:
    """Names that whole and part share."""
    return {name: name for name in names}
