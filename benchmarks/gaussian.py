"""Gaussian sensing: a step's products against one read of A in each direction."""

from __future__ import annotations

import argparse
import statistics

import torch

from benchmarks import facts
from iagan.operators import Gaussian


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--side", type=int, default=64, help="of the images (default: 64)")
    parser.add_argument("--ratio", type=float, default=0.3, help="m/n (default: 0.3)")
    parser.add_argument("--rounds", type=int, default=9, help="runs of each (default: 9)")


def run(args: argparse.Namespace) -> dict[str, object]:
    """Print A x and Aᵀ y for several batches beside the time of reading A twice."""
    operator = Gaussian.from_ratio((3, args.side, args.side), args.ratio, 0)
    size = round(args.ratio * 3 * args.side**2) * 3 * args.side**2 * 4
    big = torch.empty(size // 4).normal_()

    def both(count: int):  # type: ignore[no-untyped-def]
        x = torch.rand(count, 3, args.side, args.side)
        y = operator(x)
        return lambda: (operator(x), operator.adjoint(y))

    works = {"read": lambda: (big.sum(), big.sum())} | {
        str(count): both(count) for count in (1, 4, 16)
    }
    taken = {
        name: statistics.median(s) for name, s in facts.interleaved(works, args.rounds).items()
    }
    print(f"A is {size / 2**20:.0f} MiB; two reads at {2 * size / taken['read'] / 1e9:.1f} GB/s")
    print("\n| images | ms for A x and Aᵀ y | × two reads | per image × two reads |")
    print("|" + "---|" * 4)
    for count in (1, 4, 16):
        ratio = taken[str(count)] / taken["read"]
        print(f"| {count} | {1e3 * taken[str(count)]:.1f} | {ratio:.2f} | {ratio / count:.2f} |")
    return {"bytes": size, "seconds": taken}
