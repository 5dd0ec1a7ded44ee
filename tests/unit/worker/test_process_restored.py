"""A worker process is after every attempt as it was before (W-17)."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from rxtasks.wire.message import Stopping
from rxtasks.worker.context import TaskContext, current_task
from tests.unit.worker.harness import Process, alive, worker


def look() -> dict[str, Any]:
    """What a task sees of its process."""
    mask = os.umask(0)
    os.umask(mask)
    return {
        "cwd": os.getcwd(),
        "umask": mask,
        "environ": dict(os.environ),
        "signals": [str(signal.getsignal(number)) for number in range(1, 32)],
        "streams": [id(sys.stdin), id(sys.stdout), id(sys.stderr)],
        "fds": [os.fstat(fd).st_ino for fd in (0, 1, 2)],
        "timer": signal.getitimer(signal.ITIMER_REAL),
        "children": Path(f"/proc/self/task/{os.getpid()}/children").read_text(),
        "mask": list(signal.pthread_sigmask(signal.SIG_BLOCK, ())),
    }


def test_a_task_finds_the_process_as_the_one_before_did(process: Process) -> None:
    """W-17: cwd, umask, environment, signals, streams and descriptors are restored after each attempt."""

    def spoil() -> None:
        os.chdir("/")
        os.umask(0o123)
        os.environ["SPOILED"] = "yes"
        del os.environ["PATH"]
        os.environ["HOME"] = "/nowhere"
        signal.signal(signal.SIGUSR1, lambda *_: None)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])
        signal.setitimer(signal.ITIMER_REAL, 0.5)
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115
        sys.stderr = None
        os.close(0)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.close(2)

    before = process.run(look).value
    spoiled = process.run(spoil)
    assert "succeeded" == spoiled.status, spoiled.error
    assert before == process.run(look).value
    assert ["still here"] == process.run(lambda: print("still here")).logs()
    assert process.find(Stopping) is None


def test_temp_dir_is_made_when_asked_for_and_removed(process: Process) -> None:
    """W-17: temp_dir exists during the attempt only, unless kept by setting; an artifact outlives it."""

    def handler(ctx: TaskContext) -> list[str]:
        ctx.temp_dir.joinpath("a").mkdir(mode=0o700)
        ctx.temp_dir.joinpath("a", "b").write_text("x")
        ctx.temp_dir.joinpath("kept.txt").write_text("y")
        os.chmod(ctx.temp_dir / "a", 0o500)
        return [str(ctx.temp_dir), str(ctx.artifact("kept.txt"))]

    temp, artifact = process.run(handler).value
    assert not Path(temp).exists()
    assert "y" == Path(artifact).read_text()
    Path(artifact).unlink()
    Path(artifact).parent.rmdir()
    assert process.run(lambda: current_task()._temp is None).value is True  # type: ignore[union-attr]


def test_temp_dir_is_kept_by_setting(tmp_path: Path) -> None:
    """W-17: with keep_temp the directory stays, below temp_root."""

    def handler(ctx: TaskContext) -> str:
        return str(ctx.temp_dir)

    with worker(configure={"keep_temp": True, "temp_root": str(tmp_path)}) as process:
        kept = Path(process.run(handler).value)
        assert kept.is_dir() and tmp_path == kept.parent


def test_children_end_with_the_attempt(process: Process) -> None:
    """W-17: child processes are ended with the attempt, also stopped ones and daemons that left the session."""

    def handler() -> list[int]:
        direct = subprocess.Popen(["sleep", "1000"])
        stopped = subprocess.Popen(["sleep", "1000"])
        os.kill(stopped.pid, signal.SIGSTOP)
        read, write = os.pipe()
        first = os.fork()
        if first == 0:
            os.setsid()
            second = os.fork()
            if second == 0:
                os.write(write, str(os.getpid()).encode())
                signal.pause()
            os._exit(0)
        os.waitpid(first, 0)
        return [direct.pid, stopped.pid, int(os.read(read, 20))]

    pids = process.run(handler).value
    assert [False, False, False] == [alive(pid) for pid in pids]
    assert "" == process.run(look).value["children"]
    assert process.find(Stopping) is None


def test_a_daemon_that_keeps_stdout_holds_up_nothing(process: Process) -> None:
    """W-17: a daemonised child that keeps the standard streams open is ended and does not hold up the attempt."""

    def handler() -> None:
        subprocess.Popen("setsid sh -c 'while true; do echo x; sleep 0.01; done' &", shell=True).wait()

    started = time.monotonic()
    assert "succeeded" == process.run(handler).status
    assert time.monotonic() - started < 5
    assert "" == process.run(look).value["children"]


def test_multiprocessing_may_be_used_again_and_again(process: Process) -> None:
    """W-17: handlers that use multiprocessing leave no children, and the next one can use it as well."""

    def handler() -> int:
        import multiprocessing

        context = multiprocessing.get_context("spawn")
        queue = context.SimpleQueue()
        queue.put(42)
        from multiprocessing import shared_memory

        block = shared_memory.SharedMemory(create=True, size=16)
        block.close()
        block.unlink()
        found: int = queue.get()
        return found

    for _ in range(2):
        done = process.run(handler)
        assert (42, []) == (done.value, done.logs())
        assert "" == process.run(look).value["children"]


def test_children_of_the_initializer_are_spared() -> None:
    """W-17: what the initializer started belongs to the worker, not to a task."""
    import cloudpickle

    def initializer() -> None:
        subprocess.Popen(["sleep", "1000"])

    def handler() -> int:
        return subprocess.Popen(["sleep", "1000"]).pid

    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    with worker(configure={"initializer": cloudpickle.dumps((initializer, ()))}) as process:
        children = process.run(look).value["children"].split()
        assert 1 == len(children)
        assert not alive(process.run(handler).value)
        assert children == process.run(look).value["children"].split()
        assert alive(int(children[0]))


def test_output_of_left_over_threads_is_the_workers(process: Process) -> None:
    """W-17: threads that go on after their attempt write into the worker's log, never into the next task's."""

    def handler(ctx: TaskContext) -> None:
        import contextvars

        go = threading.Event()
        sys.modules["sys"].__dict__["_go"] = go

        def plain() -> None:
            go.wait()
            print("left over, without the context")

        def copied() -> None:
            go.wait()
            print("left over, with the context")
            ctx.log.info("left over, bound")
            ctx.progress(1)
            ctx.emit("nowhere")

        threading.Thread(target=plain, daemon=True).start()
        threading.Thread(target=contextvars.copy_context().run, args=(copied,), daemon=True).start()

    def release() -> str:
        sys.modules["sys"].__dict__["_go"].set()
        deadline = time.monotonic() + 5
        while threading.active_count() > 2 and time.monotonic() < deadline:
            time.sleep(0.001)
        print("mine")
        return "ok"

    assert "succeeded" == process.run(handler).status
    done = process.run(release)
    assert ["mine"] == done.logs()
    assert [] == done.outputs()
    process.wait(lambda: len(process.worker_log) >= 3)
    assert {
        "left over, without the context",
        "left over, with the context",
        "left over, bound",
    } == {row[5] for row in process.worker_log}


def test_a_thread_with_the_context_writes_into_the_task(process: Process) -> None:
    """E-09: threads that copied the context find the task while it runs; others write into the worker's log."""

    def handler() -> None:
        import contextvars

        for run in (lambda f: f(), contextvars.copy_context().run):
            thread = threading.Thread(target=run, args=(lambda: print("from a thread"),))
            thread.start()
            thread.join()

    assert ["from a thread"] == process.run(handler).logs()
    process.wait(lambda: process.worker_log)
    assert ["from a thread"] == [row[5] for row in process.worker_log]


