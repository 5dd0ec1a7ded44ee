"""How a TaskExecutor ends: shutdown in its forms, the end of the interpreter, forks (N-03)."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
import weakref
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from rxtasks import ServiceStopped, TaskExecutor, TaskService
from tests.acceptance import jobs
from tests.acceptance.support import SOON, Gate, recorded

ROOT = Path(__file__).parents[2]
ISOLATIONS = ["process", "thread", "inline"]
APART = ["process", "thread"]


def executor(isolation: str = "thread", workers: int = 1) -> TaskExecutor:
    return TaskExecutor(workers, isolation=isolation, echo=None)


def run_script(tmp_path: Path, text: str, *args: str) -> subprocess.CompletedProcess[str]:
    script = tmp_path / "script.py"
    script.write_text(text, "utf-8")
    return subprocess.run(
        [sys.executable, str(script), *args],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )


# -- shutdown --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("isolation", ISOLATIONS)
def test_shutdown_finishes_what_was_submitted_and_takes_no_more(isolation: str) -> None:
    """N-03: results are there, callbacks were called, the workers are gone; it may be repeated."""
    made, called = executor(isolation, 2), []
    futures = [made.submit(jobs.double, number) for number in range(50)]
    for future in futures:
        future.add_done_callback(called.append)
    made.shutdown()
    assert all(future.done() for future in futures) and 50 == len(called)
    assert [2 * number for number in range(50)] == [future.result() for future in futures]
    assert not made.service.status().running
    for _ in range(2):
        with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
            made.submit(jobs.double, 1)
        with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
            made.map(jobs.double, [1])
        made.shutdown()


def test_an_executor_that_was_never_used_is_shut_down() -> None:
    """N-03: no worker is started for it."""
    with executor("process") as made:
        assert 0 == made.service.status().workers
    with pytest.raises(RuntimeError):
        made.submit(jobs.double, 1)


@pytest.mark.parametrize("isolation", APART)
def test_shutdown_without_wait_returns_at_once_and_frees_the_workers_later(isolation: str, tmp_path: Path) -> None:
    """N-03: pending calls are still run."""
    gate = Gate(tmp_path)
    made = executor(isolation)
    pool = recorded(made.service.pool)
    futures = [made.submit(jobs.wait_at, gate.path, "first"), made.submit(jobs.double, 2)]
    with open(gate.path, "w", encoding="utf-8"):
        made.shutdown(wait=False)
        assert not any(future.done() for future in futures)
        with pytest.raises(RuntimeError):
            made.submit(jobs.double, 1)
    assert ["first", 4] == [future.result(timeout=SOON) for future in futures]
    pool.over()
    made.shutdown()


@pytest.mark.parametrize("wait", [True, False])
@pytest.mark.parametrize("isolation", APART)
def test_shutdown_may_cancel_what_has_not_begun(isolation: str, wait: bool, tmp_path: Path) -> None:
    """N-03: what runs is finished; every other future is cancelled at once."""
    gate = Gate(tmp_path)
    made = executor(isolation)
    first = made.submit(jobs.wait_at, gate.path, "first")
    with open(gate.path, "w", encoding="utf-8"):
        others = [made.submit(jobs.double, number) for number in range(2000)]
        made.shutdown(wait=False, cancel_futures=True)
        assert all(future.cancelled() for future in others)
        assert not first.done()
    if wait:
        made.shutdown(wait=True, cancel_futures=True)
    assert "first" == first.result(timeout=SOON)


@pytest.mark.parametrize("isolation", APART)
def test_an_executor_that_is_dropped_finishes_and_frees_its_workers(isolation: str) -> None:
    """N-03: as with the executors of the standard library."""
    made = executor(isolation)
    pool, reference = recorded(made.service.pool), weakref.ref(made)
    results = made.map(jobs.double, range(20))
    del made
    gc.collect()
    assert reference() is None
    assert [2 * number for number in range(20)] == list(results)
    pool.over()


def test_shutdown_within_a_callback_ends() -> None:
    """N-03: it does not wait for itself."""
    made, over = executor(), threading.Event()

    def end(_: object) -> None:
        made.shutdown()
        over.set()

    made.submit(jobs.double, 1).add_done_callback(end)
    assert over.wait(SOON)
    made.shutdown()


@pytest.mark.parametrize("isolation", ["thread", "inline"])
def test_a_call_may_shut_its_executor_down(isolation: str) -> None:
    """N-03: it is not waited for by itself."""
    made = executor(isolation)
    pool = recorded(made.service.pool)
    assert made.submit(made.shutdown).exception(timeout=SOON) is None
    with pytest.raises(RuntimeError):
        made.submit(jobs.double, 1)
    pool.over()


def test_shutdown_waits_for_callbacks_that_are_under_way() -> None:
    """N-03: also where the service goes on."""
    began, released, called = threading.Event(), threading.Event(), []
    with TaskService(1, isolation="thread", echo=None) as service:
        made = service.executor()
        future = made.submit(jobs.double, 1)

        def hold(_: object) -> None:
            began.set()
            released.wait(SOON)
            called.append("held")

        blocked = threading.Event()
        made.submit(blocked.wait, SOON).add_done_callback(hold)
        blocked.set()
        assert began.wait(SOON) and 2 == future.result(timeout=SOON)
        seen: list[list[str]] = []
        ending = threading.Thread(target=lambda: seen.append([made.shutdown() or "ended", *called]))
        ending.start()
        ending.join(0.3)  # one that does not wait is over by then
        released.set()
        ending.join(SOON)
        assert [["ended", "held"]] == seen


class SlowToPickle:
    """An argument that holds submit until the test lets it go on."""

    def __init__(self) -> None:
        self.begun, self.go_on = threading.Event(), threading.Event()

    def __reduce__(self) -> tuple[Any, ...]:
        self.begun.set()
        self.go_on.wait(SOON)
        return int, (4,)


def test_a_submit_that_a_shutdown_finds_under_way_is_finished() -> None:
    """N-03: it was there first."""
    made, slow, futures = executor("process"), SlowToPickle(), []
    made.submit(jobs.double, 1).result(timeout=SOON)
    submitting = threading.Thread(target=lambda: futures.append(made.submit(jobs.double, slow)))
    submitting.start()
    assert slow.begun.wait(SOON)
    ending = threading.Thread(target=made.shutdown)
    ending.start()
    ending.join(0.3)  # one that does not wait is over by then
    slow.go_on.set()
    ending.join(SOON)
    submitting.join(SOON)
    assert not ending.is_alive() and 8 == futures[0].result(timeout=0)


@pytest.mark.parametrize("isolation", ISOLATIONS)
def test_submits_that_race_a_shutdown_end_or_are_refused(isolation: str) -> None:
    """N-03: no future is left behind, and none fails because of the shutdown."""
    made = executor(isolation, 2)
    made.submit(jobs.double, 0).result(timeout=SOON)
    futures, refused, ready = [], [], threading.Barrier(4)

    def submit() -> None:
        ready.wait(SOON)
        try:
            for number in range(100_000):
                futures.append((number, made.submit(jobs.double, number)))
        except RuntimeError as error:
            refused.append(str(error))

    threads = [threading.Thread(target=submit) for _ in range(3)]
    for thread in threads:
        thread.start()
    ready.wait(SOON)
    made.shutdown()
    for thread in threads:
        thread.join(SOON)
        assert not thread.is_alive()
    assert ["cannot schedule new futures after shutdown"] * 3 == refused
    assert all(2 * number == future.result(timeout=0) for number, future in futures)


def test_a_submit_that_finds_no_room_for_a_thread_keeps_no_shutdown_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """N-03: nothing is left of a submit that raises, whatever raised in it, and the next one is as the first."""
    start, refused = threading.Thread.start, []

    def start_later(thread: threading.Thread) -> None:
        if thread.name == "rxtasks-executor" and not refused:
            refused.append(thread)
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", start_later)
    made = executor("thread")
    with pytest.raises(RuntimeError, match="can't start"):
        made.submit(abs, -1)
    assert 2 == made.submit(abs, -2).result(timeout=SOON)
    ended = threading.Thread(target=made.shutdown, daemon=True)
    ended.start()
    ended.join(SOON)
    assert refused and not ended.is_alive()


def test_a_finalizer_may_submit_while_its_thread_is_in_submit(monkeypatch: pytest.MonkeyPatch) -> None:
    """N-03: it, or a signal handler, runs in the midst of another call."""
    start, made = threading.Thread.start, executor("thread")
    nested: list[Future[int]] = []
    asked: list[None] = []

    def start_and_submit(thread: threading.Thread) -> None:
        if thread.name == "rxtasks-executor" and not asked:
            asked.append(None)
            nested.append(made.submit(abs, -1))
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", start_and_submit)
    outer: list[Future[int]] = []
    caller = threading.Thread(target=lambda: outer.append(made.submit(abs, -2)), daemon=True)
    caller.start()
    caller.join(SOON)
    assert [2, 1] == [future.result(timeout=SOON) for future in outer + nested]
    made.shutdown()


@pytest.mark.parametrize("isolation", ["process", "thread"])
def test_killing_the_workers_ends_every_call_now(isolation: str, tmp_path: Path) -> None:
    """N-03: kill_workers and terminate_workers of ProcessPoolExecutor, since Python 3.14."""
    gate = Gate(tmp_path)
    made = executor(isolation)
    futures = [made.submit(jobs.wait_at, gate.path) for _ in range(3)]
    held = os.open(gate.path, os.O_WRONLY)  # a call is there
    made.kill_workers()
    assert [True] * 3 == [isinstance(future.exception(timeout=SOON), ServiceStopped) for future in futures]
    with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
        made.submit(abs, -1)
    made.terminate_workers()
    os.close(held)


def test_the_workers_of_a_service_are_not_its_executor_s_to_kill() -> None:
    """N-03: others use them, too."""
    with TaskService(workers=1, isolation="thread", echo=None) as service, service.executor() as shared:
        with pytest.raises(RuntimeError, match="others use"):
            shared.kill_workers()
        assert 1 == shared.submit(abs, -1).result(timeout=SOON)


def test_a_service_that_is_stopped_ends_the_calls() -> None:
    """N-03: futures of calls that were cut off tell so; submit says that there is no service."""
    made = executor()
    blocked = threading.Event()
    first, second = made.submit(blocked.wait, SOON), made.submit(jobs.double, 1)
    recorded(first.tracker.statuses).wait(lambda r: bool(r.values))
    stopping = threading.Thread(target=made.service.stop)
    stopping.start()
    assert isinstance(second.exception(timeout=SOON), ServiceStopped)
    blocked.set()
    assert first.result(timeout=SOON) is True
    stopping.join(SOON)
    with pytest.raises(RuntimeError, match="cannot schedule new futures: the service is stopped"):
        made.submit(jobs.double, 1)
    made.shutdown()


# -- the interpreter -------------------------------------------------------------------------------------------------------

_PENDING = """
import sys, time
from rxtasks import TaskExecutor

