"""The decision: CKA, Path-Score, the two phases, the store and the report."""

import sys

if sys.argv[:1] == ["-m"]:  # Python is looking for the command to run
    from pathlib import Path
    from runpy import run_path

    run_path(str(Path(__file__).parents[1] / "hw" / "shadowing.py"))["refuse_others"]("hw", "sw", "sim")
