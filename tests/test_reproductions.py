"""Every failure of `reproductions.py` is refused in one line or right, without hanging or memory.

All run in one process of their own, within 4 GiB of memory, each for at most 25 s.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from reproductions import REFUSED, RIGHT

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")


@pytest.fixture(scope="module")
def ended():
    """How each of them ended: the error's kind, what was said, seconds, GiB."""
    ran = subprocess.run(
        [sys.executable, Path(__file__).with_name("run_reproductions.py")],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        check=False,
    )
    lines = [json.loads(line) for line in ran.stdout.splitlines()]
    assert ran.returncode == 0, (lines[-1:], ran.stderr[-3000:])
    return {name: rest for name, *rest in lines}


@pytest.mark.parametrize("name", [*REFUSED, *RIGHT])
def test_it_is_refused_in_one_line_or_right(ended, name):
    kind, said, seconds, memory = ended[name]
    assert (kind, bool(said)) == ("IaganError", True) if name in REFUSED else said == "True", said
    assert said.isprintable()
    assert len(said) < 1000
    assert seconds < 5
    assert memory < 1
