"""Handlers that leave everything that is hard to end; each says "here" when it is all there, and stays."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import NoReturn

from rxtasks import TaskContext

#: Blocks and ignores all that can be, and sleeps.
_DEAF = """
import os, signal, sys, time
for number in range(1, 65):
    try:
        signal.signal(number, signal.SIG_IGN)
    except (OSError, ValueError):
        pass
signal.pthread_sigmask(signal.SIG_SETMASK, range(1, 65))
os.write(1, b"x")
os.close(1)
time.sleep(1000)
"""


def ready(process: subprocess.Popen[bytes]) -> None:
    """Wait until it has said that it is there."""
    assert process.stdout is not None
    with process.stdout:
        assert process.stdout.read(1)


def started(*command: str, **options: object) -> subprocess.Popen[bytes]:
    return subprocess.Popen(command, stdout=subprocess.PIPE, **options)  # type: ignore[call-overload,no-any-return]


def forked(work: Callable[[], object]) -> int:
    pid = os.fork()
    if pid == 0:
        with contextlib.suppress(BaseException):
            work()
        os._exit(0)
    return pid


def sleep() -> NoReturn:
    while True:
        time.sleep(1000)


def stay(ctx: TaskContext) -> None:
    ctx.emit("here")
    threading.Event().wait()


def plain(ctx: TaskContext) -> None:
    subprocess.Popen(["sleep", "1000"])
    stay(ctx)


def deaf(ctx: TaskContext) -> None:
    """A child that hears no signal, in a session of its own."""
    ready(started(sys.executable, "-c", _DEAF, start_new_session=True))
    stay(ctx)


def deaf_worker(ctx: TaskContext) -> None:
    """The worker itself hears none, and has a child."""
    subprocess.Popen(["sleep", "1000"], start_new_session=True)
    for number in range(1, 65):
        with contextlib.suppress(OSError, ValueError):
            signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, range(1, 65))
    stay(ctx)


def daemon(ctx: TaskContext) -> None:
    """Fork twice with a new session each, no environment, and the first one gone."""

    def first() -> None:
        os.setsid()
        if os.fork() == 0:
            os.setsid()
            os.execve("/bin/sleep", ["sleep", "1000"], {})

    os.waitpid(forked(first), 0)
    stay(ctx)


def stopped(ctx: TaskContext) -> None:
    """A child that is stopped, in a session of its own, with a child that is stopped too."""
    child = subprocess.Popen(["sh", "-c", "sleep 1000 & kill -STOP $!; kill -STOP $$"], start_new_session=True)
    os.waitid(os.P_PID, child.pid, os.WSTOPPED | os.WNOWAIT)
    stay(ctx)


def chain(ctx: TaskContext) -> None:
    """Twenty processes, each the child of the one before."""
    read, write = os.pipe()

    def down(depth: int) -> None:
        if depth:
            os.setsid()
            forked(lambda: down(depth - 1))
        else:
            os.write(write, b"x")
        sleep()

    forked(lambda: down(20))
    os.read(read, 1)
    stay(ctx)


def hopping(ctx: TaskContext) -> None:
    """A process that goes on in a child of its own for ever, so that its number is never the same for long."""
    read, write = os.pipe()

    def hop() -> None:
        os.setsid()
        os.write(write, b"x")
        os.close(write)
        os.close(read)
        while True:
            if os.fork():
                os._exit(0)

    forked(hop)
    os.read(read, 1)
    stay(ctx)


def bomb(ctx: TaskContext, most: int = 60) -> None:
    """Processes that make others as fast as they can, up to a number at once, and each lives a moment."""
    read, write = os.pipe()

    def burst(depth: int) -> None:
        os.setsid()
        end = time.monotonic() + 1000
        while time.monotonic() < end:
            if depth:
                forked(lambda: burst(depth - 1))
            else:
                os.write(write, b"x")
            time.sleep(0.005)
            if depth == 0:
                os._exit(0)
            with contextlib.suppress(ChildProcessError):
                while depth and len(children()) > most:
                    os.waitpid(-1, 0)

    def children() -> list[str]:
        with open(f"/proc/self/task/{os.getpid()}/children") as file:
            return file.read().split()

    forked(lambda: burst(1))
    for _ in range(5):
        os.read(read, 1)
    os.close(write)

    def drain() -> None:
        while os.read(read, 4096):
            pass

    threading.Thread(target=drain, daemon=True).start()
    stay(ctx)


def holding(ctx: TaskContext) -> None:
    """Keep the interpreter in C code, with a child in a session of its own."""
    subprocess.Popen(["sleep", "1000"], start_new_session=True)
    ctx.emit("here")
    ctx.checkpoint(None)  # it returns when all that was emitted has left
    ctypes.PyDLL(None).sleep(1000)


def frozen(ctx: TaskContext) -> None:
    """The worker stops itself, with a child that is stopped as well."""
    child = subprocess.Popen(["sleep", "1000"], start_new_session=True)
    os.kill(child.pid, signal.SIGSTOP)
    ctx.emit("here")
    ctx.checkpoint(None)
    os.kill(os.getpid(), signal.SIGSTOP)


def nested(ctx: TaskContext) -> None:
    """A service of its own in the worker, with a child in a worker of that."""
    from rxtasks import OutputEvent, TaskService

    there = threading.Event()
    service = TaskService(workers=1, echo=None)
    service.events.subscribe(lambda event: there.set() if isinstance(event, OutputEvent) else None)
    service.submit(daemon)
    assert there.wait(30)
    stay(ctx)


def pool(ctx: TaskContext) -> None:
    """A pool of multiprocessing, busy."""
    import multiprocessing

    made = multiprocessing.get_context("spawn").Pool(2)
    made.map(abs, range(4))
    made.map_async(time.sleep, [1000, 1000])
    stay(ctx)


WILD: dict[str, Callable[[TaskContext], None]] = {
    handler.__name__: handler
    for handler in (
        plain,
        deaf,
        deaf_worker,
        daemon,
        stopped,
        chain,
        hopping,
        bomb,
        holding,
        frozen,
        nested,
        pool,
    )
}
