"""Jobs are values that run anywhere; a folder is finished, skipped, stopped and resumed."""

from __future__ import annotations

import dataclasses as dc
import io
import json
import os
import pickle
import sys
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing import get_context

import pytest
import torch

import iagan
from iagan import jobs
from iagan.errors import Cancelled, OutputError, SettingError
from iagan.images import load_image, save_image
from iagan.jobs import Job, recover, run_jobs
from iagan.methods import CSGM, IAGAN, Estimate, Method, Naive, register
from iagan.operators import BicubicDownsample, Identity, from_functions
from toys import SHAPE, images, nonlinear_generator, observe

QUICK = IAGAN(CSGM(steps=4), steps=2)
ONE_THREAD = iagan.Execution(threads=1)


@pytest.fixture(scope="module")
def pool():
    """Processes that know nothing but what a job tells them."""
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as executor:
        yield executor


@pytest.fixture
def folder(tmp_path):
    """Two small photographs."""
    for name, image in zip("ab", images(2), strict=True):
        save_image(image[None, :, ::4, ::4], tmp_path / "in" / f"{name}.png")
    return tmp_path / "in"


def scaled(shape):
    return BicubicDownsample(shape, scale=4)


def run(folder, out, **options):
    """`recover` with a toy prior; what it gives, as a list."""
    chosen = {"prior": nonlinear_generator(), "operator": scaled, "methods": [QUICK]} | options
    return list(recover([folder], out, **chosen))


def pixels(path):
    return {each.name: load_image(each) for each in sorted(path.glob("*.png"))}


def test_a_job_pickles_and_is_the_same_in_another_process(pool):
    """Bit for bit, every method and its trace; its operator, prior and seeds go with it."""
    job = Job(observe(2), (QUICK.start, QUICK), nonlinear_generator(), (3, 4), ONE_THREAD)
    copy = pickle.loads(pickle.dumps(job))
    assert copy.methods == job.methods
    here = [result for _, result in run_jobs([job])]
    there = [result for _, result in run_jobs([job], pool)]
    assert [result.method for result in there] == [QUICK.start, QUICK]
    for mine, its in zip(here, there, strict=True):
        assert torch.equal(mine.image, its.image)
        assert torch.equal(mine.trace, its.trace)


def test_a_job_that_fails_gives_its_error_and_others_go_on(pool):
    """Also through an executor, where errors are pickled."""
    wrong = Job(observe(1), (QUICK,), None)
    right = Job(observe(1), (Naive(),), None)
    for executor in (None, pool):
        (_, error), (job, result) = run_jobs([wrong, right], executor)
        assert isinstance(error, SettingError) and "needs a prior" in str(error)
        assert job is right and isinstance(result, iagan.Reconstruction)


def test_an_executor_that_breaks_is_told_in_words(folder, tmp_path):
    """What it raises is no error of ours, and ends no folder."""

    class Broken:
        def submit(self, function, job):
            future = Future()
            future.set_exception(OSError("no route to host"))
            return future

    outcomes = run(folder, tmp_path / "out", executor=Broken())
    assert [o.status for o in outcomes] == ["failed", "failed"]
    assert "OSError: no route to host" in str(outcomes[0].error)


def test_a_job_that_cannot_be_sent_is_told_in_words(folder, tmp_path, pool):
    """A function without a name does not pickle."""
    options = {"operator": lambda shape: _halved(shape, 0.5), "methods": ["naive"]}
    save_image(images(1), tmp_path / "small" / "a.png")
    (outcome,) = run(tmp_path / "small", tmp_path / "out", executor=pool, **options)
    assert outcome.status == "failed" and "could not run a job" in str(outcome.error)


def test_an_executor_is_given_a_few_jobs_at_a_time():
    """One that starts a job when its result is asked for: 40 jobs never wait there at once."""
    waiting = []

    class Late(Future):
        def result(self, timeout=None):
            waiting.remove(self)
            return super().result()

    class Executor:
        def submit(self, function, job):
            future = Late()
            future.set_result(function(job))
            waiting.append(future)
            assert len(waiting) <= jobs.job.IN_FLIGHT
            return future

    all_jobs = [Job(observe(1), (Naive(),), None) for _ in range(40)]
    assert [job for job, _ in run_jobs(all_jobs, Executor())] == all_jobs


def test_recover_is_the_same_by_an_executor(folder, tmp_path, pool):
    here = run(folder, tmp_path / "here", execution=ONE_THREAD)
    there = run(folder, tmp_path / "there", execution=ONE_THREAD, executor=pool)
    assert [o.output.name for o in there] == ["a_iagan.png", "b_iagan.png"]
    for mine, its in zip(here, there, strict=True):
        assert torch.equal(mine.image, its.image)
        assert its.record["residual"] == mine.record["residual"]
        shown = load_image(its.output)
        assert float((shown - its.image.clamp(0, 1)).abs().max()) <= 0.5 / 255 + 1e-6


