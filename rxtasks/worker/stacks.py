"""Where what runs in this process stands: files, lines and names of functions, never a value of a variable.

::

    sys._current_frames() ──> the thread in which an attempt runs, from the handler on ──┐
    the attempt's coroutine ──> what it awaits, and what that awaits, ... ───────────────┼──> parts
    other attempts, other asyncio tasks, other threads ──────────────────────────────────┘

A part is a list: a title, then frames from the outermost to the innermost, each [file, line, function]; a string among
the frames is a remark. Nothing is imported, and no file is read: whoever shows the parts finds the source lines.

`Dump` is the way that needs no interpreter: a signal has faulthandler write every thread's stack to a memory file,
while C code of a handler holds the interpreter's lock. It is sent to the control thread, so that no system call of the
handler is interrupted; the parent finds the file, and in its name the thread, through /proc.
"""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping
from types import FrameType
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from rxtasks.worker.attempt import Attempt

__all__ = ["DUMP_NAME", "DUMP_SIGNAL", "Dump", "Part", "stack_parts", "without_machinery"]

#: [title, frame or remark, ...]; a frame is [file, line, function].
Part = list[Any]

#: Frames of one stack that are told: as many of its outermost as of its innermost.
_MOST_FRAMES: Final = 100
#: Parts that are told.
_MOST_PARTS: Final = 64
_LONGEST: Final = 500
#: Where an attempt is performed: what stands below in a stack is the handler's.
_BODIES: Final = frozenset({"_body", "_async_body"})
_MACHINERY: Final = (
    "/rxtasks/worker/executor.py",
    "/rxtasks/worker/asynchronous.py",
    "/rxtasks/worker/concurrent.py",
    "/asyncio/runners.py",
    "/asyncio/base_events.py",
    "/asyncio/events.py",
    "/asyncio/tasks.py",
    "/threading.py",
)
#: Where an event loop stands that waits.
_WAITING: Final = ("/selectors.py", "/asyncio/base_events.py")
_EXECUTOR: Final = _MACHINERY[0]
#: Held while the collector is kept out, so that nobody finds it off and leaves it so.
_ASKING: Final = threading.Lock()
#: Threads of ours, by the name that they are given.
_OURS: Final = ("rxtasks-control",)

#: Sent to have the stacks written: one that programs and libraries rarely use, and 0 where there are none such.
DUMP_SIGNAL: Final[int] = getattr(signal, "SIGRTMAX", 5) - 5
#: Of the memory file, before the number of the control thread.
DUMP_NAME: Final = "rxtasks-stacks-"


def stack_parts(attempts: Mapping[int, Attempt], token: int, *, others: bool) -> list[Part] | None:
    """Return where the attempt of the claim `token` stands; None where it does not run. Any thread.

    Args:
        attempts: what runs, by token.
        token: the claim.
        others: also tell of what else runs in this process.
    """
    attempt = attempts.get(token)
    if attempt is None:
        return None
    try:
        return _parts(attempts, attempt, others)
    except Exception as error:  # a handler's own awaitables and names of tasks run code of their own
        return [[f"task {attempt.assignment.task_id}", f"its stack cannot be told: {type(error).__name__}"]]


def _current_frames() -> dict[int, FrameType]:
    """Return the innermost frame of each thread.

    The collector is kept out meanwhile. Up to Python 3.11 the frames are made while the list of threads is locked, and a
    collection then may run a finalizer that gives the interpreter away to a thread that waits for this very lock, as one does
    that begins or ends: the whole process stands still for ever (github.com/python/cpython/issues/106883).
    """
    with _ASKING:
        collects = gc.isenabled()
        gc.disable()
        try:
            return sys._current_frames()
        finally:
            if collects:
                gc.enable()


def _parts(attempts: Mapping[int, Attempt], attempt: Attempt, others: bool) -> list[Part]:
    threads = {ident: list(_outermost_first(frame)) for ident, frame in _current_frames().items()}
    told: set[int] = {threading.get_ident()}
    parts = list(_of_attempt(attempt, threads, told))
    if others:
        for other in list(attempts.values()):
            if other is not attempt:
                parts += _of_attempt(other, threads, told)
        parts += _of_loops(list(attempts.values()), told)
        parts += _of_threads(threads, told)
    return parts[:_MOST_PARTS]


