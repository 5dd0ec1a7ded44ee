"""Flow control between a worker process and its parent."""

from __future__ import annotations

import random
import time
from typing import Any

import pytest

from rxtasks.wire.message import Ack, Cancel, Checkpoint, Dropped, Heartbeat, Ping
from rxtasks.worker.context import TaskContext
from tests.unit.worker.harness import END, LOG, OUTPUT, OUTPUTS, Finished, Process, singly, worker


def credited(task: Finished) -> int:
    return sum(1 for row in task.rows if row[0] in (LOG, OUTPUT, OUTPUTS))


def dropped(process: Process) -> int:
    return sum(report.count for report in process.reports if type(report) is Dropped)


def memory(process: Process) -> int:
    with open(f"/proc/{process.popen.pid}/statm") as file:
        return int(file.read().split()[1]) * 4096


def test_logs_and_outputs_never_exceed_their_credit() -> None:
    """R1, R2: with 16 units of credit exactly 16 small events come; each grant lets as many more through."""

    def handler(ctx: TaskContext) -> None:
        for number in range(50):
            if number % 2:
                ctx.emit(number)
            else:
                print(number)
        ctx.progress(1)

    with worker(credit=False, window=16) as process:
        token = process.start(handler)
        task = process.tasks[token]
        process.wait(lambda: credited(task) == 16)
        process.send(Ping(command := process.command()))
        process.acked(command)
        assert 16 == credited(task)
        process.grant(token)
        process.wait(lambda: credited(task) == 32)
        process.grant(token)
        process.grant(token)
        process.wait(lambda: credited(task) == 48)
        process.grant(token)
        process.finish(token)
        assert 50 == credited(task)
        assert list(range(1, 50, 2)) == task.outputs()


def test_heartbeat_cancel_and_status_pass_while_credit_is_zero() -> None:
    """R5: without credit a handler waits; heartbeats and acknowledgements come, and a cancel ends it."""

    def emits(ctx: TaskContext) -> None:
        for number in range(100):
            ctx.emit(number)

    def polite(ctx: TaskContext) -> str:
        for number in range(4):
            ctx.emit(number)
        ctx.progress(1)
        return "result"

    with worker(credit=False, window=4, configure={"heartbeat": 0.05}) as process:
        token = process.start(emits)
        process.wait(lambda: credited(process.tasks[token]) == 4)
        process.wait(lambda: process.find(Heartbeat, tokens=[token]))
        process.send(Cancel(command := process.command(), token, "stuck"))
        assert "cancelled" == process.finish(token).status
        assert process.acked(command).ok
        done = process.run(polite)
        assert ("result", 4) == (done.value, credited(done))


def test_a_retry_is_told_without_credit() -> None:
    """R5, E-19: the log event of a retry has a unit kept for it, so that the status never waits for credit."""

    def handler(ctx: TaskContext) -> None:
        for number in range(3):
            ctx.emit(number)
        raise ValueError("x" * 5000)

    with worker(credit=False, window=4) as process:
        done = process.run(handler, options={"retry": {"max_attempts": 2}})
        assert "retrying" == done.status
        assert done.logs()[0].startswith("retry 1/1: xxx")


def test_ten_megabytes_of_print_block_and_do_not_grow() -> None:
    """L-04, R6: a chatty handler waits for credit; the worker's memory stays where it is; nothing is lost."""

    def handler() -> int:
        line = "x" * 99
        for _ in range(100_000):
            print(line)
        print("y" * 1_000_000)
        return 1

    with worker(credit=False) as process:
        token = process.start(handler)
        task = process.tasks[token]
        process.wait(lambda: credited(task) == process.window)
        before = memory(process)
        process.send(Ping(command := process.command()))
        process.acked(command)
        assert process.window == credited(task)
        process.credit = True
        process.grant(token)
        process.wait(lambda: task.done)
        assert memory(process) - before < 8_000_000
        lines = task.logs()
        assert 100_000 == sum(1 for line in lines if line == "x" * 99)
        assert 1_000_000 == sum(len(line) for line in lines if line.startswith("y"))
        assert max(map(len, lines)) <= 65536


def test_both_sides_write_fifty_megabytes_at_each_other() -> None:
    """R5: with 50 MB on the way in both directions neither side waits for ever, and heartbeats pass."""

    def handler(data: bytes) -> bytes:
        return data

    blob = bytes(range(256)) * (200 * 1024)
    with worker(configure={"heartbeat": 0.02}) as process:
        tokens = [process.start(handler, blob) for _ in range(3)]
        for token in tokens:
            assert blob == process.finish(token).value
        assert process.find(Heartbeat)


