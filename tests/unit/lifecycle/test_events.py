"""Events as JSON and back."""

from __future__ import annotations

from datetime import UTC

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rxtasks.errors import ProtocolError
from rxtasks.lifecycle.errorinfo import TaskErrorInfo
from rxtasks.lifecycle.events import LogEvent, OutputEvent, ProgressEvent, StatusEvent, TaskEvent, ValueRef
from rxtasks.lifecycle.status import TaskStatus
from rxtasks.testing.strategies import error_dicts, json_objects, json_values, numbers, texts

common = {
    "task_id": texts(),
    "seq": st.integers(1, 2**63 - 1),
    "attempt": st.integers(1, 2**31),
    "worker_id": st.none() | texts(),
    "time": st.datetimes(timezones=st.just(UTC)),
}
values = json_values() | st.builds(ValueRef, texts(), st.integers(0, 2**62), texts())
errors = error_dicts().map(TaskErrorInfo.from_dict)
events = (
    st.builds(StatusEvent, **common, status=st.sampled_from(TaskStatus), result=values, error=st.none() | errors)
    | st.builds(LogEvent, **common, level=texts(), message=texts(), stream=texts(), fields=json_objects())
    | st.builds(
        ProgressEvent,
        **common,
        current=numbers(),
        total=st.none() | numbers(),
        message=st.none() | texts(),
        data=json_objects(),
    )
    | st.builds(OutputEvent, **common, value=values)
)


@given(events)
def test_an_event_comes_back_equal(event: TaskEvent) -> None:
    """E-03 R25: from_json(to_json(e)) == e, of the same class, for text and bytes alike."""
    data = event.to_json()
    for form in (data, data.decode()):
        back = TaskEvent.from_json(form)
        assert type(event) is type(back)
        assert event == back
    assert b"\n" not in data


@given(events, json_objects())
def test_unknown_keys_are_ignored(event: TaskEvent, more: dict[str, object]) -> None:
    """E-03: a later version may add some."""
    body = orjson.loads(event.to_json())
    body.update({f"new_{key}": value for key, value in more.items()})
    assert event == TaskEvent.from_json(orjson.dumps(body))


@given(st.binary(max_size=40) | json_values().map(orjson.dumps))
def test_what_is_no_event_is_a_protocol_error(data: bytes) -> None:
    """E-03 R21: and nothing else."""
    with pytest.raises(ProtocolError):
        TaskEvent.from_json(data)


@pytest.mark.parametrize(
    ("change", "said"),
    [({"v": 2}, "upgrade"), ({"kind": "smell"}, "smell"), ({"status": "odd"}, "odd"), ({"time": "noon"}, "noon")],
)
def test_the_error_says_what_is_wrong(change: dict[str, object], said: str) -> None:
    """E-03: version, kind and values are named."""
    body = {"v": 1, "kind": "status", "task_id": "t", "seq": 1, "attempt": 1, "worker_id": None}
    body |= {"time": "2026-01-01T00:00:00+00:00", "status": "running"}
    assert isinstance(TaskEvent.from_json(orjson.dumps(body)), StatusEvent)
    with pytest.raises(ProtocolError, match=said):
        TaskEvent.from_json(orjson.dumps(body | change))


@given(current=st.floats(-1e9, 1e9), total=st.none() | st.floats(-1e9, 1e9))
def test_a_fraction_lies_between_0_and_1(current: float, total: float | None) -> None:
    """E-03: or is None without a positive total."""
    from datetime import datetime

    fraction = ProgressEvent("t", 1, 1, None, datetime.now(UTC), current, total).fraction
    if total is None or total <= 0:
        assert fraction is None
    else:
        assert fraction is not None and 0 <= fraction <= 1
