"""A worker process runs handlers of every kind and reports what they did."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import os
import sys
import time
import warnings
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from rxtasks.lifecycle.signals import Cancelled, Reschedule, Retry
from rxtasks.wire.message import Cancel, Checkpoint, Define, Heartbeat, Hook, Ping, Ready, Reply, Request, Stop
from rxtasks.wire.payload import dump_args, loads
from rxtasks.worker.context import TaskContext, current_task
from tests.unit.worker.harness import END, LOG, OUTPUTS, PROGRESS, RUNNING, Finished, Process, worker


def test_a_task_runs_and_its_rows_are_numbered(shared: Process) -> None:
    """E-03: seq is contiguous from the assignment's first one; running begins the attempt, a status ends it."""

    def handler(x: int, ctx: TaskContext) -> dict[str, int]:
        print("one")
        ctx.progress(1, 2)
        ctx.emit([x])
        return {"x": x}

    done = shared.run(handler, 3, first_seq=7)
    assert [RUNNING, LOG, PROGRESS, OUTPUTS, END] == done.kinds()
    assert [7, 8, 9, 10, 11] == [row[2] for row in done.rows]
    assert "succeeded" == done.status
    assert {"x": 3} == done.value
    times = [row[3] for row in done.rows]
    assert sorted(times) == times
    assert abs(times[0] / 1e6 - time.time()) < 60


def test_the_context_says_who_and_where(shared: Process) -> None:
    """E-09: a handler's context knows task, worker, attempt and fence; current_task finds it from any call."""

    def inner() -> TaskContext | None:
        return current_task()

    def handler(ctx: TaskContext) -> list[Any]:
        assert inner() is ctx
        return [ctx.task_id, ctx.worker_id, ctx.attempt, ctx.fence, ctx.deadline, ctx.cancelled, ctx.restored]

    token = shared.start(handler, attempt=3, fence=11)
    done = shared.finish(token)
    assert [f"TASK{token:022}", f"worker-{shared.popen.pid}", 3, 11, None, False, None] == done.value


def test_everything_said_becomes_log_events_in_order(shared: Process) -> None:
    """E-10: print, stderr, logging, warnings, loguru and ctx.log become log events with level and stream, in order."""

    def handler(ctx: TaskContext) -> None:
        from loguru import logger

        print("a", 1)
        sys.stderr.write("b\n")
        logging.getLogger("some.place").warning("c %s", 2)
        logging.info("d")
        warnings.warn("e", stacklevel=1)
        logger.debug("f {}", 3)
        ctx.log.success("g {}", 4, shape="round")
        ctx.log.bind(k=1).opt(depth=0).error("h")
        sys.stdout.buffer.write("i \u00e9\n".encode())
        print("no end", end="")

    done = shared.run(handler)
    assert [
        ("INFO", "a 1", "stdout"),
        ("WARNING", "b", "stderr"),
        ("WARNING", "c 2", "logging"),
        ("INFO", "d", "logging"),
        ("WARNING", "UserWarning: e", "warnings"),
        ("DEBUG", "f 3", "loguru"),
        ("SUCCESS", "g 4", "log"),
        ("ERROR", "h", "log"),
        ("INFO", "i \u00e9", "stdout"),
        ("INFO", "no end", "stdout"),
    ] == [(row[4], row[5], row[6]) for row in done.rows if row[0] == LOG]
    fields = {row[5]: row[7] for row in done.rows if row[0] == LOG}
    assert {"shape": "round"} == fields["g 4"]
    assert {"k": 1} == fields["h"]
    assert {"logger": "some.place"} == fields["c 2"]
    assert END == done.kinds()[-1]


def test_consoles_of_logging_libraries_do_not_say_it_twice(process: Process) -> None:
    """E-10: a line logged through a handler that writes to the console is one event, not two."""

    def handler() -> None:
        from loguru import logger

        logging.basicConfig(level=logging.DEBUG)
        logging.debug("from logging")
        logger.remove()
        logger.add(sys.stderr, level="INFO")
        logger.info("from loguru")

    done = process.run(handler)
    assert [("from logging", "logging"), ("from loguru", "loguru")] == [
        (row[5], row[6]) for row in done.rows if row[0] == LOG
    ]
    assert {"stdout": b"", "stderr": b""} == process.console


