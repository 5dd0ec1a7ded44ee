"""stack(): where a handler stands, whatever it does to its worker."""

from __future__ import annotations

import asyncio
import ctypes
import os
import re
import select
import signal
import subprocess
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import wait
from pathlib import Path
from typing import Any

import pytest

from rxtasks import SettingsError, TaskService, TaskTracker, UnknownTask, WorkerSpec, task
from rxtasks import operators as rxo
from rxtasks.isolation.spawn import is_stopped
from tests.chaos.support import LONG

#: What no stack may show.
SECRET = "hunter2-value-of-a-variable"


class Bell:
    """Handlers ring it, the test hears it."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        os.mkfifo(self.path)
        self._fd = os.open(self.path, os.O_RDWR | os.O_NONBLOCK)
        weakref.finalize(self, os.close, self._fd)

    def heard(self, times: int = 1) -> None:
        while times > 0:
            assert select.select([self._fd], [], [], LONG)[0], "the handler has not got there"
            times -= len(os.read(self._fd, times))


@pytest.fixture
def bell(tmp_path: Path) -> Bell:
    return Bell(tmp_path / "bell")


@pytest.fixture(scope="module")
def pool() -> Iterator[TaskService]:
    with TaskService(2, echo=None, on_exit="force") as made:
        made.start()
        yield made


def ring(path: str) -> None:
    with open(path, "w", encoding="ascii") as file:
        file.write("x")


def begun(made: TaskService, bell: Bell, fn: Any, *args: Any) -> TaskTracker:
    tracker: TaskTracker = made.with_options(grace=0.05).submit(fn, bell.path, *args)
    bell.heard()
    return tracker


def settled(made: TaskService, tracker: TaskTracker, expected: list[str]) -> str:
    """Ask until the handler has come to where it stays, and return the stack."""
    deadline = time.monotonic() + LONG
    while functions(text := made.stack(tracker.task_id)) != expected:
        assert time.monotonic() < deadline, text
    return text


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + LONG
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def ended(made: TaskService, tracker: TaskTracker) -> None:
    made.cancel(tracker.task_id)
    assert wait([tracker.future], LONG).done


# -- handlers ---------------------------------------------------------------------------------------------------------


def waits(path: str) -> None:
    secret = SECRET
    deeper(path, secret)


@task("tests.chaos.waits_stored")
def waits_stored(path: str) -> None:
    deeper(path, SECRET)


def deeper(path: str, secret: str) -> None:
    ring(path)
    threading.Event().wait(LONG)


def holds(path: str, seconds: float) -> int:
    """C code that holds the interpreter, and rings from within: nothing of Python runs from then on."""
    return ctypes.PyDLL(None).system(f"echo -n x > {path}; sleep {seconds}".encode())


def holds_and_blocks_signals(path: str, seconds: float) -> int:
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    return holds(path, seconds)


def holds_on_a_thread(path: str, seconds: float) -> None:
    thread = threading.Thread(target=holds, args=(path, seconds), name="second")
    thread.start()
    thread.join()


async def awaits(path: str) -> None:
    await inner_await(path)


async def inner_await(path: str) -> None:
    ring(path)
    await asyncio.sleep(LONG)


async def gathers(path: str) -> None:
    await asyncio.gather(inner_await(path), asyncio.create_task(stepping(), name="the stepper"))


async def stepping() -> None:
    async for _ in steps():
        pass


async def steps() -> Any:
    await asyncio.sleep(LONG)
    yield 1


async def spins(path: str) -> None:
    ring(path)
    while True:
        pass


def has_thread(path: str) -> None:
    thread = threading.Thread(target=deeper, args=(path, SECRET), name="a helper's thread", daemon=True)
    thread.start()
    thread.join()


def has_child(path: str) -> None:
    process = subprocess.Popen(["sleep", "60"])
    ring(path)
    process.wait()


def forks(path: str) -> None:
    pid = os.fork()
    if pid == 0:
        ring(path)
        threading.Event().wait(LONG)
        os._exit(0)
    os.waitpid(pid, 0)


def recurses(path: str, depth: int) -> None:
    if depth:
        recurses(path, depth - 1)
    else:
        deeper(path, SECRET)


def yields(path: str) -> Any:
    ring(path)
    while True:
        yield "much"


async def ayields(path: str) -> Any:
    ring(path)
    while True:
        yield "much"


async def executes(path: str) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(asyncio.sleep(LONG), name="sleeper")
        ring(path)
        await asyncio.get_running_loop().run_in_executor(None, time.sleep, 2)
        raise RuntimeError


def functions(text: str) -> list[str]:
    return re.findall(r"^  File .*, in (\S+)$", text, re.MULTILINE)


# -- tests ------------------------------------------------------------------------------------------------------------


def test_the_stack_of_a_handler_is_its_own_functions_and_lines(pool: TaskService, bell: Bell) -> None:
    """C-03: from the handler on, most recent call last, with the lines of source and without a value."""
    tracker = begun(pool, bell, waits)
    text = pool.stack(tracker.task_id)
    assert functions(text)[:2] == ["waits", "deeper"]
    assert "deeper(path, secret)" in text
    assert SECRET not in text and bell.path not in text
    assert text.startswith(f"task {tracker.task_id} ({tracker.name}) in worker ")
    assert tracker.status == "running" or not tracker.done
    ended(pool, tracker)


@pytest.mark.parametrize("handler", [holds, holds_and_blocks_signals])
def test_it_is_read_while_c_code_holds_the_interpreter_and_its_call_goes_on(
    pool: TaskService, bell: Bell, handler: Any
) -> None:
    """C-03: also with every signal blocked; no system call of the handler is interrupted, nothing comes to its output."""
    tracker = begun(pool, bell, handler, 3)
    text = pool.stack(tracker.task_id)
    assert "C code holds its interpreter" in text
    assert functions(text)[-1] == "holds"
    assert "(sh)" in text or "(sleep)" in text, "what runs below it is named"
    assert tracker.result(LONG) == 0
    assert tracker.log_tail == []
    again = begun(pool, bell, waits)
    assert functions(pool.stack(again.task_id))[:2] == ["waits", "deeper"]
    ended(pool, again)


def test_it_is_read_while_another_thread_of_the_handler_holds_the_interpreter(pool: TaskService, bell: Bell) -> None:
    """C-03: both are told, the handler's thread first."""
    tracker = begun(pool, bell, holds_on_a_thread, 3)
    text = pool.stack(tracker.task_id)
    assert functions(text)[0] == "holds_on_a_thread"
    assert "holds" in functions(text)
    tracker.result(LONG)


