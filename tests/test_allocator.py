"""The command line keeps freed memory; a library call leaves the allocator alone."""

import platform
import subprocess
import sys

import pytest

from iagan.cli import allocator

PROGRAM = """
import resource, sys
from pathlib import Path
import torch

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() // 2**20

if sys.argv[1] == "kept":
    from iagan.cli.allocator import retain_freed_memory
    retain_freed_memory()
before = resident()
torch.ones(2**26)
print(resident() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_what_is_freed_stays_with_the_process():
    """256 MiB, in a process of its own."""
    left = {
        name: int(subprocess.check_output([sys.executable, "-c", PROGRAM, name]))
        for name in ("kept", "returned")
    }
    assert left["kept"] > 200
    assert left["returned"] < 50


def test_another_c_library_is_left_alone(monkeypatch):
    monkeypatch.setattr(allocator.platform, "libc_ver", lambda: ("", ""))
    monkeypatch.setattr(allocator.ctypes, "CDLL", None)
    allocator.retain_freed_memory()
