"""Compiles integer networks to Programs: descriptors, weights, parameters and tables for one machine."""

from hw.config import AcceleratorConfig
from hw.errors import InputError
from hw.isa import Opcode, Operation
from hw.program import Program
from hw.program_image import ProgramImage
from sw.compiler.descriptor_stream import DescriptorStream
from sw.compiler.emitter import Emitter
from sw.compiler.loop_order import AUTO
from sw.compiler.network_compiler import NetworkCompiler
from sw.graph.integer_network import IntegerNetwork
from sw.graph.path import Path, path_or_full
from sw.graph.shared import shared_encoders

_GREATEST_THRESHOLD = (1 << 32) - 1


def compile_network(
    network: IntegerNetwork,
    config: AcceleratorConfig,
    *,
    path: Path | None = None,
    mask_register: bool = True,
    loop_order: str = AUTO,
) -> Program:
    """Compile one network.

    Args:
        network: the network.
        config: the machine.
        path: what runs; None for all that the network has.
        mask_register: keep every attention of the network in the Program and choose by its path mask, so that another
            path needs no compilation; False leaves the skipped ones out. What no mask chooses is there if `path` runs it.
        loop_order: of all GEMMs, one of `sw.compiler.loop_order.ORDERS` or a number of resident column tiles; ``auto`` chooses per
            GEMM.

    Raises:
        InputError: the network does not fit the machine, `path` runs what it does not have, or the loop order is unknown.
    """
    path = _checked(path, network)
    stream, image = DescriptorStream(config), ProgramImage(config)
    compiler = NetworkCompiler(Emitter(network, config, stream, image, "", loop_order))
    compiler.compile(path.at_most() if mask_register else path)
    _finish(stream, Opcode.END, network.classes)
    return _program(compiler, (path, path), 0)


def compile_pair(
    low: IntegerNetwork,
    high: IntegerNetwork,
    config: AcceleratorConfig,
    threshold: int,
    *,
    low_path: Path | None = None,
    high_path: Path | None = None,
    loop_order: str = AUTO,
    resume: bool | None = None,
) -> Program:
    """Compile a gated pair: the low-effort network, the gate, the high-effort network.

    Equal weights and tables of the two are stored once; the path masks choose among the attentions they have.

    Where the networks begin alike (see `sw.graph.shared`), the high effort can go on from the residual stream behind the shared
    encoders, which the low effort then leaves alone: it goes on in a second region of the residual banks. The paths of the
    shared encoders, and of the low effort's next one, are then compiled in: their attentions follow no path mask.

    Args:
        low: answers first.
        high: answers where the entropy of the first answer is above the threshold.
        config: the machine.
        threshold: entropy in 2^-12 nat up to which the first answer stands.
        low_path: what runs of `low`; None for all that it has.
        high_path: the same for `high`.
        loop_order: as for `compile_network`.
        resume: whether the high effort resumes; None: if the networks share a beginning and the banks have room.

    Raises:
        InputError: a network does not fit, the two take different images or classes, the threshold is out of range, the loop order
            is unknown, or the high effort is to resume and cannot.
    """
    for what in ("image_size", "channels", "classes"):
        if getattr(low, what) != getattr(high, what):
            raise InputError(f"A pair must have equal {what}, not {getattr(low, what)} and {getattr(high, what)}")
    if not 0 <= threshold <= _GREATEST_THRESHOLD:
        raise InputError(f"Gate threshold must be 0 to {_GREATEST_THRESHOLD} (2^-12 nat), not {threshold}")
    paths = (_checked(low_path, low), _checked(high_path, high))
    masked = tuple(path.at_most() for path in paths)
    stream, image = DescriptorStream(config), ProgramImage(config)
    first, second = (
        NetworkCompiler(Emitter(network, config, stream, image, prefix, loop_order))
        for network, prefix in ((low, "low."), (high, "high."))
    )
    shared = shared_encoders(low, high, *paths)
    problem = "begin differently" if shared is None else first.room_to_fork()
    if resume and problem:
        raise InputError(f"A pair that resumes must begin alike and have room for two residual streams: its networks {problem}")
    fork = None if problem or resume is False else shared
    if fork is not None:
        first.begin()
        first.encoders(range(fork), paths[0], fixed=fork)
        second.continue_from(first)
        first.fork()
        first.encoders(range(fork, low.depth), Path(paths[0].kinds[: fork + 1] + masked[0].kinds[fork + 1 :]), fixed=fork + 1)
        first.head()
    else:
        first.compile(masked[0])
    _finish(stream, Opcode.GATE, low.classes)
    stream.high = True
    if fork is not None:
        second.encoders(range(fork, high.depth), masked[1])
        second.head()
    else:
        second.compile(masked[1])
    _finish(stream, Opcode.END, high.classes)
    if first.image_layout != second.image_layout:
        raise InputError("A pair must have stems of the same shape, or none: an image lies in memory once")
    return _program(first, paths, int(threshold), fork)


def _checked(path: Path | None, network: IntegerNetwork) -> Path:
    """A path whose branches the network has; for None the one of all of them."""
    path = path_or_full(path or network.path, network.depth)
    if not path.within(network.path):
        raise InputError(f"Path must run no branch but those that the network has, {network.path}, not {path}")
    return path


def _finish(stream: DescriptorStream, opcode: Opcode, classes: int) -> None:
    operation = Operation.GATE if opcode == Opcode.GATE else Operation.OTHER
    stream.emit(opcode, {"operation": int(operation), "classes": classes})


def _program(compiler: "NetworkCompiler", paths: tuple[Path, Path], threshold: int, shared: int | None = None) -> Program:
    """The Program of a compiler's stream and image."""
    emitter, network, layout = compiler.emitter, compiler.network, compiler.image_layout
    descriptors = emitter.stream.descriptors
    memory, regions = emitter.image.finish(descriptors)
    height, width = network.image_size
    return Program(
        config=emitter.config,
        memory=memory,
        descriptor_count=len(descriptors),
        image_bytes=layout.image_bytes if layout else height * width * network.channels,
        classes=network.classes,
        path_masks=(paths[0].mask, paths[1].mask),
        threshold=threshold,
        regions=regions,
        image_layout=layout,
        redundant_macs=compiler.redundant_macs,
        shared_encoders=shared,
    )