# -- an attempt -------------------------------------------------------------------------------------------------------


def _of_attempt(attempt: Attempt, threads: Mapping[int, list[FrameType]], told: set[int]) -> Iterator[Part]:
    """Yield where an attempt stands; threads and asyncio tasks (their ids) that tell of it are added to `told`."""
    title = f"task {attempt.assignment.task_id}"
    task = attempt.task
    coroutine = None if task is None else task.get_coro()
    if coroutine is not None and not _runs(coroutine):
        told.add(id(task))
        yield from _of_asyncio_task(title, task, told)
        return
    for ident, frames in threads.items():
        for at, frame in enumerate(frames):
            if frame.f_code.co_name in _BODIES and frame.f_code.co_filename.endswith(_EXECUTOR):
                performed = frame.f_locals.get("attempt")
                if performed is attempt:
                    told.add(ident)
                    below = frames[at + 1 :]
                    yield [title, *_shown([*_at_its_yield(below), *below])]
                    return
    yield [title, "it is just being begun or ended"]


def _at_its_yield(frames: list[FrameType]) -> list[FrameType]:
    """Return the frames of a generator handler that waits at a yield, because its value waits for credit."""
    for frame in frames:
        if frame.f_code.co_name == "_drive" and frame.f_code.co_filename.endswith(_MACHINERY[:2]):
            generator = frame.f_locals.get("generator")
            if generator is not None and not (_runs(generator) or getattr(generator, "ag_running", False)):
                return list(_awaited(generator))
    return []


def _runs(coroutine: Any) -> bool:
    """Say whether the coroutine is being executed at this moment, and so stands in its thread's stack."""
    return bool(getattr(coroutine, "cr_running", False) or getattr(coroutine, "gi_running", False))


def _of_asyncio_task(title: str, task: Any, told: set[int]) -> Iterator[Part]:
    """Yield what a waiting asyncio task awaits, then the tasks that this is."""
    frames = list(_awaited(task.get_coro()))
    part: Part = [title, *_shown([*_at_its_yield(frames), *frames])]
    yield part
    waiter = getattr(task, "_fut_waiter", None)
    if waiter is None:
        return
    found = [waiter, *(getattr(waiter, "_children", None) or ())]  # of a gather
    for other in found:
        if hasattr(other, "get_coro") and id(other) not in told and len(told) < _MOST_PARTS:
            told.add(id(other))
            part.append(f"it awaits the asyncio task {_cut(other.get_name())}")
            if _runs(other.get_coro()):
                continue
            yield from _of_asyncio_task(f"asyncio task {_cut(other.get_name())}", other, told)


def _awaited(waiting: Any) -> Iterator[FrameType]:
    """Yield the frames of a coroutine and of what it awaits, down to what no Python code waits for."""
    for _ in range(10_000):
        frame = None
        for kind in ("cr", "gi", "ag"):
            if hasattr(waiting, f"{kind}_frame"):
                frame = getattr(waiting, f"{kind}_frame")
                below = getattr(waiting, "gi_yieldfrom" if kind == "gi" else f"{kind}_await")
                break
        else:
            # A wrapper that CPython makes (of __await__, of an async generator's step) tells what is in it only so.
            if type(waiting).__name__ not in ("coroutine_wrapper", "async_generator_asend", "async_generator_athrow"):
                return
            below = next(
                (each for each in gc.get_referents(waiting) if hasattr(each, "__await__") or _is_agen(each)), None
            )
        if frame is not None:
            yield frame
        if below is None:
            return
        waiting = below


def _is_agen(value: Any) -> bool:
    return hasattr(value, "ag_frame")


# -- what else runs ---------------------------------------------------------------------------------------------------


