"""A machine of one's own, and what a network takes on it: ``python examples/own_machine.py``.

``pivot build --board zcu102 --set rows=4,cols=1,…`` says in minutes what such a machine takes of an FPGA.
"""

import numpy as np

from hw.config import AcceleratorConfig
from hw.device import mismatches
from hw.golden import GoldenDevice
from sim.cycle_model import predict
from sim.rtl.device import Job, RtlDevice
from sw.compiler.programs import compile_network
from sw.networks.network import parse_network
from sw.networks.shape import shape_network

MACHINE = AcceleratorConfig(
    rows=4,  # tokens at a time
    cols=1,  # output channels at a time
    pe_depth=3,  # multipliers of a processing element, and bytes of a memory word
    norm_elements=3,
    exp_units=4,  # softmax in a pass of its own, an exp a row and cycle
    row_tiles=9,  # 36 tokens
    classes=9,
    activation_words=96,
    residual_words=96,
    normalized_words=96,
    weight_words=192,
    kv_words=65,
    parameter_tiles=6,
)
"""A number that cannot work, or that is too small for a network, is refused with its field's name."""


def main() -> None:
    """Run a network with all attentions, without the first, and with none; hold the cycle model against the RTL."""
    spec = parse_network("vit:dim=24,depth=2,heads=3,tokens=11,classes=7")
    program = compile_network(shape_network(spec), MACHINE)  # cycles need no weights but drawn ones
    pixels = np.random.default_rng(0).integers(-128, 128, (1, *spec.image_size, spec.channels), dtype=np.int8)
    kept = ((0b11, 0b11), (0b10, 0b10), (0b00, 0b00))
    jobs = [Job(program=program, images=pixels, path_masks=masks) for masks in kept]
    print(f"{MACHINE.macs_per_cycle} MAC a cycle at most")
    for masks, result in zip(kept, RtlDevice(MACHINE).run_jobs(jobs), strict=True):
        golden, model = GoldenDevice().run(program, pixels, path_masks=masks), predict(program, path_masks=masks)
        print(
            f"attentions {masks[0]:02b}: {result.counters['cycles']:,} cycles in RTL, {model.cycles:,} in the model, "
            f"{mismatches(golden, result)} mismatches; counters {'equal' if model.counters == result.counters else 'differ'}"
        )


if __name__ == "__main__":
    main()
