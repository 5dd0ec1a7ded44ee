"""Start and stop: racing, repeated, failing, hurried."""

from __future__ import annotations

import atexit
import errno
import gc
import os
import socket
import sys
import threading
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rxtasks import ServiceStopped, TaskOptions, TaskService, TaskStatus, TaskTracker, WorkerStartError
from rxtasks.stores.base import Envelope
from rxtasks.stores.memory import MemoryStore
from tests.chaos import handlers
from tests.chaos.handlers import add, block, obey, wait_for
from tests.chaos.support import LONG, Script, Witness, assert_nothing_left, leftovers, service


def race(tasks: TaskService, *, force: bool) -> None:
    """Submit from eight threads while the service stops; every tracker ends, or submit raises."""
    barrier = threading.Barrier(9)
    trackers: list[TaskTracker] = []
    odd: list[BaseException] = []

    def feed() -> None:
        barrier.wait(LONG)
        for number in range(100_000):
            try:
                trackers.append(tasks.submit(add, number, 1))
            except ServiceStopped:
                return
            except BaseException as error:
                odd.append(error)
                return

    threads = [threading.Thread(target=feed) for _ in range(8)]
    for thread in threads:
        thread.start()
    barrier.wait(LONG)
    tasks.stop(force=force, timeout=5)
    for thread in threads:
        thread.join(LONG)
    assert not odd
    for tracker in trackers:
        error = tracker.future.exception(LONG)
        assert error is None or isinstance(error, ServiceStopped)
        assert tracker.status.terminal


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("isolation", ["process", "thread"])
def test_submit_races_stop(isolation: str, force: bool) -> None:
    """R24: submit returns a tracker that will end, or raises, also when it races stop()."""
    tasks = TaskService(workers=2, isolation=isolation, echo=None)
    for _ in range(3):
        tasks.start()
        race(tasks, force=force)


def test_the_first_submit_races_stop() -> None:
    """R24: also where the service has not been started yet."""
    for _ in range(10):
        tasks = TaskService(workers=1, isolation="thread", echo=None)
        assert not tasks.engine.started
        race(tasks, force=False)


@pytest.mark.parametrize(("isolation", "count"), [("process", 100), ("thread", 100), ("inline", 100)])
def test_starts_and_stops_leave_nothing(isolation: str, count: int) -> None:
    """W-10: a hundred starts and stops leave no process, thread or descriptor behind."""
    tasks = TaskService(workers=1, isolation=isolation, echo=None)
    before: Any = None
    for number in range(count):
        with tasks:
            tasks.start()
            assert number + 1 == tasks.submit(add, number, 1).result(LONG)
        if number == 2:
            before = leftovers()
    assert_nothing_left(before)


@pytest.mark.parametrize("end", ["kept", "stopped", "dropped"])
def test_services_that_are_never_started_hold_nothing(end: str, tmp_path: Path) -> None:
    """W-10: subscribing and touching the engine opens no descriptor that only an end of a start would close."""
    with service(1) as (warm, _):
        assert 2 == warm.submit(add, 1, 1).result(LONG)
    before = leftovers()
    kept: list[TaskService] = []
    for number in range(20):
        tasks = TaskService(workers=1, echo=None, record=str(tmp_path / f"{number}.jsonl"))
        tasks.events.subscribe(print)
        assert not tasks.engine.started
        if end == "stopped":
            tasks.stop()
        if end != "dropped":
            kept.append(tasks)
    del tasks
    assert_nothing_left(before)


def kept_by_the_interpreter() -> tuple[int, int]:
    """Return how many exit functions and how many finalizers there are."""
    gc.collect()
    return atexit._ncallbacks(), len(weakref.finalize._registry)  # type: ignore[attr-defined]


