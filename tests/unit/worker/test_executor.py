"""Attempts in the caller's own process: inline and threads."""

from __future__ import annotations

import asyncio
import contextvars
import io
import logging
import sys
import threading
import warnings
from collections.abc import Iterator
from typing import Any

import pytest

from rxtasks.lifecycle.signals import Cancelled
from rxtasks.wire.message import END, LOG, OUTPUTS, RUNNING, Assignment, Define
from rxtasks.worker.context import TaskContext, current_task
from rxtasks.worker.executor import Executor
from rxtasks.worker.outbox import Outbox

SOON = 5.0


class Inline:
    """An executor on this thread."""

    def __init__(self, **more: Any) -> None:
        self.rows: list[list[Any]] = []
        self.outbox = Outbox(lambda rows, blobs, conflated: self.rows.extend(rows), in_process=True)
        self.executor = Executor(self.outbox, worker_id="w", in_process=True, **more)
        self._token = 0

    def assignment(self, handler: Any, *args: Any, **more: Any) -> Assignment:
        self._token += 1
        key = f"k{id(handler)}"
        self.executor.functions.table[key] = handler
        made = Assignment(self._token, 1, f"T{self._token}", 1, 1, key, 100_000, form="o", payload=(args, {}))
        for name, value in more.items():
            setattr(made, name, value)
        return made

    def run(self, handler: Any, *args: Any, **more: Any) -> list[list[Any]]:
        before = len(self.rows)
        self.executor.run(self.assignment(handler, *args, **more))
        return self.rows[before:]

    def logs(self) -> list[tuple[str, str]]:
        return [(row[5], row[6]) for row in self.rows if row[0] == LOG]


@pytest.fixture
def inline() -> Iterator[Inline]:
    made = Inline()
    yield made
    made.executor.close()


def test_an_attempt_is_running_and_an_end(inline: Inline) -> None:
    """E-04: an attempt begins with running and ends with one status; the result is the object itself."""
    value = {"x": object()}
    rows = inline.run(lambda: value)
    assert [RUNNING, END] == [row[0] for row in rows]
    assert ("succeeded", "o") == (rows[1][4], rows[1][5][0]) and rows[1][5][1] is value
    assert rows[1][8] >= 0
    assert current_task() is None


def test_the_exception_itself_is_handed_over(inline: Inline) -> None:
    """E-13: in one process the handler's exception is the object, without rxtasks' own frames."""
    error = ValueError("x")

    def handler() -> None:
        raise error

    end = inline.run(handler)[-1]
    assert end[6]["object"] is error
    assert "handler" == error.__traceback__.tb_frame.f_code.co_name
    assert "rxtasks" not in end[6]["traceback"]


def test_capture_ends_with_the_executor() -> None:
    """E-10: when the last executor ends, the taps are taken out and everything is as before."""
    from loguru import logger

    def state() -> list[Any]:
        handlers = sorted(logger._core.handlers)  # type: ignore[attr-defined]
        return [sys.stdout, sys.stderr, logging.Logger.callHandlers, logging.root.level, warnings.showwarning, handlers]

    before = state()
    one, two = Inline(), Inline()
    one.run(lambda: None)
    two.run(lambda: None)
    assert before != state()
    one.executor.close()
    assert before != state()
    two.executor.close()
    assert before == state()
    two.executor.close()


def test_code_outside_of_tasks_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """E-10: what is printed, warned or logged outside of tasks goes where it always went, and into no task's log."""
    console = io.StringIO()
    monkeypatch.setattr(sys, "stdout", console)
    seen: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            seen.append(record.getMessage())

    handler = Keep()
    logging.root.addHandler(handler)
    made = Inline()
    try:

        def work() -> None:
            def outside() -> None:
                print("outside")
                logging.warning("o1")
                logging.info("o2")

            thread = threading.Thread(target=outside)
            thread.start()
            thread.join()
            print("inside")
            logging.info("i1")

        made.run(work)
        print("after")
        logging.info("o3")
        assert "outside\nafter\n" == console.getvalue()
        assert ["o1"] == seen
        assert [("inside", "stdout"), ("i1", "logging")] == made.logs()
    finally:
        logging.root.removeHandler(handler)
        made.executor.close()


