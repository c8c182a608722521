"""Commands that are killed at random moments and started again: a short `make kills`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent.parent / "tools" / "kills.py"


@pytest.mark.skipif(os.name != "posix", reason="it forks")
def test_nothing_is_lost_by_kills():
    """Of every command one run, killed up to three times; the script raises at the first loss."""
    command = [sys.executable, str(SCRIPT), "10", "--seed", "0"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    kills = [int(line.split()[0]) for line in done.stdout.splitlines() if "kills of" in line]
    assert sum(kills) == 10
