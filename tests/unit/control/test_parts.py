"""The parts of the control server: schemas, threads for calls, the log that streams read from, what waits for one."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from reactivex.subject import Subject

from rxtasks import StatusEvent, TaskService, TaskStatus
from rxtasks.clock import utc_from_us
from rxtasks.control import hub as hubs
from rxtasks.control import mailbox
from rxtasks.control.client import ServerSentEvent, _events
from rxtasks.control.hub import Hub, Overtaken
from rxtasks.control.lane import Lane, Occupied
from rxtasks.control.mailbox import Budget, Mailbox
from rxtasks.control.named import NAMED, OPTIONS
from rxtasks.control.schema import Invalid, check
from rxtasks.control.sse import frame

LONG = 30.0

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**12), 10**12)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*OPTIONS["properties"], "x"]), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(json_values)
def test_a_value_fits_its_schema_where_jsonschema_says_so(value: Any) -> None:
    """One schema checks and describes: both have to mean the same."""
    schema = {**OPTIONS, "components": {"schemas": NAMED}}
    valid = not list(jsonschema.Draft202012Validator(schema).iter_errors(value))
    if valid:
        try:
            check(OPTIONS, value, "", NAMED)
        except Invalid as error:
            assert "time with its zone" in str(error)  # jsonschema looks at no format
    else:
        with pytest.raises(Invalid):
            check(OPTIONS, value, "", NAMED)


@given(
    st.fixed_dictionaries(
        {},
        optional={
            name: st.one_of(json_values, st.integers(-3, 3), st.sampled_from(["fixed", "run", "kill", "thread", "a"]))
            for name in OPTIONS["properties"]
            if name != "run_at"
        },
    )
)
def test_options_fit_where_jsonschema_says_so(value: Any) -> None:
    schema = {**OPTIONS, "components": {"schemas": NAMED}}
    if list(jsonschema.Draft202012Validator(schema).iter_errors(value)):
        with pytest.raises(Invalid):
            check(OPTIONS, value, "", NAMED)
    else:
        check(OPTIONS, value, "", NAMED)


def test_a_lane_takes_no_more_calls_than_may_wait() -> None:
    async def scene() -> None:
        lane, gate = Lane("test-lane", 2, 1), threading.Event()
        waiting = [asyncio.ensure_future(lane.run(lambda: gate.wait(LONG))) for _ in range(3)]
        await asyncio.sleep(0)
        with pytest.raises(Occupied):
            await lane.run(lambda: None)
        gate.set()
        assert [True, True, True] == await asyncio.gather(*waiting)
        with pytest.raises(ZeroDivisionError):
            await lane.run(lambda: 1 // 0)
        with pytest.raises(RuntimeError, match="StopIteration"):
            await lane.run(lambda: next(iter(())))
        assert "done" == await lane.run(lambda: "done")
        lane.close()

    asyncio.run(scene())
    for thread in threading.enumerate():
        if thread.name.startswith("test-lane"):
            thread.join(LONG)
            assert not thread.is_alive()


def test_a_mailbox_takes_what_fits_and_then_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mailbox, "_MOST", 1000)

    async def scene() -> None:
        box: Mailbox[int] = Mailbox(lambda value: (value, 50), Budget())
        stream: Subject[int] = Subject()
        box.follow(stream)
        for number in range(10):
            stream.on_next(number)
        assert box.overflowed
        assert not stream.observers  # it has let go of the stream at once
        assert [0, 1, 2, 3] == await box.take(LONG)
        assert [] == await box.take(LONG)
        assert [] == await box.take(LONG)

    asyncio.run(scene())


def test_what_all_mailboxes_hold_is_bounded_and_each_has_some(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mailbox, "_LEAST", 1000)
    monkeypatch.setattr(mailbox, "_MOST", 100_000)
    monkeypatch.setattr(mailbox, "_ALL", 5000)

    async def scene() -> None:
        budget = Budget()
        greedy: Mailbox[int] = Mailbox(lambda value: (value, 50), budget)
        modest: Mailbox[int] = Mailbox(lambda value: (value, 50), budget)
        one: Subject[int] = Subject()
        other: Subject[int] = Subject()
        greedy.follow(one)
        modest.follow(other)
        for number in range(1000):
            one.on_next(number)
        for number in range(3):
            other.on_next(number)
        assert greedy.overflowed
        assert 21 == len(await greedy.take(LONG) or ())
        assert not modest.overflowed
        modest.close()
        greedy.close()
        assert 0 == budget._used

    asyncio.run(scene())


def test_a_mailbox_tells_of_silence_and_of_the_end() -> None:
    async def scene() -> None:
        box: Mailbox[int] = Mailbox(lambda value: (value, 1), Budget())
        stream: Subject[int] = Subject()
        box.follow(stream)
        assert await box.take(0.01) is None
        threading.Thread(target=lambda: (stream.on_next(1), stream.on_error(ValueError("over")))).start()
        found: list[int] = []
        while (taken := await box.take(LONG)) != []:
            found += taken or ()
        assert [1] == found
        assert "over" == str(box.error)
        assert not box.overflowed

    asyncio.run(scene())


def test_a_mailbox_that_was_closed_before_it_followed_lets_go() -> None:
    async def scene() -> None:
        box: Mailbox[int] = Mailbox(lambda value: (value, 1), Budget())
        box.close()
        stream: Subject[int] = Subject()
        box.follow(stream)
        assert not stream.observers

    asyncio.run(scene())


def event(number: int) -> StatusEvent:
    return StatusEvent("task", number, 1, None, utc_from_us(number), TaskStatus.RUNNING)


def test_a_reader_that_is_overtaken_is_told_and_another_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory is bounded by the log, not by its readers."""
    monkeypatch.setattr(hubs, "EVENTS", 10)
    monkeypatch.setattr(hubs, "_DEAD", 7)

    async def scene() -> None:
        service = TaskService(1, isolation="thread", echo=None)
        hub = Hub(service)
        slow, misses = hub.enter(None)
        quick, _ = hub.enter(None)
        assert not misses
        seen = 0
        last = ""
        for number in range(1, 31):
            hub._take(event(number))
            taken = await quick.take(LONG)
            assert taken is not None
            seen += len(taken)
            last = taken[-1][1].split(b"\n")[0].decode().removeprefix("id: ")
        assert 30 == seen
        with pytest.raises(Overtaken):
            await slow.take(LONG)
        epoch, _, number_of = last.partition("-")
        for behind, kept in ((30, 0), (25, 5), (20, 10), (19, None), (31, None), (10**20, None)):
            reader, misses = hub.enter(f"{epoch}-{behind}")
            assert misses is (kept is None)
            found = await reader.take(0.001)
            assert (kept or 0) == len(found or ())
        assert "30" == number_of
        hub.close()
        service.stop()

    asyncio.run(scene())


