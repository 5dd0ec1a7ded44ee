"""The core's thread is there before the engine: it starts the guardian, which loads while the engine is made."""

from __future__ import annotations

import os
import threading
from typing import Any

import pytest

from rxtasks import TaskService
from rxtasks.engine import driver
from rxtasks.engine.corethread import CoreThread
from rxtasks.isolation.guardian import Guardian, can_guard

SOON = 20.0


def threads() -> list[str]:
    """Return the names of the threads that run."""
    return sorted(thread.name for thread in threading.enumerate())


def descriptors() -> set[str]:
    """Return the descriptors that are open."""
    return set(os.listdir("/proc/self/fd"))


def childless() -> bool:
    """Return whether this process has no child, not even an ended one."""
    try:
        os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        return True
    return False


needs_server = pytest.mark.skipif(not can_guard(), reason="needs Linux")


@needs_server
def test_the_server_is_started_by_the_thread_that_does_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fact 2: the kernel wakes it when that thread has ended, and no sooner."""
    started: list[int] = []
    start = Guardian._begin

    def noted(server: Guardian) -> None:
        start(server)
        started.append(threading.get_ident())

    monkeypatch.setattr(Guardian, "_begin", noted)
    thread = CoreThread(guardian=True)
    thread.begin()
    thread.begin()
    assert len(started) == 1
    assert thread.is_alive()
    done = threading.Event()

    def work() -> None:
        started.append(threading.get_ident())
        thread.guardian.close()
        done.set()

    thread.run(work)
    assert done.wait(SOON)
    assert started[0] == started[1] != threading.get_ident()


def test_abandoned_it_leaves_nothing_and_can_be_begun_again() -> None:
    """W-05: no thread, no process, no descriptor."""
    before = threads(), descriptors(), childless()
    thread = CoreThread(guardian=True)
    thread.abandon()
    for _ in range(2):
        thread.begin()
        assert threads() != before[0]
        thread.abandon()
        assert not thread.is_alive()
        assert before == (threads(), descriptors(), childless())


def test_the_server_loads_while_the_engine_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """W-11: it has been started when the engine's modules are imported; not where nobody starts, or no process is wanted."""
    seen: list[bool] = []
    make = TaskService._make_engine

    def looked(service: TaskService, thread: CoreThread) -> Any:
        seen.append(thread.guardian._process is not None)
        return make(service, thread)

    monkeypatch.setattr(TaskService, "_make_engine", looked)
    for settings in ({}, {"fork_server": False}, {"isolation": "thread"}):
        with TaskService(1, echo=None, **settings) as service:  # type: ignore[arg-type]
            service.start()
    with TaskService(1, echo=None) as service:
        assert service.explain() is not None
    assert seen == [can_guard(), can_guard(), False, False]


@pytest.mark.parametrize("where", ["the engine", "the descriptors", "between"])
def test_a_start_that_fails_leaves_nothing(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """W-10, R26: neither the thread nor the server, and the next start succeeds."""
    before = threads(), descriptors(), childless()

    def fail(*args: Any, **kwargs: Any) -> Any:
        raise OSError(24, "no room here")

    service = TaskService(1, echo=None)
    with monkeypatch.context() as patched:
        if where == "the engine":
            patched.setattr(TaskService, "_make_engine", fail)
        elif where == "the descriptors":
            patched.setattr(driver, "make_readiness", fail)
        else:  # as by a KeyboardInterrupt
            patched.setattr("rxtasks.engine.engine.TaskEngine.start", fail)
        with pytest.raises(OSError, match="no room here"):
            service.start()
    if where == "between":
        service.stop()
    assert before == (threads(), descriptors(), childless())
    assert service.start().submit(os.getpid).result(SOON) != os.getpid()
    service.stop()


def test_a_forked_child_begins_a_thread_of_its_own() -> None:
    """Fact 3: the parent's is not there, and its server is the parent's."""
    thread = CoreThread(guardian=True)
    thread.begin()
    server = thread.guardian._process
    pid = os.fork()
    if pid == 0:
        done = threading.Event()
        thread.run(done.set)
        os._exit(0 if done.wait(SOON) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert server is None or server.poll() is None
    thread.abandon()
