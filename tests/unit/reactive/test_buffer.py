"""buffer_bounded: its four ways to be full, and the rules that all strategies share."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import threading
import weakref
from typing import Any

import pytest
import reactivex
from reactivex.scheduler import (
    CurrentThreadScheduler,
    EventLoopScheduler,
    ImmediateScheduler,
    ThreadPoolScheduler,
    VirtualTimeScheduler,
)
from reactivex.scheduler.eventloop import AsyncIOScheduler, AsyncIOThreadSafeScheduler
from reactivex.subject import Subject

from rxtasks.errors import QueueFull, SettingsError
from rxtasks.operators import batch, buffer_bounded, deliver_on, latest
from rxtasks.reactive.subject import RxSubject
from tests.unit.reactive.operator_parts import LIMIT, NewThreads, Recorder, Reports, feeding, in_thread, joined

STRATEGIES = [
    pytest.param(lambda scheduler=None: buffer_bounded(4, scheduler=scheduler), id="block"),
    pytest.param(lambda scheduler=None: buffer_bounded(4, "drop_oldest", scheduler), id="drop_oldest"),
    pytest.param(lambda scheduler=None: buffer_bounded(4, "drop_newest", scheduler), id="drop_newest"),
    pytest.param(lambda scheduler=None: buffer_bounded(4, "error", scheduler), id="error"),
    pytest.param(lambda scheduler=None: latest(scheduler=scheduler), id="latest"),
    pytest.param(lambda scheduler=None: latest(key=str, scheduler=scheduler), id="latest-by-key"),
    pytest.param(lambda scheduler=None: batch(1, 0.0, scheduler), id="batch"),
]


# -- what happens when it is full ------------------------------------------------------------------------------------


def test_block_makes_a_plain_emitter_wait_and_loses_nothing() -> None:
    """R17: with "block" the emitter waits for room, and every value arrives in order."""
    source: Subject[int] = Subject()
    seen = Recorder(held=True)
    buffered = source.pipe(buffer_bounded(3))
    buffered.subscribe(seen)
    source.on_next(0)
    assert seen.entered.wait(LIMIT)
    for value in (1, 2, 3):
        source.on_next(value)
    through = threading.Event()
    emitter = feeding(source, [4], through=through)
    assert not through.wait(0.05)
    seen.go.set()
    assert through.wait(LIMIT)
    source.on_completed()
    assert seen.wait() == [0, 1, 2, 3, 4]
    assert buffered.dropped == 0
    joined([emitter])


def test_dispose_lets_a_waiting_emitter_go() -> None:
    """R14: a blocked emitter is released when the subscription ends."""
    source: Subject[int] = Subject()
    seen = Recorder(held=True)
    subscription = source.pipe(buffer_bounded(1)).subscribe(seen)
    source.on_next(0)
    assert seen.entered.wait(LIMIT)
    source.on_next(1)
    emitter = in_thread(lambda: source.on_next(2))
    subscription.dispose()
    joined([emitter])
    seen.go.set()
    source.on_next(3)
    assert set(seen.values) <= {0}


def test_drop_oldest_keeps_the_newest_and_counts() -> None:
    """R17: "drop_oldest" drops what has waited longest."""
    source: Subject[int] = Subject()
    seen = Recorder(held=True)
    buffered = source.pipe(buffer_bounded(3, "drop_oldest"))
    buffered.subscribe(seen)
    source.on_next(0)
    assert seen.entered.wait(LIMIT)
    for value in range(1, 11):
        source.on_next(value)
    assert buffered.dropped == 7
    seen.go.set()
    source.on_completed()
    assert seen.wait() == [0, 8, 9, 10]


def test_drop_newest_keeps_the_oldest_and_counts() -> None:
    """R17: "drop_newest" drops what finds no room."""
    source: Subject[int] = Subject()
    seen = Recorder(held=True)
    buffered = source.pipe(buffer_bounded(3, "drop_newest"))
    buffered.subscribe(seen)
    source.on_next(0)
    assert seen.entered.wait(LIMIT)
    for value in range(1, 11):
        source.on_next(value)
    assert buffered.dropped == 7
    seen.go.set()
    source.on_completed()
    assert seen.wait() == [0, 1, 2, 3]


def test_error_gives_what_waits_and_then_fails_and_leaves_the_source() -> None:
    """R17: "error" errs exactly when a value finds no room."""
    source: Subject[int] = Subject()
    seen = Recorder(held=True)
    buffered = source.pipe(buffer_bounded(3, "error"))
    buffered.subscribe(seen)
    source.on_next(0)
    assert seen.entered.wait(LIMIT)
    for value in range(1, 5):
        source.on_next(value)
    assert not source.observers
    source.on_next(9)
    assert buffered.dropped == 1
    seen.go.set()
    assert seen.wait() == [0, 1, 2, 3]
    assert isinstance(seen.error, QueueFull)
    assert (seen.errors, seen.completed) == (1, 0)


def test_error_does_not_err_while_there_is_room() -> None:
    """R17: as many values as there is room for are no error."""
    source: Subject[int] = Subject()
    seen = Recorder(held=True)
    source.pipe(buffer_bounded(3, "error")).subscribe(seen)
    source.on_next(0)
    assert seen.entered.wait(LIMIT)
    for value in range(1, 4):
        source.on_next(value)
    source.on_completed()
    seen.go.set()
    assert seen.wait() == [0, 1, 2, 3]
    assert seen.error is None


def test_a_subscriber_that_emits_into_its_own_full_buffer_gets_an_error_and_no_deadlock() -> None:
    """R18: blocking on oneself is refused."""
    source: RxSubject[int] = RxSubject()
    failed = threading.Event()
    errors: list[Exception] = []

    def fail(error: Exception) -> None:
        errors.append(error)
        failed.set()

    def echo(value: int) -> None:
        for more in range(10):
            source.on_next(more)

    source.pipe(buffer_bounded(3)).subscribe(echo, fail)
    source.on_next(0)
    assert failed.wait(LIMIT)
    assert isinstance(errors[0], QueueFull)


def test_what_an_emitter_is_putting_when_another_completes_is_delivered() -> None:
    """R17: a value whose on_next had begun before the completion is not lost."""
    source: Subject[int] = Subject()
    seen = Recorder(held=True)
    lane_in: list[Any] = []

    def capture(observer: Any, _: Any = None) -> Any:
        lane_in.append(observer)
        return reactivex.disposable.Disposable()

    reactivex.create(capture).pipe(buffer_bounded(1)).subscribe(seen)
    observer = lane_in[0]
    observer.on_next(0)
    assert seen.entered.wait(LIMIT)
    observer.on_next(1)
    inner = observer._on_next.__self__
    emitter = in_thread(lambda: observer.on_next(2))
    with inner._room:
        assert inner._room.wait_for(lambda: inner._blocked == 1, LIMIT) or inner._blocked == 1
    observer.on_completed()
    seen.go.set()
    assert seen.wait() == [0, 1, 2]
    joined([emitter])
    source.dispose()


# -- rules of all strategies -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", STRATEGIES)
def test_several_emitters_never_overlap_calls(make: Any) -> None:
    """R12: one call at a time, whoever emits."""
    source: Subject[Any] = Subject()
    seen = Recorder()
    source.pipe(make()).subscribe(seen)
    joined([feeding(source, [(base, value) for value in range(300)]) for base in range(4)])
    source.on_completed()
    seen.wait()
    assert seen.overlaps == 0
    assert len(seen.threads) == 1
    assert (seen.completed + seen.errors, seen.after_end) == (1, 0)


@pytest.mark.parametrize("make", [STRATEGIES[0], STRATEGIES[6]])
def test_several_emitters_lose_nothing_and_each_keeps_its_order(make: Any) -> None:
    """R12, R17: the lossless strategies are lossless under several emitting threads."""
    source: Subject[Any] = Subject()
    seen = Recorder()
    source.pipe(make()).subscribe(seen)
    joined([feeding(source, [(base, value) for value in range(500)]) for base in range(4)])
    source.on_completed()
    got = seen.wait()
    flat = [pair for item in got for pair in (item if isinstance(item, list) else [item])]
    assert len(flat) == 2000
    for base in range(4):
        assert [value for where, value in flat if where == base] == list(range(500))


@pytest.mark.parametrize("make", STRATEGIES)
def test_a_subscriber_that_raises_is_reported_once_and_detached(make: Any) -> None:
    """R15: others miss nothing and the emitter sees no exception."""
    threads = NewThreads()
    source: Subject[int] = Subject()
    other = Recorder()
    reports = Reports()

    def bad(_: Any) -> None:
        raise ZeroDivisionError("mine")

    with reports:
        source.pipe(make()).subscribe(bad)
        source.subscribe(other)
        source.on_next(0)
        reports.wait()
        for value in range(1, 5):
            source.on_next(value)
        source.on_completed()
        threads.join()
    assert other.values == [0, 1, 2, 3, 4]
    assert len(reports.records) == 1
    assert "bad" in reports.records[0].getMessage()
    info = reports.records[0].exc_info
    assert info is not None and info[0] is ZeroDivisionError


@pytest.mark.parametrize("make", STRATEGIES)
def test_the_error_of_the_source_comes_after_what_waits(make: Any) -> None:
    """R13: on_next* then on_error once, nothing after."""
    source: Subject[int] = Subject()
    seen = Recorder(held=True)
    source.pipe(make()).subscribe(seen)
    source.on_next(0)
    assert seen.entered.wait(LIMIT)
    source.on_next(1)
    source.on_error(KeyError("x"))
    source.on_next(2)
    seen.go.set()
    flat = [value for item in seen.wait() for value in (item if isinstance(item, list) else [item])]
    assert flat == [0, 1]
    assert isinstance(seen.error, KeyError)
    assert (seen.errors, seen.completed, seen.after_end) == (1, 0, 0)


@pytest.mark.parametrize("make", STRATEGIES)
def test_no_reference_to_the_subscriber_is_kept_after_dispose(make: Any) -> None:
    """R14: not even while the caller keeps the subscription and the stream."""
    threads = NewThreads()
    source: Subject[int] = Subject()
    stream = source.pipe(make())
    seen = Recorder()
    subscription = stream.subscribe(seen)
    source.on_next(1)
    seen.wait_for(1)
    gone = weakref.ref(seen)
    subscription.dispose()
    threads.join()
    source.on_next(2)
    del seen
    gc.collect()
    assert gone() is None
    assert not source.observers


@pytest.mark.parametrize("make", STRATEGIES)
@pytest.mark.parametrize("end", ["completed", "error", "dispose", "raise"])
def test_the_thread_ends_with_the_subscription(make: Any, end: str) -> None:
    """W-10: nothing is left of a subscription that is over."""
    threads = NewThreads()
    source: Subject[int] = Subject()
    seen = Recorder()
    subscription = source.pipe(make()).subscribe(seen.on_next if end != "raise" else lambda _: 1 / 0, seen.on_error)
    assert len(threads.there()) == 1
    source.on_next(1)
    if end == "completed":
        source.on_completed()
    elif end == "error":
        source.on_error(KeyError())
    elif end == "dispose":
        subscription.dispose()
    threads.join()


@pytest.mark.parametrize("make", STRATEGIES)
def test_callbacks_run_in_the_subscribers_context(make: Any) -> None:
    """R12: context variables are those of the subscribe call, whoever emits."""
    mark: contextvars.ContextVar[str] = contextvars.ContextVar("mark", default="none")
    found: list[str] = []
    done = threading.Event()
    source: Subject[int] = Subject()

    def subscribe() -> None:
        mark.set("subscriber")
        source.pipe(make()).subscribe(lambda _: found.append(mark.get()), on_completed=done.set)

    contextvars.copy_context().run(subscribe)

    def emit() -> None:
        mark.set("emitter")
        source.on_next(1)
        source.on_completed()

    contextvars.copy_context().run(emit)
    assert done.wait(LIMIT)
    assert found == ["subscriber"]


def test_each_subscription_has_a_buffer_of_its_own() -> None:
    """R16: a slow subscriber of the same stream does not drop another one's values."""
    source: Subject[int] = Subject()
    stream = source.pipe(buffer_bounded(2, "drop_oldest"))
    slow, fast = Recorder(held=True), Recorder()
    stream.subscribe(slow)
    stream.subscribe(fast)
    source.on_next(0)
    assert slow.entered.wait(LIMIT)
    for value in range(1, 6):
        source.on_next(value)
        fast.wait_for(value + 1)
    slow.go.set()
    source.on_completed()
    assert fast.wait() == [0, 1, 2, 3, 4, 5]
    assert slow.wait() == [0, 4, 5]
    assert stream.dropped == 3


