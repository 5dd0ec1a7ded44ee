"""Handlers that misbehave: the worker survives, or ends in a way that the parent sees as a crash."""

from __future__ import annotations

import contextlib
import ctypes
import os
import pickle
import signal
import socket
import sys
import threading
import time
from typing import Any

import pytest

from rxtasks.wire.message import Assignment, Dropped
from rxtasks.worker.context import TaskContext
from tests.unit.worker.harness import Gone, Process, worker


def crash(process: Process, handler: Any, *args: Any) -> int:
    """Run a handler that takes the worker down; return the exit code."""
    token = process.start(handler, *args)
    with pytest.raises(Gone):
        process.finish(token)
    assert not process.tasks[token].done
    code = process.exited()
    assert code != 0
    return code


def test_os_exit_is_a_crash(process: Process) -> None:
    """W-07: os._exit in a handler ends the process without an end of the task."""
    assert 7 == crash(process, lambda: os._exit(7))


def test_a_signal_is_a_crash(process: Process) -> None:
    """W-07: a worker killed by a signal says nothing more."""
    assert -signal.SIGSEGV == crash(process, lambda: ctypes.string_at(0))


def test_sigterm_ends_a_worker(process: Process) -> None:
    """W-09: SIGTERM ends a worker whose handler does not react."""

    def handler(ctx: TaskContext) -> None:
        ctx.emit(1)
        time.sleep(1000)

    token = process.start(handler)
    process.wait(lambda: process.tasks[token].outputs())
    process.popen.terminate()
    assert -signal.SIGTERM == process.exited()


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, GeneratorExit, BaseException])
def test_exceptions_that_end_programs_fail_the_task_only(shared: Process, kind: type[BaseException]) -> None:
    """R7: SystemExit, KeyboardInterrupt and their like fail the task; the worker goes on."""

    def handler() -> None:
        raise kind("bye")

    done = shared.run(handler)
    assert ("failed", kind.__name__, "bye") == (done.status, done.error["type"], done.error["message"])
    assert "failed" == shared.run(lambda: sys.exit(3)).status
    assert 1 == shared.run(lambda: 1).value


def test_endless_recursion_fails_the_task_only(shared: Process) -> None:
    """E-13: a RecursionError is a task's failure like any other."""

    def handler(n: int = 0) -> int:
        def deeper(n: int) -> int:
            return deeper(n + 1)

        return deeper(n)

    done = shared.run(handler)
    assert "RecursionError" == done.error["type"]
    assert len(done.error["traceback"]) < 65536
    assert 1 == shared.run(lambda: 1).value


def close_all() -> None:
    os.closerange(3, 4096)
    time.sleep(1000)


def close_all_and_return() -> None:
    os.closerange(0, 4096)


def write_into_channel() -> None:
    for fd in range(3, 256):
        with contextlib.suppress(OSError):
            os.write(fd, b"x" * 100)


def replace_channel() -> None:
    read, write = os.pipe()
    for fd in range(3, 256):
        if fd not in (read, write):
            try:
                kind = os.fstat(fd).st_mode & 0o170000
            except OSError:
                continue
            if kind == 0o140000:  # a socket
                os.dup2(write, fd)


def replace_by_socket() -> None:
    ours, theirs = socket.socketpair()
    for fd in range(3, 256):
        if fd not in (ours.fileno(), theirs.fileno()):
            try:
                kind = os.fstat(fd).st_mode & 0o170000
            except OSError:
                continue
            if kind == 0o140000:
                os.dup2(theirs.fileno(), fd)
    time.sleep(1000)


@pytest.mark.parametrize("handler", [close_all_and_return, replace_channel])
def test_closing_the_workers_descriptors_is_a_crash(process: Process, handler: Any) -> None:
    """R20: a handler that closes or replaces the worker's descriptors takes the worker down, visibly."""
    crash(process, handler)


@pytest.mark.parametrize("handler", [close_all, replace_by_socket])
def test_losing_the_channel_shows_as_end_of_file(process: Process, handler: Any) -> None:
    """R20: closing the channel or dup2 over it shows at the parent at once, whatever the handler goes on to do."""
    token = process.start(handler)
    process.wait(lambda: process.eof)
    assert not process.tasks[token].done