@pytest.mark.parametrize("end", ["stopped", "dropped", "failed"])
def test_starts_leave_nothing_with_the_interpreter(end: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """W-10: neither at its forks nor at its exit is anything called for a service that is over."""
    hooks: list[object] = []
    register = os.register_at_fork

    def count(**kinds: Any) -> None:
        hooks.append(kinds)
        register(**kinds)

    modules = ["no_such_module_at_all"] if end == "failed" else []
    tasks = TaskService(workers=1, isolation="thread", echo=None, modules=modules)
    before = (0, 0)
    for number in range(6):
        if end == "failed":
            with pytest.raises(WorkerStartError):
                tasks.start()
        else:
            tasks.start()
            assert 3 == tasks.submit(add, 1, 2).result(LONG)
            tasks.stop()
        if end != "stopped":
            tasks = TaskService(workers=1, isolation="thread", echo=None, modules=modules)
        if number == 0:
            before = kept_by_the_interpreter()
            monkeypatch.setattr(os, "register_at_fork", count)
    assert before == kept_by_the_interpreter()
    assert [] == hooks


def test_what_is_asked_before_the_start_is_done_by_it() -> None:
    """E-06: what is posted to an engine that does not run yet waits for its thread."""
    tasks = TaskService(workers=1, isolation="thread", echo=None)
    witness = Witness(tasks)
    tasks.pause()
    tracker = tasks.submit(add, 1, 2)
    witness.wait(lambda: [event for event in witness.pool if event.kind == "pool_paused"])
    assert TaskStatus.PENDING == tracker.status
    tasks.resume()
    assert 3 == tracker.result(LONG)
    tasks.stop()
    witness.check()


@pytest.mark.parametrize("part", ["make_readiness", "Wakeup", "Recording"])
def test_a_start_without_descriptors_raises_and_can_be_tried_again(
    part: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """R24: submit raises, takes nothing in and leaves nothing open; the next one starts the service."""

    def refuse(*_: object) -> None:
        raise OSError(errno.EMFILE, "too many open files")

    with service(1) as (warm, _):
        assert 2 == warm.submit(add, 1, 1).result(LONG)
    before = leftovers()
    tasks = TaskService(workers=1, echo=None, record=str(tmp_path / "run.jsonl"))
    with monkeypatch.context() as patch:
        patch.setattr(f"rxtasks.engine.driver.{part}", refuse)
        with pytest.raises(OSError, match="too many open files"):
            tasks.submit(add, 1, 2)
        assert [] == tasks.list()
        assert_nothing_left(before)
    assert 3 == tasks.submit(add, 1, 2).result(LONG)
    assert 1 == len(tasks.list())
    tasks.stop()


def test_a_worker_that_cannot_be_had_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """W-04, W-10: descriptors run out as a worker starts: its process is ended, and after a while there is another."""
    receive = socket.recv_fds
    refused: list[int] = []

    def refuse_one(*given: Any) -> Any:
        message, fds, flags, address = receive(*given)
        if fds and not refused:
            refused.append(int(message.split()[1]))
            os.close(fds.pop())
        return message, fds, flags, address

    with service(1) as (tasks, witness):
        monkeypatch.setattr(socket, "recv_fds", refuse_one)
        tasks.scale(2)
        witness.wait(lambda: 2 == tasks.status().idle, "the second worker")
        end = time.monotonic() + LONG
        while Path(f"/proc/{refused[0]}").exists():
            assert time.monotonic() < end, "it lives"
            threading.Event().wait(0.005)


def test_an_idle_pool_stops_at_once() -> None:
    """W-05: an idle pool stops in under a second."""
    tasks = TaskService(workers=2, echo=None)
    tasks.start()
    begin = time.monotonic()
    tasks.stop()
    assert time.monotonic() - begin < 1.0


def test_stop_lets_run_what_runs_and_fails_what_waits(tmp_path: object) -> None:
    """W-05: graceful by default: a running task finishes, one that has not started fails with ServiceStopped."""
    with service(1) as (tasks, witness):
        flag = f"{tmp_path}/go"
        runs = tasks.submit(wait_for, flag)
        witness.wait_output(runs.task_id, "here")
        waits = [tasks.submit(add, 1, 1) for _ in range(5)]
        stopper = threading.Thread(target=tasks.stop)
        stopper.start()
        for tracker in waits:
            assert isinstance(tracker.future.exception(LONG), ServiceStopped)
        open(flag, "w").close()
        stopper.join(LONG)
        assert flag == runs.result(LONG)


@pytest.mark.parametrize("handler", [block, obey])
def test_what_does_not_finish_is_cut_off(handler: Any) -> None:
    """W-05: after drain_timeout what still runs is cut off and fails with ServiceStopped; the report names it."""
    tasks = TaskService(workers=2, echo=None, drain_timeout=0.3)
    witness = Witness(tasks)
    trackers = [tasks.submit(handler) for _ in range(2)]
    for tracker in trackers:
        witness.wait_output(tracker.task_id, "here")
    begin = time.monotonic()
    report = tasks.stop()
    assert time.monotonic() - begin < 10.3
    assert {tracker.task_id for tracker in trackers} == set(report.unfinished)
    for tracker in trackers:
        assert isinstance(tracker.future.exception(LONG), ServiceStopped)
        assert TaskStatus.FAILED == tracker.status
        assert 0 == tasks.get(tracker.task_id).crashes
    witness.check()


def test_force_hurries_a_stop_that_drains() -> None:
    """W-05: a second stop with force ends at once what the first one waits for."""
    tasks = TaskService(workers=1, echo=None)
    witness = Witness(tasks)
    tracker = tasks.submit(block)
    witness.wait_output(tracker.task_id, "here")
    stopper = threading.Thread(target=tasks.stop)
    stopper.start()
    witness.wait(lambda: [event for event in witness.pool if event.kind == "stopping"])
    begin = time.monotonic()
    tasks.stop(force=True)
    stopper.join(LONG)
    assert time.monotonic() - begin < 3
    assert isinstance(tracker.future.exception(LONG), ServiceStopped)


def enveloped(task_id: str) -> Envelope:
    return Envelope(task_id, "x", "m:f", "m:f", None, "p", b"", TaskOptions(), 1)


class Interrupting(list[Envelope]):
    """Tasks whose number is asked for within the store; what comes then is as a signal handler or a finalizer."""

    def __init__(self, tasks: list[Envelope], then: Callable[[], object]) -> None:
        super().__init__(tasks)
        self._then = then

    def __len__(self) -> int:
        self._then()
        return super().__len__()


def test_a_signal_handler_or_finalizer_may_use_the_service_it_interrupts() -> None:
    """R18: submit, list and get in what interrupts a submit on the same thread; never a deadlock."""
    store = MemoryStore()
    store.enqueue([enveloped("first")])
    ended = threading.Event()

    def interrupt() -> None:
        assert store.get("first") is not None
        assert 1 == len(store.list())
        store.enqueue([enveloped("inner")])

    def use() -> None:
        store.enqueue(Interrupting([enveloped("outer")], interrupt))
        ended.set()

    threading.Thread(target=use, daemon=True).start()
    assert ended.wait(LONG)
    assert {"first", "inner", "outer"} == {row.task_id for row in store.list()}


def test_a_second_stop_returns_when_everything_is_delivered() -> None:
    """W-05: stop() on another thread while one stops already keeps its promise too: every event is delivered."""
    gate, stuck = threading.Event(), threading.Event()
    seen: list[object] = []

    def hold(event: object) -> None:
        stuck.set()
        gate.wait(LONG)
        seen.append(event)

    tasks = TaskService(workers=1, isolation="thread", echo=None, stall_timeout=LONG)
    tasks.events.subscribe(hold)
    trackers = [tasks.submit(add, number, 1) for number in range(10)]
    assert 55 == sum(tracker.result(LONG) for tracker in trackers)
    assert stuck.wait(LONG)
    first = threading.Thread(target=tasks.stop)
    first.start()
    assert tasks.engine.outlet.over.wait(LONG)
    counted: list[int] = []

    def stop() -> None:
        tasks.stop()
        counted.append(len(seen))

    second = threading.Thread(target=stop)
    second.start()
    second.join(0.5)  # it has this long to return too early
    gate.set()
    first.join(LONG)
    second.join(LONG)
    assert [20] == counted


# -- starts that fail --------------------------------------------------------------------------------------------------


def refused(**settings: Any) -> WorkerStartError:
    """Start a service that cannot; return its error, and see that nothing is left."""
    before = leftovers()
    tasks = TaskService(workers=2, echo=None, **settings)
    begin = time.monotonic()
    with pytest.raises(WorkerStartError) as caught:
        tasks.start()
    assert time.monotonic() - begin < 10
    tasks.stop(force=True)
    assert_nothing_left(before)
    return caught.value


def test_a_bad_module_fails_the_start() -> None:
    """W-04: a worker that cannot import a module fails start() with its own text."""
    assert "no_such_module_at_all" in str(refused(modules=["no_such_module_at_all"]))


def test_a_failing_initializer_fails_the_start() -> None:
    """W-04: what an initializer raises is the text of start()'s error."""
    assert "no such licence" in str(refused(initializer=handlers.bad_initializer))


def test_a_dying_initializer_fails_the_start() -> None:
    """W-04: a worker that dies before it is ready fails start() with the exit code and its last words."""
    error = str(refused(initializer=handlers.leaving_initializer))
    assert "the licence server said no" in error


def test_a_hanging_initializer_fails_the_start() -> None:
    """W-04: a worker that is not ready in time is killed and fails start(); never a hang."""
    assert "start_timeout" in str(refused(initializer=handlers.hanging_initializer, start_timeout=1.0))


def test_a_start_that_fails_fails_what_was_submitted() -> None:
    """R24, W-04: a task whose service cannot start ends with the start's error."""
    tasks = TaskService(workers=1, echo=None, modules=["no_such_module_at_all"])
    tracker = tasks.submit(add, 1, 1)
    error = tracker.future.exception(LONG)
    assert isinstance(error, WorkerStartError)
    assert "no_such_module_at_all" in str(error)
    tasks.stop(force=True)


_FEW_DESCRIPTORS = """
import os, resource, sys, threading
from rxtasks import TaskService, WorkerStartError
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
before = sorted(os.listdir("/proc/self/fd"))
few = int(sys.argv[1])
resource.setrlimit(resource.RLIMIT_NOFILE, (len(before) - 1 + few, hard))
service = TaskService(workers=1, echo=None)
try:
    service.start()
    said = "started"
except (OSError, WorkerStartError) as error:
    said = str(error)
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
assert (said == "started") == service.status().running, said
assert said == "started" or "Too many open files" in said, said
service.start()
assert service.submit(os.getpid).result(60) != os.getpid()
service.stop()
assert before == sorted(os.listdir("/proc/self/fd")), os.listdir("/proc/self/fd")
print("fine")
"""


@pytest.mark.parametrize("few", [0, 1, 2, 3, 4, 5, 6, 8, 12, 16])
def test_a_start_with_few_descriptors_fails_whole_or_succeeds(few: int) -> None:
    """R26, W-10: wherever on its way the limit is met it says so, leaves nothing, and the next start succeeds."""
    # What is imported on the way is imported by the limit's time, but for the worker's own modules.
    warm = "import rxtasks.engine.engine, rxtasks.engine.intake, rxtasks.observe.echo, rxtasks.stores.memory\n"
    with Script(warm + _FEW_DESCRIPTORS, str(few)) as script:
        assert script.line() == "fine"


@pytest.mark.parametrize("program", [None, ""])
def test_where_no_interpreter_is_known_the_start_says_so(program: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """R26: as in a program that embeds Python; and what to do about it."""
    monkeypatch.setattr(sys, "executable", program)
    with pytest.raises(WorkerStartError, match=r"sys\.executable is .*; a program that embeds Python sets it"):
        TaskService(1, echo=None).start()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_start_in_which_the_engine_fails_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """R26: it does not look like a start that succeeded."""
    tasks = TaskService(1, echo=None)
    with monkeypatch.context() as patched:
        patched.setattr("rxtasks.engine.doing.make_worker", lambda *args: 1 / 0)
        with pytest.raises(ServiceStopped, match="the engine failed: ZeroDivisionError"):
            tasks.start()
    with pytest.raises(ServiceStopped, match="the engine failed"):
        tasks.stop()
    assert tasks.start().submit(add, 1, 1).result(LONG) == 2
    tasks.stop()
