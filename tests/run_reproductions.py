"""Run each function of `reproductions.py`, within 4 GiB of memory and 25 s.

`python tests/run_reproductions.py [NAME ...]` prints a line of JSON for each: its name, the error's
kind, what was said, seconds of the processor, GiB.
"""

import faulthandler
import json
import os
import resource
import sys
import tempfile
import time
import warnings
from pathlib import Path

import torch

from iagan.errors import IaganError
from reproductions import REFUSED, RIGHT

SECONDS, MEMORY = 25, 4 * 2**30


def status(name):
    text = Path("/proc/self/status").read_text()
    return int(text.split(f"{name}:")[1].split()[0]) * 1024


def run(name, function):
    """Print how it ends."""
    Path("/proc/self/clear_refs").write_text("5")
    before, begun = status("VmHWM"), time.process_time()
    faulthandler.dump_traceback_later(SECONDS, exit=True)
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        kind = ""
        try:
            said = str(function())
        except BaseException as error:
            kind, said = type(error).__name__, str(error)
            kind = "IaganError" if isinstance(error, IaganError) else kind
        os.chdir("/")
    faulthandler.cancel_dump_traceback_later()
    memory = (status("VmHWM") - before) / 2**30
    print(json.dumps([name, kind, said, time.process_time() - begun, memory]), flush=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    resource.setrlimit(resource.RLIMIT_DATA, (status("VmData") + MEMORY,) * 2)
    every = REFUSED | RIGHT
    for name in sys.argv[1:] or every:
        run(name, every[name])