def test_writing_into_the_channel_breaks_this_worker_only(process: Process) -> None:
    """R21: bytes that are no frame are a protocol error at the parent."""
    from rxtasks.errors import ProtocolError

    token = process.start(write_into_channel)
    with pytest.raises(ProtocolError):
        process.finish(token)


def test_a_forked_child_never_speaks_for_the_worker(process: Process) -> None:
    """W-10: a child forked by a handler cannot write into the channel, and ends when it comes back from the handler."""

    def handler(ctx: TaskContext) -> Any:
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            ctx.emit("from the child")
            ctx.progress(99)
            ctx.log.info("from the child")
            print("printed by the child", flush=True)
            os.write(write, b"x")
            return "child"
        assert os.read(read, 1) == b"x"
        _, status = os.waitpid(child, 0)
        ctx.emit("from the parent")
        return os.waitstatus_to_exitcode(status)

    done = process.run(handler)
    assert 0 == done.value
    assert ["from the parent"] == done.outputs()
    assert [] == done.logs()
    assert b"printed by the child" in process.console["stdout"]

    def raising() -> Any:
        child = os.fork()
        if child == 0:
            raise RuntimeError("in the child")
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    assert 1 == process.run(raising).value
    assert b"RuntimeError: in the child" in process.console["stderr"]


def test_a_forked_child_does_not_hide_the_end_of_the_worker(process: Process) -> None:
    """R20: the parent sees end of file when the worker dies, though a child it forked lives on."""

    def handler() -> None:
        if os.fork() == 0:
            os.setsid()
            time.sleep(5)
            os._exit(0)
        os.kill(os.getpid(), signal.SIGKILL)

    started = time.monotonic()
    assert -signal.SIGKILL == crash(process, handler)
    assert time.monotonic() - started < 3


class Unloadable:
    def __reduce__(self) -> Any:
        return int, ("not a number",)


class Undumpable:
    def __reduce__(self) -> Any:
        raise RuntimeError("will not travel")


def test_arguments_that_cannot_be_rebuilt_fail_the_task(shared: Process) -> None:
    """R26: arguments that do not unpickle fail that task, in the worker, and nobody else."""
    task: Assignment = shared.assignment(lambda x: x, payload=pickle.dumps(((Unloadable(),), {})))
    shared.assign(task)
    done = shared.finish(task.token)
    assert ("failed", "rxtasks.errors.PayloadError", "PAYLOAD") == (done.status, done.error["type"], done.error["code"])
    assert "not a number" in done.error["message"]
    garbage = shared.assignment(lambda x: x, payload=b"\x80garbage")
    shared.assign(garbage)
    assert "rxtasks.errors.PayloadError" == shared.finish(garbage.token).error["type"]


def test_results_and_outputs_that_cannot_travel_fail_where_made(shared: Process) -> None:
    """R26: a result that cannot travel fails the task with the path to the culprit; an output raises in the handler."""
    done = shared.run(lambda: {"a": [1, threading.Lock()]})
    assert ("failed", "rxtasks.errors.PayloadError") == (done.status, done.error["type"])
    assert "result['a'][1]" in done.error["message"]

    def emits(ctx: TaskContext) -> str:
        try:
            ctx.emit(threading.Lock())
        except Exception as error:
            return f"{type(error).__name__}"
        return "no error"

    assert "PayloadError" == shared.run(emits).value

    def yields() -> Any:
        try:
            yield threading.Lock()
        except Exception as error:
            yield type(error).__name__

    assert ["PayloadError"] == shared.run(yields).outputs()
    options = {"retry": {"max_attempts": 3}}
    assert "failed" == shared.run(lambda: threading.Lock(), options=options).status


class Odd(Exception):
    def __init__(self) -> None:
        super().__init__(threading.Lock())

    def __str__(self) -> str:
        raise RuntimeError("no str either")

    @property
    def code(self) -> str:
        raise RuntimeError("nor code")


def test_exceptions_that_cannot_travel_are_told_all_the_same(shared: Process) -> None:
    """E-13: of an exception that cannot be pickled, or not even printed, class and traceback come through."""

    def handler() -> None:
        raise Odd

    done = shared.run(handler)
    assert ("failed", True) == (done.status, done.error["type"].endswith("Odd"))
    assert "in handler" in done.error["traceback"]
    assert not done.error.get("pickle")


