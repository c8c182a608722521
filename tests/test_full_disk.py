"""No room at any write: a command says so, nothing is torn, and its next run does the rest."""

from __future__ import annotations

import errno
import itertools
import os

import pytest
from tools.kills import check_end, check_kept, contents_of, make_inputs

from iagan import files
from iagan.cli import main

if os.name != "posix":
    pytest.skip("tools/kills.py forks", allow_module_level=True)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """A folder of pictures, and a prior of random weights."""
    folder = tmp_path_factory.mktemp("inputs")
    make_inputs(folder / "photos", folder / "tiny.safetensors", count=2)
    return folder


COMMANDS = {
    "observe": "observe {photos}/0.png {prior} --operator bicubic --scale 4 -o {out}/y.npz",
    "reconstruct": "reconstruct {photos} {prior} --operator bicubic --scale 4 --method naive,pinv "
    "--threads 1 -o {out}",
    "reproduce": "reproduce table2 --images {photos} {prior} --setting sr-4 --method naive "
    "--lpips none --save-images --threads 1 -o {out}",
    "train": "train {photos} -o {out}/p.safetensors --recipe began --size 32 --width 4 --latent 4 "
    "--batch 2 --steps 2 --holdout 0 --checkpoint-every 1 --resume",
}


class Disk:
    """Fails at the `k`-th time that a file is begun, or that its content is flushed."""

    def __init__(self, monkeypatch):
        self.k = self.calls = 0
        for owner, name in ((files.tempfile, "mkstemp"), (files.os, "fsync")):
            monkeypatch.setattr(owner, name, self._failing(getattr(owner, name)))

    def _failing(self, function):
        def call(*args, **options):
            self.calls += 1
            if self.calls == self.k:
                raise OSError(errno.ENOSPC, "No space left on device")
            return function(*args, **options)

        return call

    def full_at(self, k):
        self.k, self.calls = k, 0


@pytest.mark.parametrize("command", COMMANDS)
def test_no_room_at_any_write(command, inputs, tmp_path, capsys, monkeypatch):
    disk = Disk(monkeypatch)

    def work(out):
        prior = f"--prior {inputs}/tiny.safetensors"
        argv = COMMANDS[command].format(photos=inputs / "photos", prior=prior, out=out)
        return main(argv.split())

    once = tmp_path / "once"
    assert work(once) == 0
    expected = contents_of(once)
    for k in itertools.count(1):
        out = tmp_path / str(k)
        disk.full_at(k)
        capsys.readouterr()
        code = work(out)
        if disk.calls < k:
            break
        said = capsys.readouterr().err
        told = [line for line in said.splitlines() if "No space left" in line]
        if told:
            assert code in (1, 2) and "Traceback" not in said, said
        else:  # a folder that could not be flushed: its file is there
            assert code == 0
        left = contents_of(out)
        disk.full_at(0)
        assert work(out) == 0
        check_kept(left, contents_of(out), f"write {k}")
        check_end(expected, contents_of(out), out, f"write {k}")
    assert k > 2
