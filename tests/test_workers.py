"""Problems on threads of their own: a share of the cores each, one end for all."""

import os
import signal
import threading
import time

import pytest
import torch

from iagan.engine import execution
from iagan.engine.events import Event
from iagan.engine.workers import Cancellation, map_on_threads
from iagan.errors import SettingError


@pytest.fixture(autouse=True)
def _three_threads():
    """And as many when the work is done."""
    torch.set_num_threads(3)
    yield
    assert torch.get_num_threads() == 3
    torch.set_num_threads(1)


def _map(function, problems, on_event=None, workers=None, threads=3):
    return map_on_threads(function, problems, threads, Cancellation(), on_event, workers)


def test_results_come_in_order_from_threads_of_their_own():
    def work(problem, tell):
        return problem**2, threading.get_ident(), torch.is_grad_enabled()

    with torch.inference_mode():
        results = _map(work, list(range(7)))
    assert [square for square, _, _ in results] == [i**2 for i in range(7)]
    assert threading.get_ident() not in {thread for _, thread, _ in results}
    assert all(grad for _, _, grad in results)


@pytest.mark.parametrize(("problems", "workers", "each"), [(5, None, 1), (1, None, 3), (5, 1, 3)])
def test_the_cores_are_shared_out_among_the_workers(problems, workers, each):
    counts = _map(lambda problem, tell: torch.get_num_threads(), range(problems), workers=workers)
    assert counts == [each] * problems


def test_threads_that_start_meanwhile_have_all_cores():
    """torch gives a new thread the number that was set last."""
    counts = []

    def look():
        counts.append(torch.get_num_threads())

    def on_event(event):
        other = threading.Thread(target=look)
        other.start()
        other.join()

    _map(lambda problem, tell: tell(Event("x", 1, 1)), range(4), on_event)
    assert counts == [3] * 4


def test_events_reach_the_caller_in_its_thread():
    told = []

    def work(problem, tell):
        for step in range(3):
            tell(Event("x", step, 3, indices=(problem,)))

    _map(work, range(4), lambda event: told.append((threading.get_ident(), event)))
    assert {thread for thread, _ in told} == {threading.get_ident()}
    for problem in range(4):
        assert [e.step for _, e in told if e.indices == (problem,)] == [0, 1, 2]


@pytest.mark.parametrize("error", [ValueError("no more"), KeyboardInterrupt()])
def test_an_exception_of_the_callback_asks_the_work_to_end(error):
    cancellation = Cancellation()

    def work(problem, tell):
        step = 0
        while not cancellation:
            step += 1
            tell(Event("x", step, 10**9))
        return step

    def on_event(event):
        if event.step == 3:
            raise error

    steps = map_on_threads(work, range(3), 3, cancellation, on_event)
    assert len(steps) == 3
    assert cancellation.cause is error


def test_one_worker_is_the_callers_own_thread_where_ctrl_c_waits_for_the_next_step():
    """A real SIGINT: the work goes on to where it heeds the cancellation, with its result."""
    cancellation = Cancellation()

    def work(problem, tell):
        assert threading.current_thread() is threading.main_thread()
        assert torch.is_grad_enabled() and not torch.is_inference_mode_enabled()
        os.kill(os.getpid(), signal.SIGINT)
        until = time.monotonic() + 20  # another thread of the process may be told first
        while time.monotonic() < until:
            if cancellation:
                return "so far"
        raise AssertionError("the interrupt is lost")

    given = signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in the background
    try:
        with torch.inference_mode():
            assert map_on_threads(work, [0], 3, cancellation) == ["so far"]
        assert isinstance(cancellation.cause, KeyboardInterrupt)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, given)


def test_idle_threads_are_those_that_others_leave(monkeypatch):
    """Of three cores in 0.1 s of 100 ticks a second: idle, half busy, busy."""
    ticks = iter([[50, 50, 50], [60, 55, 50]] * 2)
    monkeypatch.setattr(execution, "_idle_ticks", lambda: next(ticks))
    monkeypatch.setattr(execution.os, "sysconf", lambda name: 100)
    monkeypatch.setattr(execution.time, "sleep", lambda seconds: None)
    assert execution.idle_threads() == 2
    monkeypatch.setattr(execution, "_idle_ticks", lambda: None)
    assert execution.idle_threads() == 3


@pytest.mark.parametrize("error", [ValueError("broken"), KeyboardInterrupt()])
def test_an_error_of_a_worker_is_raised_when_all_have_ended(error):
    ended = []

    def work(problem, tell):
        if problem == 0:
            raise error
        ended.append(problem)

    before = set(threading.enumerate())
    with pytest.raises(type(error)):
        _map(work, range(3))
    assert sorted(ended) in ([], [1], [2], [1, 2])
    assert set(threading.enumerate()) <= before


def test_a_thread_that_cannot_start_is_told_and_ends_the_others(monkeypatch):
    """As under a limit of processes; the others wait for it."""
    start, started = threading.Thread.start, []

    def scarce(thread):
        if len(started) == 2:
            raise RuntimeError("can't start new thread")
        started.append(thread)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", scarce)
    with pytest.raises(SettingError, match="3 threads .* can't start new thread.*--threads 1"):
        _map(lambda problem, tell: problem, range(3))
    for thread in started:
        thread.join(10)
    assert not any(thread.is_alive() for thread in started)