def test_what_async_handlers_leave_is_cancelled(process: Process) -> None:
    """W-17: asyncio tasks that an async handler leaves behind are cancelled with the attempt."""

    async def handler() -> None:
        async def left() -> None:
            try:
                await asyncio.sleep(1000)
            finally:
                sys.modules["sys"].__dict__["_left"] = "cancelled"

        sys.modules["sys"].__dict__["_task"] = asyncio.create_task(left())
        await asyncio.sleep(0)

    assert "succeeded" == process.run(handler).status
    assert "cancelled" == process.run(lambda: sys.__dict__.get("_left")).value


def test_what_cannot_be_restored_replaces_the_worker(process: Process, tmp_path: Path) -> None:
    """W-17: a worker that cannot be restored says so, gives back what is queued, and leaves."""

    def handler() -> str:
        from rxtasks.worker import restore

        vars(restore).update(end_children=lambda spared: [4711], has_children=lambda: True)
        return "done"

    token = process.start(handler)
    queued = process.start(lambda: print("never"))
    assert "done" == process.finish(token).value
    process.wait(lambda: process.find(Stopping))
    assert "4711" in process.find(Stopping).reason
    assert 0 == process.exited()
    assert [] == process.tasks[queued].rows


@pytest.mark.parametrize("how", ["close", "kill"])
def test_end_of_file_ends_the_worker_and_all_it_started(process: Process, how: str) -> None:
    """W-10: when the parent's end closes, the worker and its children, daemons included, are gone within 2 s."""

    def handler(ctx: TaskContext) -> None:
        pids = [subprocess.Popen(["sleep", "1000"]).pid]
        pids.append(subprocess.Popen(["sleep", "1000"], start_new_session=True).pid)
        ctx.emit([os.getpid(), *pids])
        time.sleep(1000)

    token = process.start(handler)
    process.wait(lambda: process.tasks[token].outputs())
    pids = process.tasks[token].outputs()[0]
    started = time.monotonic()
    process.sock.close()
    process.eof = True
    code = process.exited(5.0)
    assert code != 0
    while any(alive(pid) for pid in pids):
        assert time.monotonic() - started < 2
        time.sleep(0.005)


PARENT = """
import sys, os, time
from tests.unit.worker.harness import Process
def handler(holds, ctx):
    import ctypes, subprocess, os, time
    child = 0 if holds else subprocess.Popen(["sleep", "1000"], start_new_session=True).pid
    ctx.emit([os.getpid(), os.getppid(), child])
    time.sleep(0.05)
    (ctypes.PyDLL if holds else ctypes.CDLL)(None).sleep(20)
handler.__annotations__ = {"ctx": "TaskContext"}
process = Process()
token = process.start(handler, bool(int(sys.argv[1])))
process.wait(lambda: process.tasks[token].outputs())
time.sleep(0.2)
print(*process.tasks[token].outputs()[0], flush=True)
time.sleep(1000)
"""


@pytest.mark.parametrize("holds", [0, 1])
def test_a_worker_ends_with_its_parent(holds: int) -> None:
    """W-10: SIGKILL of the parent ends worker and children within 2 s, the worker also while C code holds the GIL."""
    root = Path(__file__).resolve().parents[3]
    environ = {**os.environ, "PYTHONPATH": str(root)}
    command = [sys.executable, "-c", PARENT, str(holds)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=root, env=environ) as parent:
        assert parent.stdout is not None
        pids = [int(word) for word in parent.stdout.readline().split()]
        assert len(pids) == 3 and parent.pid == pids[1]
        parent.kill()
    started = time.monotonic()
    while any(alive(pid) for pid in (pids[0], pids[2]) if pid):
        assert time.monotonic() - started < 2
        time.sleep(0.005)