def test_output_below_python_is_read_before_the_end(shared: Process) -> None:
    """E-10: what a handler writes to descriptor 1 or 2 has been read by the parent before the attempt's end comes."""

    def handler() -> None:
        os.write(1, b"raw out\n")
        os.system("echo from a shell >&2")

    before = dict(shared.console)
    token = shared.start(handler)
    task = shared.tasks[token]
    shared.wait(lambda: task.rows)
    assert RUNNING == task.rows[0][0]
    shared.finish(token)
    assert b"raw out\n" == shared.console["stdout"][len(before["stdout"]) :]
    assert b"from a shell\n" == shared.console["stderr"][len(before["stderr"]) :]


def test_async_handlers_run(shared: Process) -> None:
    """E-11: an async handler's value is its result; its context is found inside coroutines; its prints are its own."""

    async def inner() -> str:
        await asyncio.sleep(0)
        print("inside")
        found = current_task()
        assert found is not None
        return found.task_id

    async def handler(ctx: TaskContext) -> bool:
        return await asyncio.create_task(inner()) == ctx.task_id

    done = shared.run(handler)
    assert done.value is True
    assert ["inside"] == done.logs()


def test_generators_emit_what_they_yield(shared: Process) -> None:
    """E-11: generator and async generator handlers emit what they yield; a generator's return value is its result."""

    def generator() -> Any:
        yield 1
        yield {"a": (1, 2)}
        return "done"

    async def async_generator() -> Any:
        for number in range(3):
            await asyncio.sleep(0)
            yield number

    done = shared.run(generator)
    assert [1, {"a": (1, 2)}] == done.outputs()
    assert "done" == done.value
    done = shared.run(async_generator)
    assert [0, 1, 2] == done.outputs()
    assert done.value is None


def test_several_async_handlers_run_at_once() -> None:
    """E-11: with concurrency n, n async handlers of one worker run at once, and each keeps its own log."""

    async def handler(name: str) -> str:
        state: Any = sys.modules[asyncio.__name__]
        waiting = state.__dict__.setdefault("_test_waiting", [])
        print("start", name)
        waiting.append(asyncio.get_running_loop().create_future())
        if len(waiting) == 3:
            for future in waiting:
                future.set_result(None)
        await waiting[-1 if len(waiting) < 3 else 2]
        print("end", name)
        return name

    with worker(configure={"concurrency": 3}) as process:
        tokens = [process.start(handler, name) for name in "abc"]
        assert ["a", "b", "c"] == [process.finish(token).value for token in tokens]
        for token, name in zip(tokens, "abc", strict=True):
            assert [f"start {name}", f"end {name}"] == process.tasks[token].logs()
        assert 3 == process.run(lambda: 3).value


def test_progress_is_conflated_to_the_latest(shared: Process) -> None:
    """R8, R10: progress comes as a subsequence with the same last value, before the status; the rest is counted."""

    def handler(ctx: TaskContext) -> None:
        for number in range(20_000):
            ctx.progress(number, 20_000)

    before = shared.conflated
    done = shared.run(handler)
    seen = [row[0] for row in done.progress()]
    assert 19_999 == seen[-1]
    assert sorted(set(seen)) == seen
    assert 20_000 == len(seen) + shared.conflated - before
    assert PROGRESS == done.kinds()[-2]


def test_errors_keep_class_message_code_and_details(shared: Process) -> None:
    """E-13: an error keeps class, message, code, details and cause; the traceback begins in the handler."""

    def inner(secret: str) -> None:
        error = ValueError("wrong", 3)
        error.code = "E42"  # type: ignore[attr-defined]
        error.details = {"row": 7}  # type: ignore[attr-defined]
        raise error

    def handler() -> None:
        try:
            inner("hunter2")
        except ValueError as error:
            raise KeyError("k") from error

    done = shared.run(handler)
    assert "failed" == done.status
    assert "KeyError" == done.error["type"]
    cause = done.error["cause"]
    assert ("ValueError", "('wrong', 3)", "E42", {"row": 7}) == (
        cause["type"],
        cause["message"],
        cause["code"],
        cause["details"],
    )
    text = done.error["traceback"]
    assert "in handler" in text and "in inner" in text and "direct cause" in text
    assert "rxtasks/worker" not in text
    assert "hunter2" not in text.replace('inner("hunter2")', "")
    rebuilt = done.exception()
    assert isinstance(rebuilt, KeyError) and ("k",) == rebuilt.args


RETRY = {"max_attempts": 3, "backoff": "fixed", "base": 2.0, "jitter": "none"}


