"""Peak memory of IAGAN with PGGAN-1024, one image, random weights; in a process of its own."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys

_PROGRAM = """
import json, resource, time, torch, iagan
from benchmarks import facts
from iagan.operators import BicubicDownsample

device = "cuda" if torch.cuda.is_available() else "cpu"
generator = facts.random_pggan().to(device)
shape = generator.image_shape
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
y = iagan.observe(torch.rand(1, *shape), BicubicDownsample(shape, scale=16)).to(device)
begun = time.perf_counter()
iagan.reconstruct(y, generator, "iagan", csgm_steps=2, steps=2, effort="paper")
seconds = time.perf_counter() - begun
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
gpu = torch.cuda.max_memory_allocated() if device == "cuda" else None
print(json.dumps({"device": device, "before": before, "peak": peak, "gpu_peak": gpu,
                  "seconds": seconds}))
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """No options."""


def run(args: argparse.Namespace) -> dict[str, object]:
    """Print the peak."""
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM], capture_output=True, text=True, check=True
    )
    found = dict(json.loads(done.stdout))
    peak = found["gpu_peak"] or found["peak"]
    print(
        f"PGGAN-1024, one image, 2 + 2 steps on {found['device']}: peak {peak / 2**30:.2f} GiB "
        f"(of the process before: {found['before'] / 2**30:.2f} GiB), {found['seconds']:.0f} s"
    )
    return found
