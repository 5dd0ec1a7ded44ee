"""Laws of the operators, over arbitrary sources, bounds, keys and interleavings."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import pytest
import reactivex
from hypothesis import given, settings
from hypothesis import strategies as st
from reactivex.scheduler import VirtualTimeScheduler
from reactivex.subject import Subject

from rxtasks.errors import QueueFull
from rxtasks.operators import batch, buffer_bounded, deliver_on, latest
from rxtasks.reactive.aiterate import aiterate
from rxtasks.reactive.iterate import iterate
from tests.unit.reactive.operator_parts import Post, Recorder, feeding, joined

#: Rounds: how many values come before the subscriber is given time to take what waits.
rounds = st.lists(st.integers(0, 9), max_size=12)
bounds = st.integers(1, 5)
ends = st.sampled_from(["completed", "error"])


class Stepped:
    """A strategy under virtual time: a round of values, then time for the subscriber."""

    def __init__(self, make: Any) -> None:
        self.scheduler = VirtualTimeScheduler()
        self.source: Subject[int] = Subject()
        self.seen = Recorder()
        self.stream = self.source.pipe(make(self.scheduler))
        self.stream.subscribe(self.seen)
        self.emitted = 0

    def round(self, count: int) -> list[int]:
        """Emit `count` numbers; return them."""
        values = list(range(self.emitted, self.emitted + count))
        for value in values:
            self.source.on_next(value)
        self.emitted += count
        return values

    def turn(self) -> None:
        """Let the subscriber take what waits."""
        self.scheduler.advance_by(1)

    def end(self, how: str) -> None:
        if how == "completed":
            self.source.on_completed()
        else:
            self.source.on_error(KeyError("end"))
        self.turn()
        assert self.seen.completed + self.seen.errors == 1
        assert self.seen.after_end == 0
        assert self.seen.overlaps == 0


def is_subsequence(part: list[Any], whole: list[Any]) -> bool:
    rest = iter(whole)
    return all(value in rest for value in part)


@given(rounds, bounds, ends)
def test_block_is_the_identity(counts: list[int], n: int, end: str) -> None:
    """R17: nothing lost, order kept, whatever comes between."""
    lane = Stepped(lambda scheduler: buffer_bounded(n, "block", scheduler))
    for count in counts:
        lane.round(count)
        lane.turn()
    lane.end(end)
    assert lane.seen.values == list(range(lane.emitted))
    assert lane.stream.dropped == 0


@given(rounds, bounds, ends)
def test_drop_oldest_keeps_the_last_n_of_each_round(counts: list[int], n: int, end: str) -> None:
    """R17: delivered + dropped = emitted, and the newest value is always delivered."""
    lane = Stepped(lambda scheduler: buffer_bounded(n, "drop_oldest", scheduler))
    expected: list[int] = []
    for count in counts:
        expected += lane.round(count)[-n:]
        lane.turn()
    lane.end(end)
    assert lane.seen.values == expected
    assert lane.stream.dropped == lane.emitted - len(expected)


@given(rounds, bounds, ends)
def test_drop_newest_keeps_the_first_n_of_each_round(counts: list[int], n: int, end: str) -> None:
    """R17: delivered + dropped = emitted."""
    lane = Stepped(lambda scheduler: buffer_bounded(n, "drop_newest", scheduler))
    expected: list[int] = []
    for count in counts:
        expected += lane.round(count)[:n]
        lane.turn()
    lane.end(end)
    assert lane.seen.values == expected
    assert lane.stream.dropped == lane.emitted - len(expected)


@given(rounds, bounds, ends)
def test_error_errs_exactly_when_a_value_finds_n_waiting(counts: list[int], n: int, end: str) -> None:
    """R17: up to there nothing is lost; there it ends, once."""
    lane = Stepped(lambda scheduler: buffer_bounded(n, "error", scheduler))
    expected: list[int] = []
    full = False
    for count in counts:
        values = lane.round(count)
        if not full:
            expected += values[:n]
            full = count > n
        lane.turn()
        assert (lane.seen.errors == 1) == full
    lane.end(end)
    assert lane.seen.values == expected
    assert isinstance(lane.seen.error, QueueFull) == full
    assert lane.stream.dropped == (1 if full else 0)


@given(rounds, st.integers(1, 4), ends)
def test_latest_gives_the_last_value_of_each_key_in_the_order_of_arrival(
    counts: list[int], keys: int, end: str
) -> None:
    """R17, R8: a subsequence whose last value of each key is the last there was."""
    lane = Stepped(lambda scheduler: latest(key=lambda value: value % keys, scheduler=scheduler))
    expected: list[int] = []
    for count in counts:
        values = lane.round(count)
        expected += [value for value in values if value + keys > values[-1]]
        lane.turn()
    lane.end(end)
    assert lane.seen.values == expected
    assert is_subsequence(lane.seen.values, list(range(lane.emitted)))
    for key in range(keys):
        of_key = [value for value in range(lane.emitted) if value % keys == key]
        assert [value for value in lane.seen.values if value % keys == key][-1:] == of_key[-1:]
    assert lane.stream.dropped == lane.emitted - len(expected)


@given(rounds, ends)
def test_latest_without_a_key_gives_the_last_of_each_round(counts: list[int], end: str) -> None:
    """R17."""
    lane = Stepped(lambda scheduler: latest(scheduler=scheduler))
    expected: list[int] = []
    for count in counts:
        expected += lane.round(count)[-1:]
        lane.turn()
    lane.end(end)
    assert lane.seen.values == expected


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(1, 7)), max_size=12), bounds, st.integers(0, 20), ends)
def test_batch_is_the_identity_cut_into_bounded_lists(
    steps: list[tuple[int, int]], n: int, seconds: int, end: str
) -> None:
    """R17: concatenation equals the source; no list is empty, too long, or too late."""
    lane = Stepped(lambda scheduler: batch(n, float(seconds), scheduler))
    came: dict[int, float] = {}
    given_at: list[float] = []
    lane.stream.subscribe(lambda _: given_at.append(lane.scheduler.clock))

    for pause, count in steps:
        if pause:
            lane.scheduler.advance_by(pause)
        for value in lane.round(count):
            came[value] = lane.scheduler.clock
    for more in range(2):
        lane.scheduler.advance_by(seconds + 1 + more)
    lane.end(end)
    parts = lane.seen.values
    assert list(itertools.chain(*parts)) == list(range(lane.emitted))
    assert all(1 <= len(part) <= n for part in parts)
    assert len(given_at) == len(parts)
    for part, at in zip(parts, given_at, strict=True):
        assert at - came[part[0]] <= seconds + 0.001
        if len(part) < n:
            assert at - came[part[0]] >= seconds - 0.001, "a short list came before its time"


@given(rounds, bounds, ends)
def test_deliver_on_is_the_identity(counts: list[int], n: int, end: str) -> None:
    """R17: and its bound is never passed while the loop's thread emits itself."""
    post = Post()
    source: Subject[int] = Subject()
    seen = Recorder()
    source.pipe(deliver_on(post, n=n)).subscribe(seen)
    source.on_next(-1)
    post.run()  # from here on the loop's thread is known
    values = itertools.count()
    for count in counts:
        for value in itertools.islice(values, count):
            source.on_next(value)
        post.run()
    if end == "completed":
        source.on_completed()
    else:
        source.on_error(KeyError())
    post.run()
    assert seen.values == list(range(-1, sum(counts)))
    assert seen.completed + seen.errors == 1


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 3), st.integers(0, 60), bounds, st.sampled_from(["block", "drop_oldest", "drop_newest"]))
def test_under_several_threads_each_value_is_delivered_or_counted(
    emitters: int, count: int, n: int, on_full: Any
) -> None:
    """R12, R17: with real threads, on a thread of its own."""
    source: Subject[Any] = Subject()
    seen = Recorder()
    stream = source.pipe(buffer_bounded(n, on_full))
    stream.subscribe(seen)
    joined([feeding(source, [(base, value) for value in range(count)]) for base in range(emitters)])
    source.on_completed()
    got = seen.wait()
    assert len(got) + stream.dropped == emitters * count
    assert seen.overlaps == 0
    for base in range(emitters):
        mine = [value for where, value in got if where == base]
        assert mine == sorted(set(mine))
        if on_full == "block":
            assert mine == list(range(count))
    if on_full == "drop_oldest" and emitters == 1 and count:
        assert got[-1] == (0, count - 1)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 3), st.integers(0, 60), st.integers(1, 6))