# -- where the subscriber is called ----------------------------------------------------------------------------------


@pytest.mark.parametrize("wrap", [lambda loop: loop, AsyncIOScheduler, AsyncIOThreadSafeScheduler])
@pytest.mark.parametrize("make", STRATEGIES)
def test_an_asyncio_loop_calls_on_its_own_thread(make: Any, wrap: Any) -> None:
    """E-18: values of any thread arrive on the loop; "block" makes the other thread wait, never the loop."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        source: Subject[int] = Subject()
        done = asyncio.Event()
        seen = Recorder()
        source.pipe(make(wrap(loop))).subscribe(seen.on_next, lambda _: done.set(), done.set)
        thread = feeding(source, range(100), complete=True)
        await asyncio.wait_for(done.wait(), LIMIT)
        joined([thread])
        assert seen.threads == {threading.get_ident()}
        assert seen.overlaps == 0

    asyncio.run(main())


@pytest.mark.parametrize("emit_first", [True, False])
def test_block_on_the_loops_own_thread_makes_room_instead_of_waiting(emit_first: bool) -> None:
    """R18: an emitter on the loop that takes the values never waits for that loop."""

    async def main() -> list[Any]:
        seen = Recorder()
        done = asyncio.Event()
        source: Subject[int] = Subject()
        source.pipe(buffer_bounded(3, scheduler=asyncio.get_running_loop())).subscribe(
            seen.on_next, on_completed=done.set
        )
        if not emit_first:
            source.on_next(-1)
            await asyncio.sleep(0)
        for value in range(20):
            source.on_next(value)
        source.on_completed()
        await asyncio.wait_for(done.wait(), LIMIT)
        return seen.values

    assert [value for value in asyncio.run(main()) if value >= 0] == list(range(20))


def test_a_busy_stream_never_holds_the_loop() -> None:
    """E-18: between turns of at most some milliseconds the loop does its other work."""

    async def main() -> float:
        loop = asyncio.get_running_loop()
        source: Subject[int] = Subject()
        done = asyncio.Event()

        def slow(_: int) -> None:
            end = loop.time() + 0.001
            while loop.time() < end:
                pass

        source.pipe(buffer_bounded(10_000, scheduler=loop)).subscribe(slow, on_completed=done.set)
        feeding(source, range(200), complete=True)
        turns = 0
        while not done.is_set():
            turns += 1
            await asyncio.sleep(0)
        return turns

    assert asyncio.run(main()) > 10


def test_a_closed_loop_detaches_the_subscriber_and_spares_the_emitter(caplog: pytest.LogCaptureFixture) -> None:
    """R15: a loop that takes no calls is reported once."""
    loop = asyncio.new_event_loop()
    source: Subject[int] = Subject()
    source.pipe(buffer_bounded(3, scheduler=loop)).subscribe(lambda _: None)
    loop.close()
    source.on_next(1)
    source.on_next(2)
    assert not source.observers
    assert len([record for record in caplog.records if record.name == "rxtasks"]) == 1


@pytest.mark.parametrize(
    "make_scheduler",
    [lambda: EventLoopScheduler(), lambda: ThreadPoolScheduler(2), ImmediateScheduler, CurrentThreadScheduler],
)
def test_any_scheduler_of_rxpy_will_do(make_scheduler: Any) -> None:
    """R12, R17: nothing lost, in order, one call at a time on any scheduler."""
    seen = Recorder()
    reactivex.from_(range(500)).pipe(buffer_bounded(3, scheduler=make_scheduler())).subscribe(seen)
    assert seen.wait() == list(range(500))
    assert seen.overlaps == 0


def test_an_emitter_that_drives_the_virtual_clock_does_not_wait_for_it() -> None:
    """R18: under virtual time a full "block" buffer is emptied on the spot."""
    scheduler = VirtualTimeScheduler()
    source: Subject[int] = Subject()
    seen = Recorder()
    source.pipe(buffer_bounded(3, scheduler=scheduler)).subscribe(seen)
    for value in range(10):
        source.on_next(value)
    source.on_completed()
    scheduler.start()
    assert seen.wait() == list(range(10))


def test_emitting_on_the_schedulers_own_thread_does_not_wait_for_it() -> None:
    """R18: the same on the thread of an EventLoopScheduler."""
    scheduler = EventLoopScheduler()
    source: Subject[int] = Subject()
    seen = Recorder()
    source.pipe(buffer_bounded(3, scheduler=scheduler)).subscribe(seen)

    def emit(_: Any, __: Any = None) -> None:
        for value in range(50):
            source.on_next(value)
        source.on_completed()

    scheduler.schedule(emit)
    assert seen.wait() == list(range(50))
    scheduler.dispose()


def test_a_disposed_scheduler_detaches_the_subscriber(caplog: pytest.LogCaptureFixture) -> None:
    """R15: a scheduler that refuses is reported, the emitter sees nothing."""
    scheduler = EventLoopScheduler()
    scheduler.dispose()
    source: Subject[int] = Subject()
    source.pipe(buffer_bounded(3, scheduler=scheduler)).subscribe(lambda _: None)
    source.on_next(1)
    assert not source.observers
    assert "takes no calls" in caplog.text


def test_strategies_can_be_chained() -> None:
    """R12, R17: a strategy behind a strategy, each with its thread."""
    seen = Recorder()
    reactivex.from_(range(1000)).pipe(buffer_bounded(5), batch(7, 10.0), buffer_bounded(2)).subscribe(seen)
    assert [value for part in seen.wait() for value in part] == list(range(1000))
    last = Recorder()
    reactivex.from_(range(5)).pipe(buffer_bounded(5), deliver_on(lambda call: call())).subscribe(last)
    assert last.wait() == [0, 1, 2, 3, 4]


# -- the door --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [0, -1, 1.5, True, "3", None])
def test_a_bound_is_a_whole_number_from_one(n: Any) -> None:
    with pytest.raises(SettingsError, match="whole number from 1"):
        buffer_bounded(n)


def test_an_unknown_strategy_is_refused_with_those_there_are() -> None:
    with pytest.raises(SettingsError, match="'drop_oldest'"):
        buffer_bounded(3, "drop")  # type: ignore[arg-type]


@pytest.mark.parametrize("make", STRATEGIES)
def test_an_unknown_scheduler_is_refused(make: Any) -> None:
    with pytest.raises(SettingsError, match="asyncio loop"):
        make("thread")


def test_a_source_that_fails_to_subscribe_fails_the_subscriber_and_leaves_no_thread() -> None:
    """R13: what subscribe raises is an on_error."""

    def bad(_: Any, __: Any = None) -> Any:
        raise LookupError("no source")

    seen = Recorder()
    threads = NewThreads()
    reactivex.create(bad).pipe(buffer_bounded(3)).subscribe(seen)
    seen.wait()
    assert isinstance(seen.error, LookupError)
    threads.join()