def test_a_debugger_writes_to_the_terminal(inline: Inline, monkeypatch: pytest.MonkeyPatch) -> None:
    """W-18: inline, a debugger works: what pdb writes goes to the console."""
    import pdb

    console = io.StringIO()
    monkeypatch.setattr(sys, "stdout", console)
    monkeypatch.setattr(sys, "stdin", io.StringIO("p 6*7\nc\n"))

    def handler() -> None:
        pdb.Pdb(stdin=sys.stdin, stdout=sys.stdout, nosigint=True).set_trace()
        print("said")

    inline.run(handler)
    assert "42" in console.getvalue()
    assert [("said", "stdout")] == inline.logs()


def test_loguru_and_logging_consoles_are_not_captured_twice(inline: Inline, monkeypatch: pytest.MonkeyPatch) -> None:
    """R7: a console handler of the caller's that is set already does not make a second event of a line."""
    from loguru import logger

    console = io.StringIO()
    monkeypatch.setattr(sys, "stderr", console)

    def handler() -> None:
        sink = logger.add(sys.stderr, format="{message}")
        stream = logging.StreamHandler()
        logging.root.addHandler(stream)
        try:
            logger.info("from loguru")
            logging.warning("from logging")
            sys.stderr.write("direct\n")
        finally:
            logging.root.removeHandler(stream)
            logger.remove(sink)

    inline.run(handler)
    assert [("from loguru", "loguru"), ("from logging", "logging"), ("direct", "stderr")] == inline.logs()
    assert "from loguru\nfrom logging\n" == console.getvalue()


def test_the_bound_logger_reaches_the_task_from_any_thread(inline: Inline) -> None:
    """E-09: ctx.log is bound: it reaches the task from a thread without the context, and users' own sinks too."""
    from loguru import logger

    seen: list[Any] = []

    def handler(ctx: TaskContext) -> None:
        ctx.log.info("short")
        sink = logger.add(lambda message: seen.append(message.record["extra"]["task_id"]), level="INFO")
        try:
            thread = threading.Thread(target=lambda: ctx.log.warning("far {}", 1))
            thread.start()
            thread.join()
        finally:
            logger.remove(sink)
        try:
            raise KeyError("k")
        except KeyError:
            ctx.log.exception("failed")

    inline.run(handler)
    lines = inline.logs()
    assert [("short", "log"), ("far 1", "log")] == lines[:2]
    assert lines[2][0].startswith("failed\nTraceback") and "KeyError" in lines[2][0]
    assert ["T1"] == seen


def test_async_handlers_run_inside_a_running_loop(inline: Inline) -> None:
    """E-11: run() of an async handler works on a thread whose event loop is running."""

    async def handler() -> str:
        await asyncio.sleep(0)
        found = current_task()
        assert found is not None
        return found.task_id

    async def outside() -> list[Any]:
        return inline.run(handler)[-1][5]  # type: ignore[no-any-return]

    assert ["j", "T1"] == asyncio.run(outside())
    assert ["j", "T2"] == inline.run(handler)[-1][5]


def test_arun_runs_several_in_one_loop(inline: Inline) -> None:
    """E-11: several async handlers run at once in one loop, each with its own context; a cancel ends only its own."""

    async def handler(barrier: asyncio.Barrier, name: str) -> str:
        print("start", name)
        await barrier.wait()
        if name == "b":
            await asyncio.sleep(1000)
        print("end", name)
        return name

    async def main() -> list[str]:
        barrier = asyncio.Barrier(4)
        tasks = [inline.assignment(handler, barrier, name) for name in "abc"]
        assert all(inline.executor.is_async(task) for task in tasks)
        running = [asyncio.create_task(inline.executor.arun(task)) for task in tasks]
        await barrier.wait()
        assert inline.executor.cancel(tasks[1].token, "enough")
        return list(await asyncio.gather(*running))

    assert ["succeeded", "cancelled", "succeeded"] == asyncio.run(main())
    by_token = {token: [row[5] for row in inline.rows if row[0] == LOG and row[1] == token] for token in (1, 2, 3)}
    assert {1: ["start a", "end a"], 2: ["start b"], 3: ["start c", "end c"]} == by_token


def test_a_late_cancel_leaves_the_result(inline: Inline) -> None:
    """W-09: an async handler that ends in the instant of its cancel has succeeded, and its runner goes on."""

    async def handler(ctx: TaskContext) -> int:
        assert inline.executor.cancel(ctx._assignment.token)
        return 5

    async def main() -> str:
        return await inline.executor.arun(inline.assignment(handler))

    assert "succeeded" == asyncio.run(main())


