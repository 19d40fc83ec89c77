"""Cascades of DSP48E2s that sum packed products, and a model of the primitive for simulation and proof (UG579)."""

from typing import Any

from amaranth import Cat, ClockSignal, Const, Instance, Module, Shape, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw import numerics

PACKED_SHIFT = 18
"""Bit position of the second weight in a packed product, and bits of the low field."""
LINK_LATENCY = 4
"""Operands of a `Dsp48E2` to its sum: input, pre-adder, product, sum."""

_PARAMETERS: dict[str, int | str] = {
    "A_INPUT": "DIRECT",
    "B_INPUT": "DIRECT",
    "PREADDINSEL": "A",  # pre-adder: D plus A
    "AMULTSEL": "AD",  # its sum is the multiplier's wide operand
    "BMULTSEL": "B",
    "USE_MULT": "MULTIPLY",
    "USE_SIMD": "ONE48",
    "USE_PATTERN_DETECT": "NO_PATDET",
    "AREG": 1,
    "ACASCREG": 1,
    "DREG": 1,
    "ADREG": 1,
    "BREG": 2,  # beside A and AD
    "BCASCREG": 2,
    "MREG": 1,
    "PREG": 1,
    "CREG": 1,  # C is not used: held, at ones, as UG579 advises
    "INMODEREG": 0,  # the controls are constants
    "OPMODEREG": 0,
    "ALUMODEREG": 0,
    "CARRYINREG": 0,
    "CARRYINSELREG": 0,
}
_INMODE = 0b00100  # A2 and B2, D enters the pre-adder, which adds
_OPMODE_FIRST = 0b00_000_01_01  # W = 0, Z = 0, Y and X = product
_OPMODE_CASCADED = 0b00_001_01_01  # W = 0, Z = PCIN, Y and X = product
_ALUMODE_ADD = 0b0000  # Z + W + X + Y + carry
_ENABLED = ("CEA2", "CEB1", "CEB2", "CED", "CEAD", "CEM", "CEP")
_DISABLED = ("CEA1", "CEC", "CEALUMODE", "CECARRYIN", "CECTRL", "CEINMODE")
_RESETS = ("A", "ALLCARRYIN", "ALUMODE", "B", "C", "CTRL", "D", "INMODE", "M", "P")
_WIDTHS = {"A": 30, "ACIN": 30, "B": 18, "BCIN": 18, "C": 48, "D": 27, "PCIN": 48}


class Dsp48E2(wiring.Component):
    """One DSP48E2: ``pcin + (a + d) * b``, or ``(a + d) * b`` where it begins a cascade, `LINK_LATENCY` cycles after ``a``, ``b``
    and ``d`` and one cycle after ``pcin``. ``a + d`` must fit 27 bits and the sum 48.

    Args:
        cascaded: whether ``pcin`` is added.

    Members:
        a, d: addends of the wide operand, signed 27; ``a`` repeats its sign in the 3 bits above.
        b: signed 18.
        pcin, pcout: the dedicated cascade; only from one DSP48E2 to the next.
        p: the sum, signed 48.
    """

    def __init__(self, *, cascaded: bool):
        self.cascaded = cascaded
        super().__init__(
            {
                "a": In(signed(30)),
                "b": In(signed(18)),
                "d": In(signed(27)),
                "pcin": In(signed(48)),
                "p": Out(signed(48)),
                "pcout": Out(signed(48)),
            }
        )

    def arguments(self) -> dict[str, Any]:
        """Parameters, inputs and outputs of the primitive, as Amaranth's ``Instance`` takes them; every input is connected."""
        driven = {"A": self.a, "B": self.b, "D": self.d, "C": Const(-1, 48)}
        if self.cascaded:
            driven["PCIN"] = self.pcin
        data = {name: Value.cast(driven.get(name, Const(0, width))) for name, width in _WIDTHS.items()}
        constants = {
            "INMODE": Const(_INMODE, 5),
            "OPMODE": Const(_OPMODE_CASCADED if self.cascaded else _OPMODE_FIRST, 9),
            "ALUMODE": Const(_ALUMODE_ADD, 4),
            "CARRYINSEL": Const(0, 3),
            **{name: Const(0, 1) for name in ("CARRYIN", "CARRYCASCIN", "MULTSIGNIN", *_DISABLED)},
            **{name: Const(1, 1) for name in _ENABLED},
            **{f"RST{name}": Const(0, 1) for name in _RESETS},
        }
        return {
            **{f"p_{name}": value for name, value in _PARAMETERS.items()},
            **{f"i_{name}": value for name, value in (data | constants).items()},
            "i_CLK": ClockSignal(),
            "o_P": self.p,
            "o_PCOUT": self.pcout,
        }

    def elaborate(self, platform) -> Any:
        return Instance("DSP48E2", **self.arguments())


