"""aiterate: a stream in an async for loop."""

from __future__ import annotations

import asyncio
import gc
import itertools
from collections.abc import Coroutine
from typing import Any, TypeVar

import pytest
import reactivex
from reactivex import operators as ops
from reactivex.scheduler.eventloop import AsyncIOScheduler
from reactivex.subject import Subject

from rxtasks.errors import QueueFull, SettingsError
from rxtasks.observe.bus import TaskEventBus
from rxtasks.observe.delivery import Delivery
from rxtasks.reactive.aiterate import aiterate
from tests.unit.reactive.operator_parts import LIMIT, NewThreads, feeding, in_thread, joined, log

T = TypeVar("T")


def run(main: Coroutine[Any, Any, T]) -> T:
    async def limited() -> T:
        return await asyncio.wait_for(main, LIMIT)

    return asyncio.run(limited())


async def collect(values: Any) -> list[Any]:
    return [value async for value in values]


def test_it_gives_every_value_in_order_and_ends() -> None:
    """R13: a cold source longer than the buffer emits on a thread of its own."""

    async def main() -> None:
        values = aiterate(reactivex.from_(range(3000)), buffersize=3)
        assert await collect(values) == list(range(3000))
        assert await collect(values) == []

    run(main())


def test_values_of_another_thread_arrive_and_full_makes_it_wait() -> None:
    """E-18, R6: usable from any loop; the emitter waits for room, the loop does not."""

    async def main() -> None:
        subject: Subject[int] = Subject()
        values = aiterate(subject, buffersize=2)
        emitter = feeding(subject, range(500), complete=True)
        assert await collect(values) == list(range(500))
        await asyncio.to_thread(joined, [emitter])

    run(main())


def test_an_error_is_raised_after_the_values_before_it() -> None:
    """R13."""

    async def main() -> None:
        values = aiterate(reactivex.concat(reactivex.of(1, 2), reactivex.throw(KeyError("x"))))
        assert [await anext(values), await anext(values)] == [1, 2]
        with pytest.raises(KeyError):
            await anext(values)
        with pytest.raises(StopAsyncIteration):
            await anext(values)

    run(main())


def test_leaving_the_async_with_disposes() -> None:
    """R14."""

    async def main() -> None:
        subject: Subject[int] = Subject()
        async with aiterate(subject) as values:
            subject.on_next(1)
            assert await anext(values) == 1
        assert not subject.observers
        assert await collect(values) == []

    run(main())


def test_dropping_the_iterator_disposes() -> None:
    """R14: `async for ... break` without `async with`."""

    async def main() -> None:
        subject: Subject[int] = Subject()
        values = aiterate(subject)
        subject.on_next(1)
        async for _ in values:
            break
        del values
        gc.collect()
        assert not subject.observers

    run(main())


def test_an_endless_source_ends_with_the_loop() -> None:
    """W-10: no thread goes on counting for nobody."""
    threads = NewThreads()

    async def main() -> None:
        async with aiterate(reactivex.from_(itertools.count()), buffersize=2) as values:
            async for value in values:
                if value == 100:
                    break

    run(main())
    threads.join()


def test_sources_that_belong_to_the_loop_work() -> None:
    """E-18: they are subscribed on the loop's thread."""

    async def main() -> list[int]:
        scheduler = AsyncIOScheduler(asyncio.get_running_loop())
        return await collect(aiterate(reactivex.interval(0.001, scheduler=scheduler).pipe(ops.take(3))))

    assert run(main()) == [0, 1, 2]


def test_a_fast_stream_leaves_the_loop_to_others() -> None:
    """E-18: values that are there already do not starve other tasks."""

    async def main() -> int:
        loop = asyncio.get_running_loop()
        turns = 0
        over = False

        async def other() -> None:
            nonlocal turns
            while not over:
                turns += 1
                await asyncio.sleep(0)

        beside = asyncio.create_task(other())
        async for _ in aiterate(reactivex.from_(range(300)), buffersize=300):
            end = loop.time() + 0.0005
            while loop.time() < end:
                pass
        over = True
        await beside
        return turns

    assert run(main()) > 10


def test_cancelling_the_wait_loses_nothing() -> None:
    """E-18: wait_for around anext may time out; the value that comes later is there."""

    async def main() -> None:
        subject: Subject[int] = Subject()
        values = aiterate(subject)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(values), 0.01)
        subject.on_next(1)
        subject.on_next(2)
        assert [await anext(values), await anext(values)] == [1, 2]

    run(main())


def test_the_loops_own_emissions_beyond_the_buffer_are_a_clear_error() -> None:
    """R18: the loop cannot wait for itself; what fits is given first."""

    async def main() -> None:
        subject: Subject[int] = Subject()
        values = aiterate(subject, buffersize=2)
        for value in range(5):
            subject.on_next(value)
        assert not subject.observers
        assert [await anext(values), await anext(values)] == [0, 1]
        with pytest.raises(QueueFull):
            await anext(values)

    run(main())


def test_one_task_at_a_time() -> None:
    async def main() -> None:
        subject: Subject[int] = Subject()
        values = aiterate(subject)
        first = asyncio.ensure_future(anext(values))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="another task"):
            await anext(values)
        subject.on_next(1)
        assert await first == 1

    run(main())


def test_values_that_are_futures_are_values() -> None:
    async def main() -> None:
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        assert await collect(aiterate(reactivex.of(future))) == [future]

    run(main())


def test_made_without_a_loop_and_used_in_two() -> None:
    """E-18: it belongs to no loop."""
    subject: Subject[int] = Subject()
    values = aiterate(subject)
    subject.on_next(1)

    async def one() -> int:
        return await anext(values)

    assert run(one()) == 1
    joined([in_thread(lambda: subject.on_next(2))])
    assert run(one()) == 2


def test_a_loop_that_was_closed_while_waiting_hurts_nobody() -> None:
    """R15: the emitter sees no exception."""
    subject: Subject[int] = Subject()
    values = aiterate(subject)
    loop = asyncio.new_event_loop()
    waiting = loop.create_task(values.__anext__())
    for _ in range(3):
        loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    subject.on_next(1)
    assert subject.observers
    waiting._log_destroy_pending = False  # type: ignore[attr-defined]


def test_a_services_stream() -> None:
    """E-18, R6: events of the delivery thread, with less room than there are events."""

    async def main() -> list[int]:
        delivery = Delivery()
        bus = TaskEventBus(delivery)
        values = aiterate(bus, buffersize=4)
        for seq in range(1, 101):
            delivery.publish([log(seq)], 100)
        bus.on_completed()
        got = [event.seq async for event in values]
        await asyncio.to_thread(delivery.close, LIMIT)
        return got

    assert run(main()) == list(range(1, 101))


@pytest.mark.parametrize("size", [0, None, True])
def test_buffersize_is_a_whole_number_from_one(size: Any) -> None:
    with pytest.raises(SettingsError, match="buffersize"):
        aiterate(reactivex.of(1), buffersize=size)