@pytest.mark.parametrize(
    ("options", "failures", "status", "delay", "log"),
    [
        (None, 0, "failed", None, []),
        ({"retry": RETRY}, 0, "retrying", 2.0, ["retry 1/2: boom"]),
        ({"retry": RETRY}, 1, "retrying", 2.0, ["retry 2/2: boom"]),
        ({"retry": RETRY}, 2, "failed", None, []),
        ({"retry": {**RETRY, "retry_on": ["builtins:OSError"]}}, 0, "failed", None, []),
        ({"retry": {**RETRY, "retry_on": ["builtins:LookupError"]}}, 0, "retrying", 2.0, ["retry 1/2: boom"]),
        ({"retry": {**RETRY, "give_up_on": ["builtins:IndexError"]}}, 0, "failed", None, []),
    ],
)
def test_the_retry_policy_is_decided_here(
    shared: Process, options: Any, failures: int, status: str, delay: Any, log: list[str]
) -> None:
    """E-12, E-19: the worker ends a failed attempt with retrying or failed; a retry leaves a log event."""

    def handler() -> None:
        raise IndexError("boom")

    done = shared.run(handler, options=options, failures=failures)
    assert (status, delay, log) == (done.status, done.end[7], done.logs())
    assert "IndexError" == done.error["type"]


def test_a_handler_asks_for_retry_reschedule_or_cancel(shared: Process) -> None:
    """E-12: Retry, Reschedule and Cancelled raised in a handler end the attempt as they say."""

    def retry() -> None:
        with contextlib.suppress(Exception):
            raise Retry(0.5)

    def reschedule(seconds: float) -> None:
        raise Reschedule(datetime.now(UTC) + timedelta(seconds=seconds))

    def cancel() -> None:
        raise Cancelled("not needed")

    done = shared.run(retry, options={"retry": RETRY})
    assert ("retrying", 0.5) == (done.status, done.end[7])
    assert "retry 1/2: asked by the handler" == done.logs()[-1]
    done = shared.run(retry, options={"retry": RETRY}, failures=2)
    assert "failed" == done.status and "no attempt is left (3 in all)" in done.error["message"]
    done = shared.run(retry, failures=7)  # without a policy the handler says how often
    assert ("retrying", 0.5) == (done.status, done.end[7]) and "retry 8: asked by the handler" == done.logs()[-1]
    done = shared.run(reschedule, 60)
    assert "scheduled" == done.status and 55 < done.end[7] <= 60
    done = shared.run(cancel)
    assert ("cancelled", "the task was cancelled: not needed") == (done.status, done.error["message"])


def test_a_checkpoint_is_durable_before_it_returns(shared: Process) -> None:
    """E-09: checkpoint waits for the engine's reply, fails with what it says, and comes back as `restored`."""

    def handler(ctx: TaskContext) -> Any:
        ctx.checkpoint({"row": 3})
        try:
            ctx.checkpoint(4)
        except Exception as error:
            return [type(error).__name__, str(error), ctx.restored]

    token = shared.start(handler, restored=__import__("pickle").dumps("before"))
    requests: list[Request] = []

    def next_request() -> bool:
        requests[:] = [report for report in shared.reports if isinstance(report, Request) and report.token == token]
        return bool(requests)

    shared.wait(next_request)
    assert ("checkpoint", {"row": 3}) == (requests[0].op, loads(requests[0].blob))
    shared.send(Reply(requests[0].request_id))
    shared.wait(lambda: next_request() and len(requests) == 2)
    shared.send(Reply(requests[1].request_id, False, "the disk is full"))
    assert ["StoreError", "the disk is full", "before"] == shared.finish(token).value


def test_a_timeout_asks_for_a_checkpoint(shared: Process) -> None:
    """W-08: the soft timeout, or a Checkpoint command, tells the handler to checkpoint; deadline is timeout + grace."""

    def handler(ctx: TaskContext) -> float:
        ctx.emit("running")
        while not ctx.checkpoint_requested:
            time.sleep(0.001)
        return 0.0 if ctx.deadline is None else ctx.deadline.timestamp()

    done = shared.run(handler, options={"timeout": 0.05, "grace": 2.0})
    assert 2.05 == pytest.approx(done.value - done.rows[0][3] / 1e6, abs=0.05)
    token = shared.start(handler)
    shared.wait(lambda: shared.tasks[token].outputs())
    shared.send(Checkpoint(command := shared.command(), token))
    assert 0.0 == shared.finish(token).value
    assert shared.acked(command).ok


