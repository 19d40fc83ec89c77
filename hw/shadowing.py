"""What takes the place of our packages: ``python -m`` looks into the working directory first, where a user may have a ``hw.py``.

The file imports nothing of ours: the packages right of `hw` run it by its place when one of their commands is started, for the name
``hw`` may be the very one that is taken.
"""

import sys
from importlib.util import find_spec
from pathlib import Path


def refuse_others(*names: str) -> None:
    """End with exit code 2, and one line on stderr, where one of some top-level names is not the package beside this one."""
    for name in names:
        spec = find_spec(name)  # runs nothing of it
        places = [spec.origin or "", *(spec.submodule_search_locations or ())] if spec else []
        found = next((Path(place) for place in places if place), None)
        ours = Path(__file__).parents[1] / name
        if found is not None and found.resolve() not in (ours.resolve(), (ours / "__init__.py").resolve()):
            print(f"error: {found} takes the place of the package {name}: move it away, or use the command pivot", file=sys.stderr)
            raise SystemExit(2)
