"""The caller's process: killed, forked, with SIGCHLD ignored, its thread gone."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import threading
from typing import Any

import pytest

from rxtasks import ServiceStopped, TaskService
from rxtasks.worker.children import children
from tests.chaos.handlers import add, block_once, wait_for
from tests.chaos.support import LONG, Script, Watched, Witness, kill, service

_START = """
import json, os, signal, sys, threading
from rxtasks import TaskService, OutputEvent
from tests.chaos.handlers import *
out = os.fdopen(os.dup(1), "w", buffering=1)
"""

_WITH_CHILDREN = (
    _START
    + """
def seen(event):
    if isinstance(event, OutputEvent):
        print(json.dumps(event.value), file=out)
service = TaskService(workers=2, echo=None)
service.events.subscribe(seen)
service.submit(start_children)
service.submit(start_children)
threading.Event().wait()
"""
)


def test_nothing_outlives_a_killed_parent() -> None:
    """W-10: 2 s after the SIGKILL of the parent its workers, their children and daemons are gone."""
    with Script(_WITH_CHILDREN) as script:
        pids = {*json.loads(script.line()), *json.loads(script.line()), *children(script.process.pid)}
        watched = [Watched(pid) for pid in pids]
        script.process.kill()
        assert [True] * 9 == [each.gone(2) for each in watched], "the ninth is the fork server"


_HOLDING = (
    _START
    + """
def seen(event):
    if isinstance(event, OutputEvent):
        print(json.dumps([info.pid for info in service.workers()]), file=out)
service = TaskService(workers=2, echo=None)
service.start()
service.events.subscribe(seen)
service.submit(hold_gil, 1000)
threading.Event().wait()
"""
)


def test_a_worker_that_holds_the_interpreter_does_not_outlive_its_parent() -> None:
    """W-10: no thread of such a worker can run, so the kernel ends it; its children are left to a guardian to come."""
    with Script(_HOLDING) as script:
        watched = [Watched(pid) for pid in json.loads(script.line())]
        script.process.kill()
        assert [True] * 2 == [each.gone(2) for each in watched]


_IGNORING = (
    _START
    + """
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
service = TaskService(workers=2, echo=None)
def seen(event):
    if isinstance(event, OutputEvent):
        info = next(i for i in service.workers() if i.worker_id == event.worker_id)
        os.kill(info.pid, signal.SIGKILL)
service.events.subscribe(seen)
print(service.submit(block_once).result(15), file=out)
try:
    service.with_options(max_crashes=1).submit(block).result(15)
except Exception as error:
    print(type(error).__name__, file=out)
print(service.submit(add, 1, 2).result(15), file=out)
service.stop()
print("stopped", file=out)
"""
)


def test_crashes_are_seen_although_sigchld_is_ignored() -> None:
    """W-07: a dead worker is seen through its pidfd, also where the kernel reaps it at once."""
    with Script(_IGNORING) as script:
        assert ["2", "WorkerCrashed", "3", "stopped"] == [script.line() for _ in range(4)]
        assert 0 == script.process.wait(LONG)


_REAPING = (
    _START
    + """
service = TaskService(workers=1, echo=None)
def seen(event):
    if isinstance(event, OutputEvent):
        info = next(i for i in service.workers() if i.worker_id == event.worker_id)
        os.kill(info.pid, signal.SIGKILL)