def test_cancel_reaches_every_kind_of_handler(shared: Process) -> None:
    """W-09: a running handler sees a cancel at its next context call, an async one by cancellation."""

    def sync(ctx: TaskContext) -> None:
        ctx.emit("running")
        while True:
            ctx.progress(1)
            time.sleep(0.001)

    def polite(ctx: TaskContext) -> str:
        ctx.emit("running")
        while not ctx.cancelled:
            time.sleep(0.001)
        ctx.log.info("seen")
        return "finished all the same"

    def generator() -> Any:
        try:
            while True:
                yield "running"
                time.sleep(0.001)
        finally:
            print("cleaned up")

    async def waiting() -> None:
        current_task().emit("running")  # type: ignore[union-attr]
        try:
            await asyncio.sleep(60)
        finally:
            print("cleaned up")

    async def async_generator() -> Any:
        try:
            while True:
                yield "running"
                await asyncio.sleep(0.001)
        finally:
            print("cleaned up")

    for handler in (sync, generator, waiting, async_generator, polite):
        token = shared.start(handler)
        shared.wait(functools.partial(Finished.outputs, shared.tasks[token]))
        shared.send(Cancel(command := shared.command(), token, "enough"))
        done = shared.finish(token)
        assert shared.acked(command).ok
        if handler is polite:
            assert ("succeeded", ["seen"]) == (done.status, done.logs())
        else:
            assert ("cancelled", "the task was cancelled: enough") == (done.status, done.error["message"]), handler
            assert handler is sync or ["cleaned up"] == done.logs()
    shared.send(Cancel(command := shared.command(), token, "again"))
    assert shared.acked(command).ok
    assert "succeeded" == shared.run(lambda: None).status


def test_a_task_cancelled_before_it_began_never_runs(shared: Process) -> None:
    """W-09: a cancel that comes while the task is queued ends it without running."""

    def blocker(ctx: TaskContext) -> None:
        ctx.emit("running")
        while not ctx.checkpoint_requested:
            time.sleep(0.001)

    first = shared.start(blocker)
    second = shared.start(lambda: print("never"))
    shared.wait(lambda: shared.tasks[first].outputs())
    shared.send(Cancel(command := shared.command(), second, "changed my mind"))
    shared.acked(command)
    shared.send(Checkpoint(shared.command(), first))
    done = shared.finish(second)
    assert [END] == done.kinds()
    assert ("cancelled", "the task was cancelled: changed my mind") == (done.status, done.error["message"])


def test_heartbeats_come_while_a_handler_runs() -> None:
    """W-06: heartbeats are independent of the handler and name the tasks that run; Ping asks for one."""

    def handler(ctx: TaskContext) -> int:
        ctx.emit("running")
        total = 0
        while not ctx.checkpoint_requested:
            total += 1
        return total

    with worker(configure={"heartbeat": 0.05}) as process:
        process.wait(lambda: process.find(Heartbeat, tokens=[]))
        token = process.start(handler)
        process.wait(lambda: process.tasks[token].outputs())
        process.wait(lambda: process.find(Heartbeat, tokens=[token]))
        beat = process.find(Heartbeat, tokens=[token])
        assert beat.cpu_seconds > 0 and beat.memory_bytes > 1_000_000
        process.send(Ping(command := process.command()))
        assert process.acked(command).ok
        process.send(Checkpoint(process.command(), token))
        process.finish(token)


def test_tasks_are_taken_back_by_draining_the_token_pipe(process: Process) -> None:
    """W-13: what the parent drains is never begun and is reported as dropped; the worker's consent is not asked."""

    def blocker(ctx: TaskContext) -> None:
        ctx.emit("running")
        while not ctx.checkpoint_requested:
            time.sleep(0.001)

    def other() -> None:
        print("ran")

    first = process.assignment(blocker)
    rest = [process.assignment(other) for _ in range(5)]
    process.assign(first, *rest)
    process.wait(lambda: process.tasks[first.token].outputs())
    assert 5 == process.take_back()
    process.send(Checkpoint(process.command(), first.token))
    process.finish(first.token)
    from rxtasks.wire.message import Dropped

    process.wait(lambda: process.find(Dropped))
    assert 5 == process.find(Dropped).count
    assert "succeeded" == process.run(other).status
    assert all(not process.tasks[task.token].rows for task in rest)