def say(number, path):
    time.sleep(0.1)  # there is work left when the script ends
    with open(path, "a") as lines:
        lines.write(f"said {number}\\n")

executor = TaskExecutor(1, isolation=sys.argv[1])
for number in range(3):
    executor.submit(say, number, sys.argv[2])
"""


@pytest.mark.parametrize("last", ["", "executor.shutdown(wait=False)", "del executor", "sys.exit(0)"])
@pytest.mark.parametrize("isolation", APART)
def test_the_interpreter_ends_when_everything_submitted_has(isolation: str, last: str, tmp_path: Path) -> None:
    """N-03: whatever became of the executor; nothing is written to stderr."""
    said = tmp_path / "said"
    done = run_script(tmp_path, _PENDING + last, isolation, str(said))
    assert ("", 0) == (done.stderr, done.returncode)
    assert "said 0\nsaid 1\nsaid 2\n" == said.read_text("utf-8")


@pytest.mark.parametrize("isolation", ISOLATIONS)
def test_nothing_is_submitted_while_the_interpreter_ends(isolation: str, tmp_path: Path) -> None:
    """N-03: atexit functions, which come later, get a RuntimeError, also of an executor that they make."""
    done = run_script(
        tmp_path,
        """
import atexit, sys
from rxtasks import TaskExecutor