def test_the_log_of_events_is_bounded_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hubs, "BYTES", 5000)
    monkeypatch.setattr(hubs, "_DEAD", 100)

    async def scene() -> None:
        service = TaskService(1, isolation="thread", echo=None)
        hub = Hub(service)
        hub.enter(None)
        for number in range(1, 1001):
            hub._take(event(number))
        assert hub._size <= 5000
        assert hub._size == sum(len(made) for _, made in hub._log)
        assert len(hub._log) <= 120  # of what is no longer kept not even the places are
        hub.close()
        service.stop()

    asyncio.run(scene())


class Lines:
    """An answer of these bytes."""

    chunked = False

    def __init__(self, data: bytes) -> None:
        self._lines = data.splitlines(keepends=True)

    def readline(self, limit: int) -> bytes:
        return self._lines.pop(0) if self._lines else b""


@given(
    st.lists(st.tuples(st.none() | st.integers(1, 10**9), st.sampled_from(["status", "log"]), json_values), max_size=6)
)
def test_what_is_framed_is_read_again(events: list[tuple[int | None, str, Any]]) -> None:
    from rxtasks.control.shown import as_json

    data = b": comment\n\nretry: 5\n\n" + b"".join(
        frame(kind, as_json(value), number) for number, kind, value in events
    )
    answer: Any = Lines(data)
    found: list[ServerSentEvent] = list(_events(answer))
    assert [(None if number is None else str(number), kind, value) for number, kind, value in events] == [
        (read.id, read.event, read.data) for read in found
    ]
