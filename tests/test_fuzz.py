"""Damaged inputs of every kind: a short run of `make fuzz`, and that it finds what it is for."""

import sys

import pytest

from fuzz.kinds import KINDS
from fuzz.watch import run
from fuzz.worker import input_of, kind_of

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")


def outcomes(trials, tmp_path, **options):
    heard = []
    run(3, trials, tmp_path, tmp_path / "failures", heard.append, **options)
    return heard


def test_damaged_inputs_are_read_or_refused_in_one_line(tmp_path):
    """Some are read, most refused, none raises, hangs or fills the memory."""
    trials = [(index, kind_of(3, index)) for index in range(300)]
    heard = outcomes(trials, tmp_path)
    assert [outcome for outcome in heard if outcome.failure] == []
    assert len(heard) == 300
    assert 150 < sum(outcome.refused for outcome in heard) < 290
    assert {outcome.kind for outcome in heard} == {k for k in KINDS if KINDS[k].weight}


def test_every_fault_is_found_and_its_input_kept(tmp_path):
    """In one run, whose worker is replaced after a hang and a crash."""
    expected = {
        "none": "",
        "refuses": "",
        "raises": "ValueError at faulty.py:",
        "hangs": "hung at faulty.py:",
        "dies": "killed the process (-6) at faulty.py:",
        "two lines": "other than one plain line",
        "short of memory": "memory ran out",
    }
    by_fault = {}
    for index in range(60):
        path = input_of(3, index, "faulty", tmp_path / "input")
        by_fault.setdefault(path.read_text(), (index, "faulty"))
    assert by_fault.keys() == expected.keys()
    heard = outcomes(list(by_fault.values()), tmp_path, patience=1.0)
    for fault, outcome in zip(by_fault, heard, strict=True):
        assert expected[fault] in outcome.failure
        assert bool(outcome.failure) == bool(expected[fault])
        assert outcome.refused == (fault in ("refuses", "two lines", "short of memory"))
    kept = {path.read_text() for path in (tmp_path / "failures").glob("faulty-3-*/fault.txt")}
    assert kept == {fault for fault, words in expected.items() if words}


def test_an_input_is_made_again_from_its_seed_and_number(tmp_path):
    """But for the time in an archive's header, bit for bit."""
    for kind in ("image", "mask", "observation", "operator", "own prior", "NVIDIA prior", "run"):
        made = []
        for _ in range(2):
            input_of(5, 7, kind, tmp_path / "input")
            files = sorted(path for path in (tmp_path / "input").rglob("*") if path.is_file())
            made.append([(path.name, path.read_bytes()) for path in files])
        assert made[0] == made[1], kind
