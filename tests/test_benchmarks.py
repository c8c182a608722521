"""The yardstick does what ours does, and a benchmark that cannot run says why."""

import json

import pytest
import torch
from benchmarks import __main__ as benchmarks
from benchmarks import facts
from benchmarks.own_process import OwnProcess
from benchmarks.reference import PlainLoop

import iagan
from iagan.images import astronaut, crop_square
from iagan.operators import BicubicDownsample


def _task():
    generator = facts.random_began(8, 32)
    x = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    return generator, iagan.observe(x, BicubicDownsample((3, 32, 32), scale=4))


def test_the_plain_loop_takes_the_same_steps():
    """From the same starts to the same image: what is compared in time is the same work."""
    generator = iagan.load_prior("faces-64")
    photo = crop_square(astronaut(), None, generator.about.crop, (64, 64))
    observation = iagan.observe(photo, BicubicDownsample((3, 64, 64), scale=4))
    loop = PlainLoop(generator, observation)
    loop.csgm(6, restarts=2)
    plain = loop.iagan(5)
    method = iagan.IAGAN(iagan.CSGM(steps=6, restarts=2), steps=4)
    ours = iagan.reconstruct(observation, generator, method)
    torch.testing.assert_close(ours.image, plain.image, rtol=0, atol=1e-4)


@pytest.mark.parametrize("method", ["csgm", "iagan", "deepinv"])
def test_a_yardstick_runs_in_a_process_of_its_own(method):
    OwnProcess(method, *_task())(1)


def test_a_yardstick_whose_process_ends_does_not_keep_us_waiting():
    with pytest.raises(RuntimeError, match="The process of typo ended"):
        OwnProcess("typo", *_task())(1)


def _run(monkeypatch, *arguments):
    monkeypatch.setattr("sys.argv", ["benchmarks", *arguments])
    return benchmarks.main()


def test_a_benchmark_leaves_its_numbers_beside_the_machine(monkeypatch, tmp_path, capsys):
    rounds = ("--side", "8", "--rounds", "1")
    assert _run(monkeypatch, "--output", str(tmp_path), "gaussian", *rounds) == 0
    record = json.loads(next(tmp_path.glob("gaussian-*.json")).read_text())
    assert record["side"] == 8
    assert torch.__version__.startswith(record["machine"]["torch"])
    assert "two reads at" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("speed", "--prior", "nobody"), "No prior is called 'nobody'"),
        (("gaussian", "--ratio", "7"), "ratio in (0, 1]; got 7.0"),
        (("quality", "--images", "EMPTY", "--run", "EMPTY/run"), "EMPTY has none"),
    ],
)
def test_what_cannot_be_measured_is_refused_in_one_line(
    arguments, words, monkeypatch, tmp_path, capsys
):
    arguments = [each.replace("EMPTY", str(tmp_path)) for each in arguments]
    assert _run(monkeypatch, *arguments) == 2
    error = capsys.readouterr().err
    assert words.replace("EMPTY", str(tmp_path)) in error
    assert error.count("\n") == 1


def test_counts_are_counts(monkeypatch, capsys):
    with pytest.raises(SystemExit):
        _run(monkeypatch, "speed", "--rounds", "0")
    assert "expects at least 1; got 0." in capsys.readouterr().err