@atexit.register
def last():
    for late in (executor, TaskExecutor(1, isolation=sys.argv[1])):
        try:
            late.submit(abs, -1)
        except RuntimeError as error:
            print(error)

executor = TaskExecutor(1, isolation=sys.argv[1])
print(executor.submit(abs, -42).result())
""",
        isolation,
    )
    assert ("", 0) == (done.stderr, done.returncode)
    refused = "cannot schedule new futures after interpreter shutdown"
    assert ["42", refused, refused] == done.stdout.splitlines()


def test_a_forked_child_ends_without_the_parent_s_calls(tmp_path: Path) -> None:
    """N-03: the child has a copy of what is pending, and must not wait for it; its submits are refused."""
    done = run_script(
        tmp_path,
        """
import os, sys, threading, warnings
from rxtasks import TaskExecutor

warnings.simplefilter("ignore", DeprecationWarning)  # of a fork beside threads, which is what is tried
executor = TaskExecutor(1, isolation="thread", echo=None)
gate = threading.Event()
waiting = executor.submit(gate.wait, 30)
child = os.fork()
if child == 0:
    try:
        executor.submit(abs, -1)
    except RuntimeError as error:
        print("refused" if "forked" in str(error) else error, waiting.cancel(), flush=True)
    executor.shutdown()
    sys.exit(5)
_, status = os.waitpid(child, 0)
gate.set()
print(os.waitstatus_to_exitcode(status), waiting.result(30), flush=True)
""",
    )
    assert ("", 0) == (done.stderr, done.returncode)
    assert ["refused False", "5 True"] == done.stdout.splitlines()
