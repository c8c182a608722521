"""`python -m benchmarks NAME`: print a table, and save it with the machine's specification."""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import time
from pathlib import Path

from benchmarks.facts import machine
from iagan.errors import IaganError
from iagan.files import write_atomically

BENCHMARKS = {
    "speed": "the same iterations: seconds per step against a plain loop and deepinv",
    "quality": "the time until PSNR and LPIPS are the reference's at its end; resumes",
    "growth": "cost against images, starts, resolution and measurements",
    "gaussian": "Gaussian sensing against the time of reading A",
    "busy": "one image by the command line, quiet and beside a busy loop",
    "gpu": "one GPU: seconds per image at the paper's iterations",
    "memory": "peak memory of PGGAN-1024, and of BEGAN beside the plain loop",
}


def main() -> int:
    """Run one benchmark."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--output", default="bench-out", help="folder for the JSON")
    commands = parser.add_subparsers(dest="name", required=True)
    for name, line in BENCHMARKS.items():
        command = commands.add_parser(name, help=line)
        importlib.import_module(f"benchmarks.{name}").add_arguments(command)
    args = parser.parse_args()
    try:
        results = importlib.import_module(f"benchmarks.{args.name}").run(args)
    except IaganError as error:
        print(f"{parser.prog} {args.name}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    record = {"benchmark": args.name, "when": time.strftime("%Y-%m-%dT%H:%M:%S"), **vars(args)}
    text = json.dumps(record | {"machine": machine(), "results": results}, indent=1)
    path = Path(args.output) / f"{args.name}-{time.strftime('%Y%m%d-%H%M%S')}.json"
    write_atomically(path, lambda stream: stream.write(text.encode()))
    print(f"\n{path}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
