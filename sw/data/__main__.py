"""``python -m sw.data``: shows what the loader of Fashion-MNIST finds, fetches the full set, embeds the subset."""

import argparse
import sys
from pathlib import Path

from hw.errors import command
from sw.data.embedded import fetch_full, write_embedded
from sw.data.fashion_mnist import EMBEDDED, find_data, load_fashion_mnist


@command(OSError, RuntimeError)
def main(arguments: list[str] | None = None) -> int:
    """Run ``python -m sw.data``; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m sw.data", description="Fashion-MNIST: show, fetch, embed")
    commands = parser.add_subparsers(dest="command", required=True)
    show = commands.add_parser("show", help="say what the loader finds")
    fetch = commands.add_parser("fetch", help="fetch the full set through torchvision")
    embed = commands.add_parser("embed", help="write the embedded subset from the full set")
    for each in (show, embed):
        each.add_argument("--data", metavar="DIR", help=f"directory of the idx files, or '{EMBEDDED}'")
    fetch.add_argument("--out", metavar="DIR", type=Path, required=True)
    options = parser.parse_args(arguments)
    if options.command == "fetch":
        print(f"Full data set in {fetch_full(options.out)}; use it with --data {options.out}")
    elif options.command == "embed":
        write_embedded(find_data(options.data))
    else:
        data = load_fashion_mnist(options.data)
        sizes = ", ".join(f"{split.name} {len(split)}" for split in (data.train, data.calibration, data.test_all))
        print(f"{data.source}: {sizes}; digest {data.digest[:16]}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