def test_a_parent_that_does_not_read_stops_the_worker_not_its_memory() -> None:
    """R6: while the parent reads nothing, finished results do not pile up: the next task is not begun."""

    def handler() -> bytes:
        return bytes(5_000_000)

    with worker() as process:
        process.run(handler)
        before = memory(process)
        process.reading = False
        for _ in range(20):
            process.start(handler)
        deadline = time.monotonic() + 0.3
        while time.monotonic() < deadline:
            process.turn(0.01)
        assert memory(process) - before < 20_000_000
        process.reading = True
        for token in process.tasks:
            assert 5_000_000 == len(process.finish(token).value)


def test_heartbeats_pass_between_the_parts_of_a_large_result() -> None:
    """R5, R11: a heartbeat need not wait behind 50 MB: it passes between two of its parts."""

    def handler() -> bytes:
        return bytes(50_000_000)

    with worker() as process:
        process.reading = False
        token = process.start(handler)
        deadline = time.monotonic() + 0.5
        while time.monotonic() < deadline:
            process.turn(0.01)
        process.send(Ping(command := process.command()))
        process.reading = True
        process.wait(lambda: process.find(Ack, command_id=command))
        assert not process.tasks[token].done
        assert 50_000_000 == len(process.finish(token).value)


def test_rows_of_a_long_task_leave_soon(shared: Process) -> None:
    """E-06: what a running handler says leaves within a few milliseconds, without its help."""

    def handler(ctx: TaskContext) -> None:
        ctx.emit(1)
        while not ctx.checkpoint_requested:
            pass

    token = shared.start(handler)
    shared.wait(lambda: shared.tasks[token].outputs())
    shared.send(Checkpoint(shared.command(), token))
    shared.finish(token)


def test_a_short_task_is_one_frame(process: Process) -> None:
    """E-04: running and end of a short task leave together, in one frame."""
    seen: list[int] = []
    take = process._events

    def count(events: Any) -> None:
        seen.append(len(singly(events.rows)))
        take(events)

    process._events = count  # type: ignore[method-assign]
    process.run(lambda: None)
    seen.clear()
    for _ in range(40):
        process.run(lambda: None)
    # On a loaded machine the alarm comes between the two now and then.
    assert seen.count(2) > 20


@pytest.mark.parametrize("several", [1, 2])
def test_many_tasks_many_batches(several: int) -> None:
    """R4: thousands of tasks in batches, all reported once and in order."""

    def handler(number: int) -> int:
        return number

    with worker(configure={"concurrency": several}) as process:
        tasks = [process.assignment(handler, number) for number in range(3000)]
        for start in range(0, len(tasks), 100):
            process.assign(*tasks[start : start + 100])
        for number, task in enumerate(tasks):
            assert number == process.finish(task.token).value
            assert [1, 2] == [row[2] for row in process.tasks[task.token].rows]


@pytest.mark.parametrize("several", [1, 3])
@pytest.mark.parametrize("seed", [1, 2])
def test_whatever_comes_together_every_task_ends_once(several: int, seed: int) -> None:
    """R3, R4, R5: short and long tasks, cancels, pings and take-backs in any order: each begun task ends once."""

    def work(milliseconds: float, lines: int, ctx: TaskContext) -> int:
        for number in range(lines):
            print(number)
        until = time.perf_counter() + milliseconds / 1000
        while time.perf_counter() < until:
            ctx.progress(1)
        return lines

    async def waits(milliseconds: float, lines: int, ctx: TaskContext) -> int:
        import asyncio

        for number in range(lines):
            print(number)
        await asyncio.sleep(milliseconds / 1000)
        return lines

    chance = random.Random(seed)
    with worker(window=16, configure={"concurrency": several, "heartbeat": 0.01}) as process:
        assigned: list[int] = []
        back = 0
        for _ in range(150):
            tasks = [
                process.assignment(
                    chance.choice([work, work, waits]), chance.choice([0, 0, 0, 1, 5, 9]), chance.choice([0, 1, 40])
                )
                for _ in range(chance.randrange(1, 6))
            ]
            process.assign(*tasks)
            assigned += [task.token for task in tasks]
            process.turn(0.003)
            if chance.random() < 0.5:
                process.send(Cancel(process.command(), chance.choice(assigned), "random"))
            if chance.random() < 0.3:
                process.send(Ping(process.command()))
            if chance.random() < 0.2:
                count = process.take_back()
                back += count
                if count:
                    gone, assigned = assigned[-count:], assigned[:-count]
                    process.wait(lambda back=back: dropped(process) >= back)  # type: ignore[misc]
                    assert not any(process.tasks[token].rows for token in gone)
        for token in assigned:
            done = process.finish(token)
            assert done.status in ("succeeded", "cancelled")
            assert [row[2] for row in done.rows] == list(range(1, len(done.rows) + 1))
            assert [row[0] for row in done.rows].count(END) == 1
            if done.status == "succeeded":
                assert done.logs() == [str(number) for number in range(done.value)]
        assert dropped(process) == back
        process.wait(lambda: len([each for each in process.reports if type(each) is Ack]) == process.next_command - 1)