stop = threading.Event()
def reap():
    while not stop.is_set():
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            stop.wait(0.001)
service.start()
threading.Thread(target=reap, daemon=True).start()
service.events.subscribe(seen)
print(service.submit(block_once).result(15), file=out)
service.stop()
print("stopped", file=out)
stop.set()
"""
)


def test_crashes_are_seen_although_somebody_waits_for_every_child() -> None:
    """W-07: an exit status that somebody else collected does not hide a crash."""
    with Script(_REAPING) as script:
        assert ["2", "stopped"] == [script.line(), script.line()]


def test_workers_outlive_the_thread_that_started_the_service() -> None:
    """W-10: the kernel signals workers when the thread that made them ends: that is the core's, not the caller's."""
    made: list[TaskService] = []

    def start() -> None:
        tasks = TaskService(workers=2, echo=None)
        tasks.start()
        made.append(tasks)

    thread = threading.Thread(target=start)
    thread.start()
    thread.join(LONG)
    tasks = made[0]
    witness = Witness(tasks)
    try:
        pids = {info.pid for info in tasks.workers()}
        assert [3] * 50 == [t.result(LONG) for t in [tasks.submit(add, 1, 2) for _ in range(50)]]
        assert pids == {info.pid for info in tasks.workers()}
        assert tasks.flush(LONG)
        assert not witness.failures()
    finally:
        tasks.stop(force=True)


def child_of(tasks: TaskService) -> list[str]:
    """Do in a forked child what users might; return what came of it."""
    said: list[str] = []

    def attempt(name: str, call: object) -> None:
        try:
            said.append(f"{name}: {call()!r}")  # type: ignore[operator]
        except BaseException as error:
            said.append(f"{name}: {type(error).__name__}")

    attempt("submit", lambda: tasks.submit(add, 1, 1))
    attempt("scale", lambda: tasks.scale(1))
    attempt("cancel", lambda: tasks.cancel("01M80000000000000000000000"))
    attempt("stop", lambda: bool(tasks.stop(timeout=0)))
    attempt("exit", lambda: tasks.__exit__(None, None, None))
    return said


def fork(work: object) -> list[Any]:
    """Run `work` in a forked child; return what it says. The child is ended after LONG seconds."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        signal.alarm(int(LONG))
        try:
            os.write(write, json.dumps(work()).encode())  # type: ignore[operator]
        finally:
            os._exit(0)
    os.close(write)
    said = b""
    while chunk := os.read(read, 65536):
        said += chunk
    os.close(read)
    _, status = os.waitpid(child, 0)
    assert 0 == status, f"the child ended with {status} and said {said!r}"
    return list(json.loads(said))


def test_a_fork_of_the_caller_harms_nobody(tmp_path: object) -> None:
    """R18, W-10: in a forked child the service says that it is not there; the parent's goes on."""
    flag = f"{tmp_path}/go"
    with service(2) as (tasks, witness):
        runs = tasks.submit(wait_for, flag)
        witness.wait_output(runs.task_id, "here")
        said = fork(lambda: child_of(tasks))
        assert f"submit: {ServiceStopped.__name__}" == said[0]
        assert f"scale: {ServiceStopped.__name__}" == said[1]
        assert f"cancel: {ServiceStopped.__name__}" == said[2]
        assert ["stop: True", "exit: None"] == said[3:]
        assert [3] * 50 == [t.result(LONG) for t in [tasks.submit(add, 1, 2) for _ in range(50)]]
        open(flag, "w").close()
        assert flag == runs.result(LONG)
        assert not witness.failures()


def test_a_forked_child_may_have_a_service_of_its_own() -> None:
    """W-10: a new service in the forked child works, beside the parent's."""

    def work() -> list[int]:
        with TaskService(workers=1, echo=None) as own:
            return [own.submit(add, 2, 3).result(LONG)]

    with service(1) as (tasks, _):
        assert [5] == fork(work)
        assert 3 == tasks.submit(add, 1, 2).result(LONG)


def _sockets(pid: int) -> set[str]:
    links: set[str] = set()
    for fd in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(FileNotFoundError):  # the descriptor of the listing itself
            links.add(os.readlink(f"/proc/{pid}/fd/{fd}"))
    return {link for link in links if link.startswith("socket:")}


def test_a_forked_child_does_not_hold_back_a_worker_s_end(tmp_path: object) -> None:
    """W-07: an idle copy of the parent holds no end of a channel: a worker's death and its task's re-run are seen."""
    release, held = os.pipe()
    others = _sockets(os.getpid())  # of other tests, not collected yet
    with service(1) as (tasks, witness):
        tracker = tasks.submit(block_once)
        witness.wait_output(tracker.task_id, "here")
        pid = witness.worker_of(tracker.task_id)
        child = os.fork()
        if child == 0:
            os.close(held)
            os.read(release, 1)
            os._exit(0)
        try:
            kill(pid)
            assert 2 == tracker.result(LONG)
            assert not _sockets(child) - others
        finally:
            os.close(held)
            os.waitpid(child, 0)
            os.close(release)


_EXIT_OF_CHILD = (
    _START
    + """
service = TaskService(workers=1, echo=None)
service.start()
child = os.fork()
if child == 0:
    sys.exit(0)  # its exit functions run
os.waitpid(child, 0)
print(service.submit(add, 1, 2).result(15), file=out)
"""
)


@pytest.mark.parametrize("stops", ["service.stop()\n", ""])
def test_a_forked_child_that_exits_leaves_the_parent_s_service_alone(stops: str) -> None:
    """W-05: at the exit of a forked child nothing is stopped and nothing hangs; nor at the exit of the parent."""
    with Script(_EXIT_OF_CHILD + stops) as script:
        assert "3" == script.line()
        assert 0 == script.process.wait(LONG)