def test_unknown_tokens_are_no_ops(inline: Inline) -> None:
    """R3: commands for what does not run change nothing."""
    assert inline.executor.cancel(99) is False
    inline.executor.checkpoint(99)
    inline.executor.grant(99, 5)
    inline.executor.reply(99)
    inline.executor.abandon(99)
    inline.executor.forget("nothing")


def test_an_abandoned_attempt_says_nothing_more(inline: Inline) -> None:
    """W-18: of a thread that cannot be ended nothing comes any more; its context calls raise."""
    go, reached = threading.Event(), threading.Event()
    raised: list[type] = []

    def handler(ctx: TaskContext) -> None:
        reached.set()
        assert go.wait(SOON)
        print("too late")
        ctx.log.info("too late")
        try:
            ctx.emit(1)
        except BaseException as error:
            raised.append(type(error))

    task = inline.assignment(handler)
    thread = threading.Thread(target=inline.executor.run, args=(task,))
    thread.start()
    assert reached.wait(SOON)
    inline.executor.abandon(task.token)
    go.set()
    thread.join(SOON)
    assert [RUNNING] == [row[0] for row in inline.rows]
    assert [Cancelled] == raised


def test_contextvars_of_one_task_do_not_reach_the_next(inline: Inline) -> None:
    """E-09: what a handler sets in its context is gone with it; what the caller set is seen."""
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("v", default="none")

    def handler() -> str:
        seen = variable.get()
        variable.set("changed")
        return seen

    variable.set("caller's")
    assert [["j", "caller's"]] * 2 == [inline.run(handler)[-1][5] for _ in range(2)]


def test_functions_are_resolved_when_needed(inline: Inline) -> None:
    """E-17: a function is imported when a task first needs it; a new definition of its key replaces it."""
    inline.executor.define(Define("k", ref="math:sqrt"))
    assert 3.0 == inline.run(None, 9.0, function="k")[-1][5][1]
    inline.executor.define(Define("k", ref="math:floor"))
    assert ["j", 2] == inline.run(None, 2.5, function="k")[-1][5]
    inline.executor.forget("k")
    assert "rxtasks.errors.UnknownHandler" == inline.run(None, 1, function="k")[-1][6]["type"]
    inline.executor.define(Define("k", ref="no_such_module:f"))
    assert "rxtasks.errors.UnknownHandler" == inline.run(None, 1, function="k")[-1][6]["type"]


def test_a_sync_function_may_return_a_coroutine(inline: Inline) -> None:
    """E-11: a lambda that calls an async function is awaited."""

    async def inner() -> int:
        return 7

    assert ["j", 7] == inline.run(lambda: inner())[-1][5]


def test_outputs_precede_the_end(inline: Inline) -> None:
    """E-04: outputs and logs precede the status, also lines without an end."""

    def handler(ctx: TaskContext) -> None:
        sys.stdout.write("no end")
        ctx.emit(1)

    assert [RUNNING, OUTPUTS, LOG, END] == [row[0] for row in inline.run(handler)]


def test_redirected_streams_go_back_to_where_they_led(inline: Inline, monkeypatch: pytest.MonkeyPatch) -> None:
    """E-10: code outside of tasks may redirect stdout while tasks run: both it and the tasks keep their lines."""
    import contextlib

    console, redirected = io.StringIO(), io.StringIO()
    monkeypatch.setattr(sys, "stdout", console)
    inline.run(lambda: print("task 1"))
    with contextlib.redirect_stdout(redirected):
        print("redirected 1")
        inline.run(lambda: print("task 2"))
        print("redirected 2")
    print("console")
    inline.run(lambda: print("task 3"))
    inline.executor.close()
    print("after")
    assert redirected.getvalue() == "redirected 1\nredirected 2\n"
    assert console.getvalue() == "console\nafter\n"
    assert inline.logs() == [(f"task {number}", "stdout") for number in (1, 2, 3)]
    assert sys.stdout is console


def test_a_warning_is_shown_once_in_each_task(inline: Inline) -> None:
    """R7: what a task says does not depend on which tasks ran here before."""

    def handler() -> None:
        for _ in range(2):
            warnings.warn("again", stacklevel=1)

    with warnings.catch_warnings():
        warnings.resetwarnings()
        inline.run(handler)
        inline.run(handler)
    assert inline.logs() == [("UserWarning: again", "warnings")] * 2
