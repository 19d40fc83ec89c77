"""The network: models, data, training, quantization, compiler, runtime and gated inference."""

import os
import sys

# Read when torch is loaded: threads that spin while they wait take more than half the speed of a search on a busy machine.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

if sys.argv[:1] == ["-m"]:  # Python is looking for the command to run
    from pathlib import Path
    from runpy import run_path

    run_path(str(Path(__file__).parents[1] / "hw" / "shadowing.py"))["refuse_others"]("hw", "sim")