def test_what_was_made_with_the_same_settings_is_skipped(folder, tmp_path):
    out = tmp_path / "out"
    assert [o.status for o in run(folder, out)] == ["done", "done"]
    before = pixels(out)
    again = run(folder, out)
    assert [o.status for o in again] == ["skipped", "skipped"]
    save_image(images(3)[2:, :, ::4, ::4], folder / "c.png")
    assert [o.status for o in run(folder, out)] == ["skipped", "skipped", "done"]
    after = pixels(out)
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"seed": 1}, "another seed"),
        ({"methods": [dc.replace(QUICK, steps=3)]}, "other settings of the method"),
        ({"noise_std": 0.1}, "another measurement"),
        ({"prior": nonlinear_generator(seed=1)}, "another prior"),
        ({"execution": iagan.Execution(precision="bfloat16")}, "another precision"),
    ],
)
def test_what_was_made_with_other_settings_is_not_taken_for_it(change, word, folder, tmp_path):
    """Nor is it replaced, unless that is asked for."""
    out = tmp_path / "out"
    run(folder, out)
    before = pixels(out)
    refused = run(folder, out, **change)
    assert [o.status for o in refused] == ["failed", "failed"]
    assert f"made with {word}" in str(refused[0].error)
    assert all(torch.equal(before[name], image) for name, image in pixels(out).items())
    assert [o.status for o in run(folder, out, overwrite=True, **change)] == ["done", "done"]


def test_a_picture_of_somebody_elses_is_not_replaced(folder, tmp_path):
    save_image(images(1), tmp_path / "out" / "a_naive.png")
    outcomes = run(folder, tmp_path / "out", methods=["naive"])
    assert [o.status for o in outcomes] == ["failed", "done"]
    assert isinstance(outcomes[0].error, OutputError)
    assert "settings are unknown" in str(outcomes[0].error)


def test_an_operator_without_a_spec_is_never_taken_for_another(folder, tmp_path):
    """Two functions of one name may measure different things."""
    options = {"methods": ["naive"], "operator": lambda shape: _halved(shape, 0.5)}
    small = tmp_path / "small"
    save_image(images(1), small / "a.png")
    assert [o.status for o in run(small, tmp_path / "out", **options)] == ["done"]
    again = run(small, tmp_path / "out", **options)
    assert [o.status for o in again] == ["failed"]
    assert "has no spec" in str(again[0].error)


def _halved(shape, share):
    return from_functions(shape, lambda x: share * x)


def test_a_bad_input_and_a_bad_output_end_nothing(folder, tmp_path):
    (folder / "0.png").write_bytes(b"no picture")
    out = tmp_path / "out"
    (out / "a_iagan.png").mkdir(parents=True)
    outcomes = {o.path.stem: o for o in run(folder, out, overwrite=True)}
    assert {stem: o.status for stem, o in outcomes.items()} == {
        "0": "failed",
        "a": "failed",
        "b": "done",
    }
    assert outcomes["0"].method is None


@register
@dc.dataclass(frozen=True)
class Picky(Method):
    """Refuses a batch with a bright image in it."""

    kind = "picky"
    needs_prior = False

    def run(self, task):
        if float(task.observation.y.mean((1, 2, 3)).max()) > 0.9:
            raise SettingError("Too bright.")
        return Estimate.direct(task.observation.operator.naive(task.observation.y))


def test_of_inputs_worked_on_together_only_the_bad_one_fails(folder, tmp_path):
    save_image(torch.ones(1, 3, 4, 4), folder / "aa.png")
    outcomes = run(folder, tmp_path / "out", methods=[Picky()])
    assert [(o.path.stem, o.status) for o in outcomes] == [
        ("a", "done"),
        ("aa", "failed"),
        ("b", "done"),
    ]


def test_cancelling_keeps_the_best_so_far_and_the_next_call_finishes(folder, tmp_path):
    """An exception of the callback, as a page's stop button raises."""
    out = tmp_path / "out"
    seen = []

    def stop(event):
        seen.append(event.phase)
        if event.phase == "iagan":
            raise RuntimeError("the button")

    outcomes = []
    with pytest.raises(Cancelled, match="RuntimeError"):
        for outcome in recover(
            [folder],
            out,
            prior=nonlinear_generator(),
            operator=scaled,
            methods=["naive", QUICK],
            on_event=stop,
        ):
            outcomes.append(outcome)
    assert [o.status for o in outcomes] == ["done", "done", "stopped", "stopped"]
    assert outcomes[2].output.name == "a_iagan.partial.png"
    assert outcomes[2].output.exists()
    again = run(folder, out, methods=["naive", QUICK])
    assert sorted(o.status for o in again) == ["done", "done", "skipped", "skipped"]
    assert {path.name for path in out.iterdir()} == {
        f"{stem}_{name}.png" for stem in "ab" for name in ("naive", "iagan")
    }