def test_hooks_are_called_and_acknowledged(process: Process) -> None:
    """E-07: hooks are reached by message with acknowledgement; a failing one is reported and harms nothing."""

    def greet(name: str) -> None:
        print("hello", name)

    def fail() -> None:
        raise RuntimeError("hook boom")

    def before(ctx: TaskContext) -> None:
        ctx.log.info("before {}", ctx.attempt)

    import cloudpickle

    process.define(greet)
    process.define(fail)
    for key, function in (("hook:worker_start", greet), ("hook:bad", fail), ("hook:before_task", before)):
        process.send(Define(key, blob=cloudpickle.dumps(function)))
    process.send(Hook(first := process.command(), "worker_start", dump_args(("you",), {})))
    process.send(Hook(second := process.command(), "bad"))
    process.send(Hook(third := process.command(), "nobody"))
    assert process.acked(first).ok
    answer = process.acked(second)
    assert not answer.ok and "hook boom" in (answer.error or "")
    assert process.acked(third).ok
    done = process.run(lambda: 5)
    assert (5, ["before 1"]) == (done.value, done.logs())
    said = [row[5] for row in process.worker_log]
    assert "hello you" in said
    assert any("hook bad failed" in text for text in said)


def test_stop_finishes_what_runs_and_leaves(process: Process) -> None:
    """W-05, W-14: Stop is acknowledged at once; what runs finishes; what is queued is given back."""

    def handler(ctx: TaskContext) -> str:
        ctx.emit("running")
        while not ctx.checkpoint_requested:
            time.sleep(0.001)
        return "finished"

    token = process.start(handler)
    queued = process.start(lambda: print("never"))
    process.wait(lambda: process.tasks[token].outputs())
    process.send(Stop(command := process.command()))
    assert process.acked(command).ok
    process.send(Checkpoint(process.command(), token))
    assert "finished" == process.finish(token).value
    assert 0 == process.exited()
    assert [] == process.tasks[queued].rows
    from rxtasks.wire.message import Dropped

    assert 1 == process.find(Dropped).count


def test_resources_are_built_once_and_closed_at_stop(process: Process) -> None:
    """E-17: a resource is built at first use, shared by the worker's tasks, and closed when the worker stops."""

    def factory() -> Any:
        print("built")
        yield {"a": 1}
        os.write(1, b"closed\n")

    def handler(ctx: TaskContext) -> Any:
        found = ctx.resource("thing")
        found["a"] += 1
        return found["a"]

    import cloudpickle

    process.define(factory)
    process.send(Define("resource:thing", blob=cloudpickle.dumps(factory)))
    assert [2, 3] == [process.run(handler).value for _ in range(2)]
    missing = process.run(lambda: current_task().resource("other"))  # type: ignore[union-attr]
    assert "LookupError" == missing.error["type"]
    process.send(Stop(process.command()))
    assert 0 == process.exited()
    process.read_to_end()
    assert b"closed\n" == process.console["stdout"]


def test_modules_and_initializer_run_before_ready(tmp_path: Any) -> None:
    """E-17: sys.path is taken over, modules are imported, the initializer runs; Ready names the handlers."""
    (tmp_path / "some_handlers.py").write_text(
        "from rxtasks import task\nSTATE = []\n@task('adder', timeout=3)\ndef add(a, b):\n    return [a + b, *STATE]\n"
    )
    import cloudpickle

    def initializer(value: int) -> None:
        import some_handlers  # type: ignore[import-not-found]

        some_handlers.STATE.append(value)

    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    blob = cloudpickle.dumps((initializer, (9,)))
    configure = {"sys_path": [str(tmp_path)], "modules": ["some_handlers"], "initializer": blob}
    with worker(configure=configure) as process:
        ready = process.find(Ready)
        assert (["adder"], process.popen.pid) == (ready.handlers, ready.pid)
        assert [3, 9] == process.run("some_handlers:add", 1, 2).value
        assert [3, 9] == process.run("", 1, 2, key="adder").value
        assert [3, 9] == process.run("", 1, 2, key="n:adder").value
        assert "rxtasks.errors.UnknownHandler" == process.run("", key="n:os.system").error["type"]


@pytest.mark.parametrize(
    ("configure", "words"),
    [
        ({"modules": ["no_such_module_here"]}, ["ModuleNotFoundError", "no_such_module_here"]),
        ({"initializer": True}, ["RuntimeError", "cannot set up"]),
        ({"protocol": 999}, ["ProtocolError", "999"]),
    ],
)
def test_a_worker_that_cannot_start_says_why(configure: dict[str, Any], words: list[str]) -> None:
    """W-04: a worker that cannot start reports its own error text and leaves with a failure."""
    import cloudpickle

    from rxtasks.wire.message import StartFailed

    def initializer() -> None:
        raise RuntimeError("cannot set up")

    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    if "initializer" in configure:
        configure = {"initializer": cloudpickle.dumps((initializer, ()))}
    with worker(configure=configure, ready=False) as process:
        process.wait(lambda: process.find(StartFailed))
        error = process.find(StartFailed).error
        assert all(word in error["type"] + error["message"] for word in words)
        assert 1 == process.exited()
