"""deliver_on: the subscriber is called where a GUI's loop says."""

from __future__ import annotations

import gc
import queue
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import reactivex
from reactivex.subject import Subject

from rxtasks.errors import SettingsError
from rxtasks.operators import deliver_on
from tests.unit.reactive.operator_parts import LIMIT, Post, Recorder, Reports, feeding, in_thread, joined


def test_all_that_waits_is_delivered_by_one_post_in_order() -> None:
    """R12: a burst costs the loop one callback."""
    post = Post()
    seen = Recorder()
    source: Subject[int] = Subject()
    source.pipe(deliver_on(post)).subscribe(seen)
    for value in range(50):
        source.on_next(value)
    assert (seen.values, len(post.posted)) == ([], 1)
    post.run()
    source.on_completed()
    assert seen.completed == 0
    post.run()
    assert (seen.values, seen.completed) == (list(range(50)), 1)


def test_the_callback_returns_none() -> None:
    """GLib.idle_add and its like call again what returns something true."""
    post = Post()
    source: Subject[int] = Subject()
    source.pipe(deliver_on(post)).subscribe(lambda _: True)  # type: ignore[arg-type]
    source.on_next(1)
    call: Callable[[], object] = post.posted[0]
    assert call() is None


def test_slow_callbacks_give_the_loop_back_after_some_milliseconds() -> None:
    """E-18: a long queue is delivered over several turns of the loop."""
    post = Post()
    got: list[int] = []
    source: Subject[int] = Subject()

    def slow(value: int) -> None:
        got.append(value)
        end = time.perf_counter() + 0.002
        while time.perf_counter() < end:
            pass

    source.pipe(deliver_on(post)).subscribe(slow)
    for value in range(20):
        source.on_next(value)
    assert post.run() >= 4
    assert got == list(range(20))


def test_a_real_loop_on_another_thread() -> None:
    """R12: many values of many threads arrive on the loop's thread only, none is lost."""
    calls: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def gui() -> None:
        while (call := calls.get()) is not None:
            call()

    loop = in_thread(gui)
    source: Subject[Any] = Subject()
    seen = Recorder()
    source.pipe(deliver_on(calls.put, n=5)).subscribe(seen)
    joined([feeding(source, range(500)) for _ in range(3)])
    source.on_completed()
    assert sorted(seen.wait()) == sorted(list(range(500)) * 3)
    assert seen.threads == {loop.ident}
    calls.put(None)
    joined([loop])


def test_emitting_on_the_gui_thread_itself_never_waits_for_it() -> None:
    """R18: once the loop's thread is known, an emitter on it makes the room itself."""
    post = Post()
    seen = Recorder()
    source: Subject[int] = Subject()
    source.pipe(deliver_on(post, n=3)).subscribe(seen)
    source.on_next(0)
    post.run()
    for value in range(1, 20):
        source.on_next(value)
    post.run()
    assert seen.values == list(range(20))


def test_a_nested_turn_of_the_loop_does_not_overlap_calls() -> None:
    """R12: a dialog inside on_next runs the loop; the next value waits until on_next returns."""
    post = Post()
    source: Subject[int] = Subject()
    log: list[str] = []

    def modal(value: int) -> None:
        log.append(f"in {value}")
        if value == 0:
            source.on_next(1)
            post.run()
        log.append(f"out {value}")

    source.pipe(deliver_on(post)).subscribe(modal)
    source.on_next(0)
    post.run()
    assert log == ["in 0", "out 0", "in 1", "out 1"]


def test_a_post_that_raises_detaches_the_subscriber() -> None:
    """R15: the window is gone: reported once, the emitter sees nothing."""
    source: Subject[int] = Subject()

    def post(_: Any) -> None:
        raise RuntimeError("no window")

    with Reports() as reports:
        source.pipe(deliver_on(post)).subscribe(lambda _: None)
        source.on_next(1)
        source.on_next(2)
    assert len(reports.records) == 1
    assert not source.observers


def test_dispose_before_the_turn_delivers_nothing_and_keeps_nothing() -> None:
    """R14: a callback that is still posted does not keep the subscriber."""
    post = Post()
    seen = Recorder()
    source: Subject[int] = Subject()
    subscription = source.pipe(deliver_on(post)).subscribe(seen)
    source.on_next(1)
    subscription.dispose()
    assert not source.observers
    gone = weakref.ref(seen)
    values = seen.values
    del seen
    gc.collect()
    assert gone() is None
    post.run()
    assert values == []


def test_a_full_loop_makes_a_plain_emitter_wait_until_dispose() -> None:
    """R6, R14: what waits for a loop that does not run is bounded."""
    post = Post()
    source: Subject[int] = Subject()
    subscription = source.pipe(deliver_on(post, n=2)).subscribe(lambda _: None)
    through = threading.Event()
    emitter = feeding(source, range(3), through=through)
    assert not through.wait(0.05)
    subscription.dispose()
    assert through.wait(LIMIT)
    joined([emitter])


def test_arguments_are_checked() -> None:
    with pytest.raises(SettingsError, match="post"):
        deliver_on(None)  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match="whole number"):
        deliver_on(print, n=0)


def test_a_synchronous_post_is_fine() -> None:
    seen = Recorder()
    reactivex.from_(range(10)).pipe(deliver_on(lambda call: call())).subscribe(seen)
    assert seen.values == list(range(10))