def test_a_callback_that_stops_between_files_is_a_cancellation_too(folder, tmp_path):
    def stop(event):
        if event.phase == "files" and event.step == 1:
            raise RuntimeError("the button")

    with pytest.raises(Cancelled, match="finished results are kept"):
        run(folder, tmp_path / "out", methods=["naive"], on_event=stop)
    assert (tmp_path / "out" / "a_naive.png").exists()


def test_events_count_the_files(folder, tmp_path):
    (folder / "0.png").write_bytes(b"no picture")
    events = []
    run(folder, tmp_path / "out", methods=["naive", QUICK], on_event=events.append)
    assert [(e.step, e.total) for e in events if e.phase == "files"] == [
        (step, 3) for step in range(4)
    ]
    assert {"csgm", "iagan"} <= {e.phase for e in events}


def test_scores_settings_and_messages_are_in_the_record(folder, tmp_path):
    truth = tmp_path / "truth"
    for name, image in zip("ab", images(2), strict=True):
        save_image(image[None], truth / f"{name}.png")
    (first, second) = run(folder, tmp_path / "out", truth=truth)
    record = json.loads(jobs.to_json(second.record))
    expected = iagan.measure.psnr(second.image.clamp(0, 1).float(), load_image(truth / "b.png"))
    assert record["psnr"] == pytest.approx(expected)
    assert iagan.methods.from_spec(record["settings"]) == QUICK
    (message,) = record["messages"]
    assert "too few iterations" in message
    assert first.record["prior"] == "unnamed"
    assert first.record["output"] == str(tmp_path / "out" / "a_iagan.png")
    (left_out, _) = run(folder, tmp_path / "none", truth=truth, lpips_net=None)
    assert (left_out.record["ssim"], left_out.record["lpips"]) == (first.record["ssim"], None)


@pytest.mark.parametrize(
    ("wrong", "word"),
    [
        ({"methods": []}, "at least one"),
        ({"methods": "csgm"}, "a list of at least one"),
        ({"operator": "bicubic"}, "as a LinearOperator, or a function"),
    ],
)
def test_arguments_that_cannot_work_are_refused(wrong, word, folder, tmp_path):
    with pytest.raises(SettingError, match=word):
        run(folder, tmp_path / "out", **wrong)
    assert not (tmp_path / "out").exists()


def test_one_input_need_not_be_a_list(folder, tmp_path):
    (outcome,) = recover(
        folder / "a.png",
        tmp_path / "out",
        operator=scaled,
        prior=nonlinear_generator(),
        methods=["naive"],
    )
    assert outcome.status == "done"
    (outcome,) = run(folder / "a.png", tmp_path / "out", operator=lambda shape: 5)
    assert outcome.status == "failed"


def test_two_methods_of_one_name_are_refused(folder, tmp_path):
    outcomes = run(folder, tmp_path / "out", methods=[CSGM(steps=2), CSGM(steps=3)])
    assert all("Two methods are called csgm" in str(o.error) for o in outcomes)


def test_several_images_of_one_observation_have_files_of_their_own(tmp_path):
    y = iagan.Observation(images(3).float(), Identity(SHAPE))
    iagan.save_observation(y, tmp_path / "y.npz")
    outcomes = run(tmp_path / "y.npz", tmp_path / "out", operator=None, methods=["naive"])
    assert [(o.index, o.output.name) for o in outcomes] == [
        (i, f"y-{i}_naive.png") for i in range(3)
    ]
    assert [o.record["index"] for o in outcomes] == [0, 1, 2]


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_bar_is_drawn_for_the_files_and_for_each_phase(folder, tmp_path, monkeypatch):
    """On a terminal: files done of all, and the objective falling."""
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with iagan.ProgressBar() as bar:
        run(folder, tmp_path / "out", methods=[IAGAN(CSGM(steps=40), steps=40)], on_event=bar)
    drawn = terminal.getvalue()
    assert "files" in drawn and "2/2" in drawn
    assert "csgm" in drawn and "iagan" in drawn


@pytest.mark.skipif(sys.platform == "win32", reason="no pseudoterminals there")
@pytest.mark.parametrize("size", [(0, 0), (0, 90), (24, 0), (24, 90)])
def test_a_bar_is_drawn_on_a_terminal_without_a_size(size, monkeypatch):
    """As that of a container or a serial line."""
    import fcntl
    import pty
    import struct
    import termios

    ours, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", *size, 0, 0))
    with os.fdopen(its, "w") as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        with iagan.ProgressBar("face") as bar:
            bar(iagan.Event("csgm", 1, 5))
        drawn = os.read(ours, 4096).decode()
    os.close(ours)
    assert "face csgm" in drawn and "0/5" in drawn


def test_nothing_is_drawn_where_nobody_looks(folder, tmp_path, capsys):
    with iagan.ProgressBar() as bar:
        run(folder, tmp_path / "out", methods=[QUICK.start], on_event=bar)
    assert capsys.readouterr().err == ""