def test_many_ask_at_once_and_all_are_answered(pool: TaskService, bell: Bell) -> None:
    """C-03: they do not mix each other's dumps up."""
    tracker = begun(pool, bell, holds, 6)
    texts: list[str] = []
    threads = [threading.Thread(target=lambda: texts.append(pool.stack(tracker.task_id))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LONG)
    assert [functions(text) for text in texts] == [["holds"]] * 4
    assert tracker.result(LONG) == 0


def test_a_deep_stack_is_cut_in_the_middle(pool: TaskService, bell: Bell) -> None:
    """R6: a bounded answer."""
    tracker = begun(pool, bell, recurses, 600)
    text = pool.stack(tracker.task_id)
    assert "frames between are left out" in text
    assert "deeper" in functions(text)
    assert len(text) < 20_000
    ended(pool, tracker)


def test_of_an_async_handler_it_is_what_it_awaits(pool: TaskService, bell: Bell) -> None:
    """C-03: down to the innermost await, though no thread stands there."""
    tracker = begun(pool, bell, awaits)
    settled(pool, tracker, ["awaits", "inner_await", "sleep"])
    ended(pool, tracker)


def test_what_an_async_handler_waits_for_in_other_asyncio_tasks_is_told(pool: TaskService, bell: Bell) -> None:
    """C-03: gather, named tasks, async generators."""
    tracker = begun(pool, bell, gathers)
    text = settled(pool, tracker, ["gathers", "inner_await", "sleep", "stepping", "steps", "sleep"])
    assert "asyncio task the stepper (most recent call last):" in text
    ended(pool, tracker)


def test_an_async_handler_that_never_awaits_is_found_in_its_thread(pool: TaskService, bell: Bell) -> None:
    """C-03: its event loop is held; asking needs only the interpreter, which Python code gives away."""
    tracker = begun(pool, bell, spins)
    assert functions(pool.stack(tracker.task_id))[:1] == ["spins"]
    ended(pool, tracker)


def test_a_task_group_and_a_thread_of_the_loop_s_executor_are_told(pool: TaskService, bell: Bell) -> None:
    """C-03: also a C function that a thread runs, and an asyncio task without a frame of the handler's."""
    tracker = begun(pool, bell, executes)
    until(lambda: "result = self.fn(*self.args, **self.kwargs)" in pool.stack(tracker.task_id))
    text = pool.stack(tracker.task_id)
    assert functions(text)[0] == "executes"
    assert "asyncio task sleeper (most recent call last):\n" in text and "no frame of Python" not in text
    wait([tracker.future], LONG)


@pytest.mark.parametrize("handler", [yields, ayields])
def test_a_generator_that_waits_for_credit_is_shown_at_its_yield(tmp_path: Path, handler: Any) -> None:
    """C-03, L-04: and what it waits in."""
    bell, release = Bell(tmp_path / "bell"), threading.Event()
    with TaskService(1, echo=None, on_exit="force", credit=64, stall_timeout=LONG) as made:
        made.events.pipe(rxo.buffer_bounded(5)).subscribe(lambda _: release.wait(LONG))
        tracker = begun(made, bell, handler)
        until(lambda: "withheld" in " ".join(made.explain(tracker.task_id)))
        text = made.stack(tracker.task_id)
        assert functions(text)[0] == handler.__name__ and 'yield "much"' in text, text
        release.set()


def test_threads_that_the_handler_made_are_told_by_name(pool: TaskService, bell: Bell) -> None:
    """C-03: where it waits for one of them."""
    tracker = begun(pool, bell, has_thread)
    text = pool.stack(tracker.task_id)
    assert "thread a helper's thread (most recent call last):" in text
    assert functions(text)[0] == "has_thread" and "deeper" in functions(text)
    assert "rxtasks-control" not in text and "control.py" not in text
    ended(pool, tracker)


@pytest.mark.parametrize(("handler", "name"), [(has_child, "sleep"), (forks, "python")])
def test_processes_below_the_handler_are_named(pool: TaskService, bell: Bell, handler: Any, name: str) -> None:
    """C-03: with what the kernel says that they do."""
    tracker = begun(pool, bell, handler)
    text = pool.stack(tracker.task_id)
    assert re.search(rf"^1 process below it: \d+ \({name}[^)]*\): (sleeping|running)$", text, re.MULTILINE), text
    assert functions(text)[0] == handler.__name__
    ended(pool, tracker)


def test_a_stopped_worker_is_told_and_not_touched(pool: TaskService, bell: Bell) -> None:
    """W-06: it shows no stack until it is continued, and then it does."""
    tracker = begun(pool, bell, waits)
    pid = next(info.pid for info in pool.workers() if tracker.task_id in info.task_ids)
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        until(lambda: is_stopped(pid))
        assert "stopped by a signal (SIGSTOP)" in pool.stack(tracker.task_id)
    finally:
        os.kill(pid, signal.SIGCONT)
    assert functions(pool.stack(tracker.task_id))[:2] == ["waits", "deeper"]
    ended(pool, tracker)


def test_tasks_side_by_side_are_all_told_and_the_one_asked_for_first(tmp_path: Path) -> None:
    """E-11: of a worker that runs several async handlers, each under its task's id."""
    bell = Bell(tmp_path / "bell")
    with TaskService([WorkerSpec(1, concurrency=3)], echo=None, on_exit="force") as made:
        trackers = [made.submit(handler, bell.path) for handler in (awaits, gathers)]
        bell.heard(2)
        for tracker, other in (trackers, trackers[::-1]):
            text = made.stack(tracker.task_id)
            assert functions(text)[0] == tracker.name.partition(":")[2]
            assert f"task {other.task_id} (most recent call last):" in text


@pytest.mark.parametrize("concurrency", [1, 2])
@pytest.mark.parametrize("handler", [waits, awaits])
def test_a_thread_worker_tells_of_its_task_alone(tmp_path: Path, handler: Any, concurrency: int) -> None:
    """C-03: the program's other threads are none of its business."""
    bell = Bell(tmp_path / "bell")
    spec = WorkerSpec(1, isolation="thread", concurrency=concurrency)
    with TaskService([spec], echo=None, on_exit="force", drain_timeout=0.1) as made:
        tracker = begun(made, bell, handler)
        text = made.stack(tracker.task_id)
        assert functions(text)[0] == handler.__name__
        assert "pytest" not in text.replace(bell.path, "")


def test_an_inline_task_is_told_from_another_thread(tmp_path: Path) -> None:
    """C-03: it runs on the thread that submitted it."""
    bell = Bell(tmp_path / "bell")
    made = TaskService(1, isolation="inline", echo=None)
    made.start()
    threading.Thread(target=made.submit, args=(waits, bell.path), daemon=True).start()
    bell.heard()
    (record,) = made.list()
    assert functions(made.stack(record.task_id))[:2] == ["waits", "deeper"]
    made.stop(force=True, timeout=0.1)


# -- who has none -----------------------------------------------------------------------------------------------------


def test_tasks_that_do_not_run_are_refused_with_the_reason(pool: TaskService, bell: Bell) -> None:
    """C-03: unknown, ended, scheduled: each error says which and where to look."""
    with pytest.raises(UnknownTask):
        pool.stack("01ARZ3NDEKTSV4RRFFQ69G5FAV")
    with pytest.raises(UnknownTask):
        pool.stack(None)  # type: ignore[arg-type]
    done = pool.submit(len, "abc")
    done.result(LONG)
    with pytest.raises(SettingsError, match=r"has ended \(succeeded\)"):
        pool.stack(done.task_id)
    later = pool.with_options(delay=60).submit(len, "abc")
    with pytest.raises(SettingsError, match="is scheduled: only a task that runs has a stack; explain"):
        pool.stack(later.task_id)
    later.cancel()


def test_a_task_sent_ahead_waits_behind_another_one(tmp_path: Path) -> None:
    """W-13: it is in the worker, and has not begun there."""
    bell = Bell(tmp_path / "bell")
    with TaskService(1, echo=None, on_exit="force") as made:
        made.start()
        for _ in range(50):
            made.submit(maybe, bell.path, False).result(LONG)  # so short that the next ones are sent ahead
        first, *rest = [made.submit(maybe, bell.path, number == 0) for number in range(40)]
        bell.heard()
        ahead = [tracker for tracker in rest if "has not begun: it waits in worker" in refusal(made, tracker)]
        assert ahead, refusal(made, rest[0])
        assert first.task_id in refusal(made, ahead[0])


def maybe(path: str, stuck: bool) -> None:
    if stuck:
        deeper(path, SECRET)


def refusal(made: TaskService, tracker: TaskTracker) -> str:
    with pytest.raises(SettingsError) as raised:
        made.stack(tracker.task_id)
    return str(raised.value)


def test_before_the_start_and_after_the_stop_nothing_runs(tmp_path: Path) -> None:
    """E-06: no hang, a clear word."""
    made = TaskService(1, isolation="thread", echo=None)
    with pytest.raises(UnknownTask):
        made.stack("nobody")
    tracker = made.submit(len, "abc")
    tracker.result(LONG)
    made.stop()
    with pytest.raises((SettingsError, UnknownTask)):
        made.stack(tracker.task_id)


def test_a_task_of_another_service_is_told_to_be_there(tmp_path: Path) -> None:
    """E-06: a service without workers on the same store says which worker has it."""
    bell = Bell(tmp_path / "bell")
    store = f"sqlite:///{tmp_path / 'tasks.db'}"
    with (
        TaskService(1, store=store, echo=None, on_exit="force", modules=[__name__]) as made,
        TaskService(0, store=store, echo=None) as observer,
    ):
        tracker = made.submit(waits_stored, bell.path)
        bell.heard()
        assert made.flush(LONG)
        waiting = observer.track(tracker.task_id)
        running = threading.Event()
        waiting.statuses.subscribe(lambda _: running.set())
        assert running.wait(LONG)
        with pytest.raises(SettingsError, match="of another service on this store"):
            observer.stack(tracker.task_id)
        assert functions(made.stack(tracker.task_id))[:2] == ["waits_stored", "deeper"]