def test_batch_under_several_threads_loses_nothing(emitters: int, count: int, n: int) -> None:
    """R12, R17."""
    source: Subject[Any] = Subject()
    seen = Recorder()
    source.pipe(batch(n, 0.001)).subscribe(seen)
    joined([feeding(source, [(base, value) for value in range(count)]) for base in range(emitters)])
    source.on_completed()
    flat = list(itertools.chain(*seen.wait()))
    assert len(flat) == emitters * count
    for base in range(emitters):
        assert [value for where, value in flat if where == base] == list(range(count))


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers()), st.integers(1, 5), st.booleans())
def test_iterate_is_the_identity(values: list[int], size: int, fails: bool) -> None:
    """R13, R17: then the end that the source had."""
    source = reactivex.from_(values)
    if fails:
        with iterate(source.pipe(_then_fail()), buffersize=size) as got:
            assert list(itertools.islice(got, len(values))) == values
            with pytest.raises(KeyError):
                next(got)
    else:
        assert list(iterate(source, buffersize=size)) == values


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers()), st.integers(1, 5), st.booleans())
def test_aiterate_is_the_identity(values: list[int], size: int, fails: bool) -> None:
    """R13, R17."""

    async def main() -> None:
        source = reactivex.from_(values)
        got = []
        if fails:
            with pytest.raises(KeyError):
                async for value in aiterate(source.pipe(_then_fail()), buffersize=size):
                    got.append(value)
        else:
            got = [value async for value in aiterate(source, buffersize=size)]
        assert got == values

    asyncio.run(main())


def _then_fail() -> Any:
    return lambda source: reactivex.concat(source, reactivex.throw(KeyError("end")))
