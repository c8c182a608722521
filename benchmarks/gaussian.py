"""Gaussian sensing: the cost of a step's misfit against one read of A in each direction."""

from __future__ import annotations

import argparse
import statistics

import torch

from benchmarks import facts
from iagan.operators import Gaussian

BATCHES = (1, 4, 16)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--side", type=facts.count, default=64, help="of the images (default: 64)")
    parser.add_argument("--ratio", type=float, default=0.3, help="m/n (default: 0.3)")
    parser.add_argument("--rounds", type=facts.count, default=9, help="runs of each (default: 9)")


def run(args: argparse.Namespace) -> dict[str, object]:
    """Print ‖A x − y‖² with its gradient, and A x and Aᵀ y, beside the time of reading A twice."""
    operator = Gaussian.from_ratio((3, args.side, args.side), args.ratio, 0)
    size = round(args.ratio * 3 * args.side**2) * 3 * args.side**2 * 4
    big = torch.empty(size // 4).normal_()

    def both(count: int):  # type: ignore[no-untyped-def]
        x = torch.rand(count, 3, args.side, args.side, requires_grad=True)
        y = operator(x.detach()) + 0.1
        return lambda: torch.autograd.grad(operator.misfit(x, y).sum(), x)

    def apart(count: int):  # type: ignore[no-untyped-def]
        x = torch.rand(count, 3, args.side, args.side)
        y = operator(x)
        return lambda: (operator(x), operator.adjoint(y))

    works = {"read": lambda: (big.sum(), big.sum())}
    for count in BATCHES:
        works |= {f"misfit {count}": both(count), f"apart {count}": apart(count)}
    taken = {
        name: statistics.median(s) for name, s in facts.interleaved(works, args.rounds).items()
    }
    print(f"A is {size / 2**20:.0f} MiB; two reads at {2 * size / taken['read'] / 1e9:.1f} GB/s")
    print("\n| images | misfit and gradient, ms | × two reads | per image | A x and Aᵀ y, ms |")
    print("|" + "---|" * 5)
    for count in BATCHES:
        ratio = taken[f"misfit {count}"] / taken["read"]
        print(
            f"| {count} | {1e3 * taken[f'misfit {count}']:.1f} | {ratio:.2f} | {ratio / count:.2f} "
            f"| {1e3 * taken[f'apart {count}']:.1f} |"
        )
    return {"bytes": size, "seconds": taken}
