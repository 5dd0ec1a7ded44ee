"""Hooks (E-07), in this process and in real workers."""

from __future__ import annotations

import asyncio
import functools
import json
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest
import reactivex as rx
from reactivex.operators import to_list

from rxtasks import (
    Cancelled,
    PayloadError,
    Retry,
    RetryPolicy,
    SettingsError,
    TaskCancelled,
    TaskContext,
    TaskRequest,
    TaskService,
    TaskStatus,
    current_task,
)

WAIT = 30.0
EVERYWHERE = pytest.mark.parametrize("isolation", ["process", "thread", "inline"])
POINTS = ("before_worker_start", "after_worker_start", "before_worker_stop", "after_worker_stop")


def note(path: str, *words: object) -> None:
    with open(path, "a") as file:
        file.write(json.dumps([str(word) for word in words]) + "\n")


def noted(path: Path) -> list[list[str]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def double(x: int) -> int:
    return 2 * x


async def adouble(x: int) -> int:
    await asyncio.sleep(0)
    return 2 * x


def fail() -> None:
    raise ValueError("no")


def failures(service: TaskService) -> tuple[list[str], Callable[[int], None]]:
    """What the pool's stream says of hooks that fail, and what waits for so many of them."""
    said: list[str] = []
    more = threading.Condition()

    def take(event: Any) -> None:
        if event.kind == "hook_failed":
            with more:
                said.append(event.message)
                more.notify_all()

    def wait(count: int) -> None:
        with more:
            assert more.wait_for(lambda: len(said) >= count, WAIT), said

    service.pool.subscribe(take)
    return said, wait


# -- in this process --------------------------------------------------------------------------------------------------


def test_pushes_are_seen_with_all_their_options() -> None:
    """E-07: before and after submit, push, push_all, create, map, an executor's submit, and requests into the engine."""
    seen: list[tuple[str, str, Any]] = []
    with TaskService(1, isolation="thread") as service:
        service.before("push")(lambda request: seen.append(("before", request.task_id, request.options.priority)))
        service.after("push")(lambda request, tracker: seen.append(("after", request.task_id, tracker)))
        service.before("create")(lambda request: seen.append(("create", request.task_id, request.args)))
        service.after("create")(lambda request, tracker: seen.append(("created", request.task_id, tracker.status)))

        tracker = service.with_options(priority=3).submit(double, 1)
        assert seen == [("before", tracker.task_id, 3), ("after", tracker.task_id, tracker)]
        seen.clear()
        request = TaskRequest(double, (2,))
        service.create(request)
        assert seen == [("create", request.task_id, (2,)), ("created", request.task_id, TaskStatus.CREATED)]
        seen.clear()
        assert service.push(request).result(WAIT) == 4
        several = [tracker.task_id for tracker in service.push_all([TaskRequest(double, (n,)) for n in range(3)])]
        assert [i for word, i, _ in seen if word == "before"] == [request.task_id, *several]
        seen.clear()
        assert service.map(double, [1, 2, 3]).run() is not None
        assert [word for word, _, _ in seen] == ["before", "after"] * 3
        assert {tracker for word, _, tracker in seen if word == "after"} == {None}
        seen.clear()
        assert service.executor().submit(double, 4).result(WAIT) == 8
        assert service.defer(double, 5).run() == 10
        fed = threading.Event()
        service.engine.subscribe(lambda event: fed.set() if event.task_id == "fed" else None)
        rx.of(TaskRequest(double, (6,), task_id="fed")).subscribe(service.engine)
        assert fed.wait(WAIT)
        assert [word for word, _, _ in seen] == ["before", "after"] * 3


def test_a_hook_changes_what_is_pushed() -> None:
    """E-07: by returning another request; the next hook gets that one."""
    with TaskService(1, isolation="thread") as service:

        @service.before("push")
        def once_more(request: TaskRequest) -> TaskRequest:
            return attrs.evolve(
                request, args=(request.args[0] + 1,), options=attrs.evolve(request.options, tags=("x",))
            )

        assert once_more.__name__ == "once_more"  # it stays the function
        service.before("push")(once_more)  # added again, it is there once
        tracker = service.submit(double, 1)
        assert tracker.result(WAIT) == 4
        assert service.get(tracker.task_id).tags == ("x",)
        assert service.before("push").remove(once_more) and not service.before("push").remove(once_more)
        assert service.submit(double, 1).result(WAIT) == 2


def test_a_hook_refuses_what_is_pushed() -> None:
    """E-07: by Cancelled: nothing is stored, and the caller is told; an item of a map fails alone."""

    def no_odd(request: TaskRequest) -> None:
        if request.args and request.args[0] % 2:
            raise Cancelled("odd")

    with TaskService(1, isolation="thread") as service:
        service.before("push")(no_odd)
        with pytest.raises(TaskCancelled, match="odd") as caught:
            service.submit(double, 1)
        assert caught.value.reason == "odd"
        with pytest.raises(TaskCancelled):
            service.push_all([TaskRequest(double, (2,)), TaskRequest(double, (3,))])
        with pytest.raises(TaskCancelled):
            service.executor().submit(double, 1)
        assert service.submit(double, 2).result(WAIT) == 4
        found = service.map(double, range(4), on_failure="emit").pipe(to_list()).run()
        assert [value if isinstance(value, int) else type(value) for value in found] == [
            0,
            TaskCancelled,
            4,
            TaskCancelled,
        ]
        assert {record.status for record in service.list()} == {TaskStatus.SUCCEEDED}


def test_a_hook_that_fails_is_reported_and_harms_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """E-07: on the pool's stream and in the log, with its point and name; so is one that returns something else."""
    with TaskService(1, isolation="thread") as service, caplog.at_level(logging.ERROR, "rxtasks"):
        said, wait = failures(service)

        @service.before("push")
        def broken(request: TaskRequest) -> None:
            raise KeyError("oops")

        service.before("push")(lambda request: {"args": ()})
        service.after("push")(lambda request: 1 / 0)
        assert service.submit(double, 4).result(WAIT) == 8
        wait(3)
        assert "before_push" in said[0] and "broken" in said[0] and "KeyError" in said[0]
        assert "None or a TaskRequest" in said[1]
        assert "after_push" in said[2] and "ZeroDivisionError" in said[2]
        assert len([record for record in caplog.records if "hook" in record.getMessage()]) == 3


def test_a_hook_may_push() -> None:
    """E-07: what it pushes goes without hooks, so that it does not call itself for ever."""
    with TaskService(1, isolation="thread") as service:
        others: list[Any] = []
        service.before("push")(lambda request: others.append(service.submit(double, 50)))
        assert service.submit(double, 1).result(WAIT) == 2
        assert [tracker.result(WAIT) for tracker in others] == [100]
        assert service.submit(double, 1).result(WAIT) == 2
        assert len(others) == 2


def test_async_hooks_run_to_their_end_inside_a_loop_too() -> None:
    """E-07 E-18: where a loop runs on the thread, beside it."""
    seen: list[int] = []

    async def hook(request: TaskRequest) -> None:
        await asyncio.sleep(0)
        seen.append(request.args[0])

    async def main(service: TaskService) -> list[int]:
        return [await service.submit(double, 2), await (await service.asubmit(double, 3))]

    with TaskService(1, isolation="thread") as service:
        service.before("push")(hook)
        assert service.submit(double, 1).result(WAIT) == 2
        assert asyncio.run(main(service)) == [4, 6]
    assert seen == [1, 2, 3]


def test_start_and_stop_are_seen_once_each() -> None:
    """E-07: of an explicit start and one by a submit, in the order of what happens, and again for the next start."""
    seen: list[Any] = []
    service = TaskService(1, isolation="thread")
    service.before("start")(lambda of: seen.append(("before start", of is service, of.status().running)))
    service.after("start")(lambda of: seen.append(("after start", of.status().running)))
    service.before("stop")(lambda: seen.append(("before stop", service.status().running)))
    service.after("stop")(lambda of, report: seen.append(("after stop", of.status().running, report.unfinished)))
    expected = [
        ("before start", True, False),
        ("after start", True),
        ("before stop", True),
        ("after stop", False, ()),
    ]
    service.stop()
    assert seen == []  # nothing had started
    service.start()
    service.start()
    service.stop()
    service.stop()
    assert seen == expected
    seen.clear()
    service.start()
    service.stop()
    assert seen == expected
    seen.clear()
    with TaskService(1, isolation="thread") as other:
        other.before("start")(lambda: seen.append("before"))
        other.after("start")(lambda: seen.append("after"))
        other.submit(double, 1).result(WAIT)
        assert seen == ["before", "after"]


def test_a_hook_that_hangs_does_not_hang_the_stop() -> None:
    """E-07 R22: the stop goes on after leave_timeout, and it is reported."""
    never = threading.Event()
    service = TaskService(1, isolation="thread", leave_timeout=0.2)
    said, wait = failures(service)
    service.before("stop")(lambda: never.wait())
    service.start()
    report = service.stop(timeout=1)
    assert report.unfinished == () and not service.status().running
    wait(1)
    assert "before_stop has not returned after 0.2 s" in said[0]
    never.set()


def test_stop_in_a_hook_of_the_stop_ends() -> None:
    """E-07 R18: and from a hook after a push."""
    service = TaskService(1, isolation="thread")
    service.before("stop")(lambda of: of.stop())
    service.after("stop")(lambda of: of.stop())
    service.after("push")(lambda request, tracker: tracker.result(WAIT))
    assert service.submit(double, 1).done
    service.stop()
    assert not service.status().running


@pytest.mark.parametrize(
    ("register", "words"),
    [
        (
            lambda s: s.before("pushes"),
            "one of create, push, start, stop, worker_start, worker_stop, task, not 'pushes'",
        ),
        (lambda s: s.after("before_task"), "one of create"),
        (lambda s: s.before(3), "not 3"),
        (lambda s: s.before("push")("word"), "a hook is a function, not 'word'"),
        (lambda s: s.before("push")(lambda a, b: None), r"before_push is called with \(request\).*needs \(a, b\)"),
        (lambda s: s.after("stop")(lambda a, b, c: None), r"\(service, report\)"),
        (lambda s: s.before("task")(lambda a, *, b: None), r"needs \(a, b\)"),
    ],
)
def test_bad_points_and_hooks_are_refused(register: Callable[[TaskService], Any], words: str) -> None:
    """E-07: with what there is, and what a hook is called with."""
    with TaskService(1, isolation="thread") as service, pytest.raises(SettingsError, match=words):
        register(service)


# -- in workers -------------------------------------------------------------------------------------------------------


@EVERYWHERE
@pytest.mark.parametrize("running", [False, True])
def test_hooks_in_workers(isolation: str, running: bool, tmp_path: Path) -> None:
    """E-07: around a worker's life and around its tasks, sync and async; added before the start, or while workers run."""
    path = tmp_path / "notes"

    async def after(ctx: TaskContext, outcome: Any) -> None:
        await asyncio.sleep(0)
        note(str(path), "after_task", ctx.task_id, outcome.status, outcome.result, outcome.error and outcome.error.type)

    def before(ctx: TaskContext) -> None:
        assert current_task() is ctx
        note(str(path), "before_task", ctx.task_id, ctx.attempt, ctx.worker_id)

    def add(service: TaskService) -> None:
        for point in POINTS:
            when, _, name = point.partition("_")
            getattr(service, when)(name)(functools.partial(note, str(path), point))
        first = service.before("task").add(before).wait(WAIT)
        second = service.after("task").add(after).wait(WAIT)
        there = [info.worker_id for info in service.workers()] if running else []
        assert first == second == dict.fromkeys(there)

    with TaskService(1, isolation=isolation) as service:
        if running:
            service.start()
            add(service)
        else:
            add(service)
            service.start()
        (info,) = service.workers()
        good, bad, other = service.submit(double, 2), service.submit(fail), service.submit(adouble, 3)
        assert (good.result(WAIT), other.result(WAIT)) == (4, 6)
        bad.future.exception(WAIT)
    worker = info.worker_id
    starts = [] if running else [["before_worker_start", worker], ["after_worker_start", worker]]
    assert noted(path) == [
        *starts,
        ["before_task", good.task_id, "1", worker],
        ["after_task", good.task_id, "succeeded", "4", "None"],
        ["before_task", bad.task_id, "1", worker],
        ["after_task", bad.task_id, "failed", "None", "ValueError"],
        ["before_task", other.task_id, "1", worker],
        ["after_task", other.task_id, "succeeded", "6", "None"],
        ["before_worker_stop", worker],
        ["after_worker_stop", worker],
    ]


@EVERYWHERE
def test_a_failing_hook_in_a_worker_is_reported_and_harms_nothing(
    isolation: str, caplog: pytest.LogCaptureFixture
) -> None:
    """E-07: by event with worker, task, point and function, and in the log; tasks and the worker's life go on."""
    events: list[Any] = []
    with TaskService(1, isolation=isolation) as service, caplog.at_level(logging.ERROR, "rxtasks"):
        said, wait = failures(service)
        service.pool.subscribe(lambda event: events.append(event) if event.kind == "hook_failed" else None)
        for when, name in (
            ("before", "worker_start"),
            ("after", "worker_start"),
            ("before", "task"),
            ("after", "task"),
        ):
            getattr(service, when)(name)(fail)
        service.before("worker_stop")(fail)
        tracker = service.submit(double, 2)
        assert tracker.result(WAIT) == 4
        wait(4)
        worker = events[0].worker_id
        assert [event.data["name"] for event in events] == [
            "before_worker_start",
            "after_worker_start",
            "before_task",
            "after_task",
        ]
        assert {event.worker_id for event in events} == {worker}
        assert [event.data["task_id"] for event in events][2] == tracker.task_id
        assert all("fail" in event.data["function"] and "ValueError: no" in event.message for event in events)
        assert service.submit(adouble, 3).result(WAIT) == 6
    assert any("before_worker_stop" in text for text in said)
    assert any("before_worker_stop" in record.getMessage() for record in caplog.records)


@EVERYWHERE
def test_signals_of_a_hook_before_a_task_are_the_tasks(isolation: str) -> None:
    """E-07 E-12: Cancelled and Retry end the attempt as if its handler had raised them; the handler is not called."""

    def gate(ctx: TaskContext) -> None:
        match ctx.trace:
            case "cancel":
                raise Cancelled("not today")
            case "retry" if ctx.attempt == 1:
                raise Retry(0.0)

    with TaskService(1, isolation=isolation) as service:
        service.before("task")(gate)
        with pytest.raises(TaskCancelled, match="not today"):
            service.push(TaskRequest(fail, trace="cancel")).result(WAIT)
        view = service.with_options(retry=RetryPolicy(max_attempts=2, base=0.0, jitter="none"))
        again = view.push(TaskRequest(double, (4,), trace="retry"))
        assert again.result(WAIT) == 8
        assert service.get(again.task_id).attempt == 2


def test_a_hook_that_hangs_is_ended_with_its_task() -> None:
    """E-07 W-08 W-09: it runs within the attempt: time limit and cancel reach it like a handler that hangs."""

    def hang(ctx: TaskContext) -> None:
        if ctx.trace == "hang":
            threading.Event().wait()

    with TaskService(1) as service:
        service.before("task")(hang)
        timed = service.with_options(timeout=0.2, grace=0.1).push(TaskRequest(double, (1,), trace="hang"))
        assert type(timed.future.exception(WAIT)).__name__ == "TaskTimeout"
        cancelled = service.with_options(grace=0.1).push(TaskRequest(double, (1,), trace="hang"))
        begun = threading.Event()
        cancelled.statuses.subscribe(lambda event: begun.set())
        assert begun.wait(WAIT)
        cancelled.cancel("enough")
        with pytest.raises(TaskCancelled, match="enough"):
            cancelled.result(WAIT)
        assert service.submit(double, 4).result(WAIT) == 8


def test_hooks_reach_successors(tmp_path: Path) -> None:
    """E-07: after a crash, and after hooks were added while the pool ran; removed, they are called no more."""
    path = tmp_path / "notes"

    def mark(ctx: TaskContext) -> None:
        note(str(path), os.getpid())

    with TaskService(1) as service:
        service.start()
        registration = service.before("task").add(mark)
        pids = [service.submit(os.getpid).result(WAIT)]
        service.with_options(max_crashes=1).submit(os._exit, 3).future.exception(WAIT)
        pids.append(service.submit(os.getpid).result(WAIT))
        assert noted(path) == [[str(pids[0])], [str(pids[0])], [str(pids[1])]]
        registration.dispose()
        registration.dispose()
        service.pool.ping(WAIT)
        service.submit(os.getpid).result(WAIT)
        service.pool.restart(service.workers()[0].worker_id)
        service.submit(os.getpid).result(WAIT)
        assert len(noted(path)) == 3


def test_hooks_share_the_objects_of_this_process() -> None:
    """E-07 R7: thread workers call the hook itself, whatever it holds."""
    seen: list[str] = []
    lock = threading.Lock()

    class Hook:
        __slots__ = ()

        def __call__(self, ctx: TaskContext) -> None:
            with lock:
                seen.append(ctx.task_id)

    with TaskService(2, isolation="thread") as service:
        service.before("task")(Hook())
        trackers = [service.submit(double, n) for n in range(20)]
        assert [tracker.result(WAIT) for tracker in trackers] == [2 * n for n in range(20)]
    assert sorted(seen) == sorted(tracker.task_id for tracker in trackers)


def test_a_hook_that_cannot_travel_is_refused() -> None:
    """E-07 R26: where it is added; nothing is changed by it."""
    lock = threading.Lock()
    with TaskService(1) as service:
        with pytest.raises(PayloadError):
            service.before("task")(lambda ctx: lock.acquire())
        assert service.submit(double, 1).result(WAIT) == 2


def test_a_stopped_worker_is_named_as_not_having_the_hook() -> None:
    """W-14: SIGSTOP keeps it from acknowledging; the other has."""
    import signal

    with TaskService(2) as service:
        service.start()
        first, second = service.workers()
        assert first.pid is not None
        os.kill(first.pid, signal.SIGSTOP)
        try:
            answers = service.pool.ping(timeout=0.5)
        finally:
            os.kill(first.pid, signal.SIGCONT)
        assert answers[second.worker_id] is None
        assert "no answer within 0.5 s: it is stopped (SIGSTOP" in (answers[first.worker_id] or "")
        assert service.pool.ping(WAIT) == dict.fromkeys([first.worker_id, second.worker_id])


def test_hooks_of_a_script_travel(tmp_path: Path) -> None:
    """E-07: functions of __main__ go to process workers, with what they refer to."""
    script = tmp_path / "script.py"
    script.write_text(
        "import os\n"
        "from rxtasks import TaskContext, TaskService\n"
        "SEEN = {'prefix': 'hello'}\n"
        "def greet(ctx: TaskContext) -> None:\n"
        "    print(SEEN['prefix'], os.getpid() != PARENT)\n"
        "PARENT = os.getpid()\n"
        "def handler(): return 5\n"
        "if __name__ == '__main__':\n"
        "    with TaskService(1, echo=None) as service:\n"
        "        service.before('task')(greet)\n"
        "        tracker = service.submit(handler)\n"
        "        print(tracker.result(30), [e.message for e in tracker.log_tail])\n"
    )
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=60, env=env)
    assert done.stdout == "5 ['hello True']\n", done.stderr


def test_hooks_cost_nothing_where_there_are_none() -> None:
    """E-07: no task is looked at, neither as it is pushed nor in its worker."""
    with TaskService(1, isolation="thread") as service:
        assert not service._hooks.pushes
        service.start()
        worker = service.pool.worker(service.workers()[0].worker_id)
        assert [executor.hooks.per_task for executor in worker.executors()] == [False]
        service.before("task").add(lambda: None).wait(WAIT)
        assert [executor.hooks.per_task for executor in worker.executors()] == [True]
        assert not service._hooks.pushes