class Dsp48E2Model(Dsp48E2):
    """What a DSP48E2 with the `Dsp48E2.arguments` does, register by register, after UG579: for simulation and proof.

    Only the functions that a `Dsp48Chain` uses.

    Raises:
        ValueError: while it is elaborated, for arguments that ask for another function.
    """

    def elaborate(self, platform) -> Module:
        given = self.arguments()
        parameters = {name[2:]: value for name, value in given.items() if name.startswith("p_")}
        constant = {name[2:]: value.value for name, value in given.items() if isinstance(value, Const)}
        _require_modelled(parameters, constant)
        m = Module()

        def registered(name: str, value: Value, width: int) -> Value:
            for number in range(parameters[f"{name}REG"]):
                register = Signal(signed(width), name=f"{name.lower()}{number + 1}", reset_less=True)
                m.d.sync += register.eq(value)
                value = register
            return value

        a = registered("A", given["i_A"].as_signed(), 30)[:27].as_signed()  # the pre-adder takes 27 of the 30 bits
        b = registered("B", given["i_B"].as_signed(), 18)
        d = registered("D", given["i_D"].as_signed(), 27)
        ad = registered("AD", (a + d)[:27].as_signed(), 27)
        product = registered("M", ad * b, 45)
        z = given["i_PCIN"].as_signed() if constant["OPMODE"] == _OPMODE_CASCADED else Const(0)
        m.d.comb += [self.p.eq(registered("P", product + z, 48)), self.pcout.eq(self.p)]
        return m


def _require_modelled(parameters: dict[str, Any], constant: dict[str, int]) -> None:
    """Settings that make ``P = Z + (A2 + D) * B2`` of 48 bits with constant controls, whatever the registers."""
    needed = {"A_INPUT": "DIRECT", "B_INPUT": "DIRECT", "PREADDINSEL": "A", "AMULTSEL": "AD", "BMULTSEL": "B"}
    needed |= {"USE_MULT": "MULTIPLY", "USE_SIMD": "ONE48"}
    for name, value in needed.items():
        if parameters[name] != value:
            raise ValueError(f"{name} must be {value!r} in the model of DSP48E2, not {parameters[name]!r}")
    modes = {"INMODE": (_INMODE,), "OPMODE": (_OPMODE_FIRST, _OPMODE_CASCADED), "ALUMODE": (_ALUMODE_ADD,), "CARRYINSEL": (0,)}
    modes |= {name: (0,) for name in ("CARRYIN", *(f"RST{reset}" for reset in _RESETS))} | {name: (1,) for name in _ENABLED}
    for name, values in modes.items():
        if constant[name] not in values:
            raise ValueError(f"{name} must be {' or '.join(map(bin, values))} in the model of DSP48E2, not {constant[name]:#b}")


def chain_shape(columns: int) -> Shape:
    """Sum of at most `numerics.PACKED_CHAIN` products, packed where there are 2 columns."""
    return signed(16 + (PACKED_SHIFT if columns == 2 else 0) + (numerics.PACKED_CHAIN - 1).bit_length())


class Dsp48Chain(wiring.Component):
    """Sum of packed products ``(w1 * 2^18 + w0) * a`` in a cascade of DSP48E2s; `chain_fields` splits it.

    Args:
        columns: 2, or 1 for products ``w0 * a``.
        length: products, 1 to `numerics.PACKED_CHAIN`.
        link: what the cascade is made of: the primitive, or `Dsp48E2Model`.

    Members:
        activation: element k is to come k cycles after element 0.
        weights: by column, elements likewise.
        total: `LINK_LATENCY` cycles after the last element.
    """

    def __init__(self, columns: int, length: int, link: type[Dsp48E2] = Dsp48E2):
        self.columns = columns
        self.length = length
        self.link = link
        super().__init__(
            {
                "activation": In(signed(8)).array(length),
                "weights": In(signed(8)).array(columns, length),
                "total": Out(chain_shape(columns)),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        before: Dsp48E2 | None = None
        for k in range(self.length):
            m.submodules[f"link_{k}"] = link = self.link(cascaded=before is not None)
            m.d.comb += [link.b.eq(self.activation[k]), link.d.eq(self.weights[0][k])]
            if self.columns == 2:
                m.d.comb += link.a.eq(self.weights[1][k] << PACKED_SHIFT)
            if before is not None:
                m.d.comb += link.pcin.eq(before.pcout)
            before = link
        assert before is not None
        m.d.comb += self.total.eq(before.p)
        return m


def chain_fields(chain: Value) -> tuple[Value, Value, Value]:
    """Both columns' sums out of the sum of at most `numerics.PACKED_CHAIN` packed products.

    The low column's sum lies in [-130,048, 131,072], one beyond 18 bits: the field's sign bit alone does not tell 2^17 from
    -2^17, but a negative sum is at least 1,024 above -2^17 and so has one of the bits 10 to 16 set.

    Returns:
        The low sum, signed 19; the high sum less the borrow; the borrow, 1 where the low sum is negative.
    """
    negative = chain[PACKED_SHIFT - 1] & chain[10 : PACKED_SHIFT - 1].any()
    return Cat(chain[:PACKED_SHIFT], negative).as_signed(), chain[PACKED_SHIFT:].as_signed(), negative