def test_telemetry_never_fails_a_task(shared: Process) -> None:
    """E-09: whatever is passed to progress and log, the task goes on."""

    def handler(ctx: TaskContext) -> str:
        class Bad:
            def __repr__(self) -> str:
                raise RuntimeError("no repr")

        ctx.progress(float("nan"), float("inf"), "\udcff", bad=Bad(), nested={1: {2}}, big=10**40)
        ctx.progress("half", None, 5)  # type: ignore[arg-type]
        ctx.progress(10**400, 10**400)
        ctx.log.info("{} {}", 1)
        ctx.log.info("\udcff" * 3, odd=Bad(), key=b"x")
        ctx.log.info("x" * 100_000)
        ctx.advance()
        print("\udcff")
        return "fine"

    done = shared.run(handler)
    assert "fine" == done.value
    assert max(len(text) for text in done.logs()) <= 65536


def test_a_thread_left_running_does_not_keep_the_worker(process: Process) -> None:
    """W-05: a left-over thread that is no daemon does not keep a stopped worker alive."""
    from rxtasks.wire.message import Stop

    def handler() -> None:
        threading.Thread(target=time.sleep, args=(1000,)).start()

    assert "succeeded" == process.run(handler).status
    process.send(Stop(process.command()))
    assert 0 == process.exited(5.0)


def test_holding_the_interpreter_delays_but_breaks_nothing(process: Process) -> None:
    """W-06: C code that holds the GIL silences the worker for as long; what came meanwhile is dealt with then."""

    def handler() -> int:
        libc = ctypes.PyDLL(None)
        libc.usleep(400_000)
        return 1

    token = process.start(handler)
    other = process.start(lambda: 2)
    while process.unused_tokens() > 1:
        process.turn(0.005)
    assert 1 == process.take_back()
    assert 1 == process.finish(token).value
    process.wait(lambda: process.find(Dropped))
    assert [] == process.tasks[other].rows


def test_a_worker_whose_parent_is_not_the_one_named_leaves() -> None:
    """W-10: a worker that starts after its parent has died does nothing."""
    import subprocess

    read, write = os.pipe()
    ours, theirs = socket.socketpair()
    command = [sys.executable, "-P", "-m", "rxtasks.worker", str(theirs.fileno()), str(read), "1"]
    from tests.unit.worker.harness import ROOT

    done = subprocess.run(
        command, pass_fds=(theirs.fileno(), read), env={**os.environ, "PYTHONPATH": str(ROOT)}, timeout=20, check=False
    )
    assert 0 == done.returncode
    for fd in (read, write):
        os.close(fd)
    ours.close()
    theirs.close()


def test_the_channel_is_not_inherited_by_subprocesses(process: Process) -> None:
    """W-10: programs that a handler starts inherit neither the channel nor the token pipe."""

    def handler() -> list[str]:
        import subprocess

        text = subprocess.run(["ls", "-l", "/proc/self/fd"], capture_output=True, text=True, close_fds=False).stdout
        return [line for line in text.splitlines() if "socket" in line]

    assert [] == process.run(handler).value


def test_a_broken_frame_ends_the_worker() -> None:
    """R21: bytes that are no command end the worker, which says why on standard error."""
    with worker() as process:
        process.sock.setblocking(True)
        process.sock.sendall(b"garbage" * 100)
        process.sock.setblocking(False)
        assert process.exited() != 0
        process.read_to_end()
        assert b"protocol error" in process.console["stderr"]


@pytest.mark.parametrize("several", [1, 2])
@pytest.mark.parametrize("where", ["handler", "child"])
def test_programs_do_not_end_in_async_handlers_either(several: int, where: str) -> None:
    """R7: SystemExit in an async handler, or in an asyncio task that it awaits, fails the task only."""

    async def handler() -> None:
        import asyncio

        async def leave() -> None:
            sys.exit("bye")

        await (leave() if where == "handler" else asyncio.create_task(leave()))

    async def good() -> int:
        return 3

    with worker(configure={"concurrency": several}) as process:
        tokens = [process.start(function) for function in (good, handler, good)]
        assert [process.finish(token).status for token in tokens] == ["succeeded", "failed", "succeeded"]
        assert process.tasks[tokens[1]].error["type"] == "SystemExit"
        assert process.run(good).value == 3