def _of_loops(attempts: list[Attempt], told: set[int]) -> Iterator[Part]:
    """Yield the asyncio tasks beside those of the attempts, in the loops of these."""
    asyncio = sys.modules.get("asyncio")
    loops = {id(attempt.loop): attempt.loop for attempt in attempts if attempt.loop is not None}
    if asyncio is None or not loops:
        return
    for loop in loops.values():
        for task in sorted(asyncio.all_tasks(loop), key=lambda each: str(each.get_name())):
            coroutine = task.get_coro()
            if id(task) in told or _runs(coroutine) or _is_ours(coroutine):
                continue
            yield [f"asyncio task {_cut(task.get_name())}", *_shown(list(_awaited(coroutine)))]


def _is_ours(coroutine: Any) -> bool:
    code = getattr(coroutine, "cr_code", None)
    return code is not None and code.co_filename.endswith(_MACHINERY[:3])


def _of_threads(threads: Mapping[int, list[FrameType]], told: set[int]) -> Iterator[Part]:
    """Yield the threads that have not been told of, but for our own and the main one where it only waits."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    for ident, frames in threads.items():
        name = names.get(ident)
        if ident in told or name in _OURS or (ident == threading.main_thread().ident and _idle(frames)):
            continue
        code = frames[-1].f_code
        if code.co_name == "_worker" and code.co_filename.endswith("/concurrent/futures/thread.py"):
            continue  # of a pool, and has nothing to do
        yield [f"thread {_cut(name or f'{ident:#x}')}", *_shown(frames)]


def _idle(frames: list[FrameType]) -> bool:
    """Say whether the main thread of a worker runs an event loop in which everything waits."""
    return frames[-1].f_code.co_filename.endswith(_WAITING)


# -- frames -----------------------------------------------------------------------------------------------------------


def _outermost_first(frame: FrameType | None) -> Iterable[FrameType]:
    frames = []
    while frame is not None:
        frames.append(frame)
        frame = frame.f_back
    frames.reverse()
    return frames


def _shown(frames: list[FrameType]) -> list[Any]:
    """Return what is told of these frames, the machinery at their begin left out."""
    told = without_machinery(
        [[_cut(frame.f_code.co_filename), frame.f_lineno or 0, _cut(frame.f_code.co_qualname)] for frame in frames]
    )
    if len(told) > _MOST_FRAMES:
        half = _MOST_FRAMES // 2
        told[half:-half] = [f"{len(told) - 2 * half} frames between are left out"]
    return told


def without_machinery(frames: list[Any]) -> list[Any]:
    """Return the frames without those at the outer end that belong to the running of a handler."""
    at = 0
    while at < len(frames) and str(frames[at][0]).endswith(_MACHINERY):
        at += 1
    return frames[at:] or frames[-1:]


def _cut(text: str) -> str:
    """Return text that can travel."""
    text = text.encode("utf-8", "backslashreplace").decode()
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


# -- without the interpreter ------------------------------------------------------------------------------------------


class Dump:
    """Has DUMP_SIGNAL write the stacks of all threads to a memory file. Made on the thread that is to be signalled."""

    def __init__(self) -> None:
        self._fd = -1
        self._faulthandler: Any = None
        if DUMP_SIGNAL <= 0 or not hasattr(os, "memfd_create"):
            return
        known = "faulthandler" in sys.modules
        import faulthandler

        if not known:
            # Who finds it there takes it for a handler's, and asks it after each task to cancel what that has begun.
            del sys.modules["faulthandler"]
        with contextlib.suppress(OSError, ValueError, RuntimeError):
            fd = os.memfd_create(f"{DUMP_NAME}{threading.get_native_id()}", os.MFD_CLOEXEC)
            try:
                os.set_blocking(fd, True)
                _append(fd)
                faulthandler.register(DUMP_SIGNAL, file=fd, all_threads=True, chain=False)
            except BaseException:
                os.close(fd)
                raise
            self._fd, self._faulthandler = fd, faulthandler

    def after_fork(self) -> None:
        """In a forked child: close the copy; nobody asks here."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            self._faulthandler.unregister(DUMP_SIGNAL)
            with contextlib.suppress(OSError):
                os.close(fd)


def _append(fd: int) -> None:
    """Have each write go to the end of the file, which the parent empties before it asks."""
    import fcntl

    fcntl.fcntl(fd, fcntl.F_SETFL, fcntl.fcntl(fd, fcntl.F_GETFL) | os.O_APPEND)
