"""What result() gives or raises, and what the StatusEvent shows."""

from __future__ import annotations

import concurrent.futures
import contextlib
import gc
import weakref
from typing import Any

import pytest

from rxtasks.errors import PayloadError, ServiceStopped, TaskCancelled, TaskFailed
from rxtasks.lifecycle.errorinfo import TaskErrorInfo
from rxtasks.lifecycle.events import ValueRef
from rxtasks.lifecycle.signals import Cancelled
from rxtasks.lifecycle.status import TaskStatus
from rxtasks.wire.outcome import Outcome, RemoteTraceback, shown_value
from rxtasks.wire.payload import dump_exception, dump_value

OK, FAILED, CANCELLED = TaskStatus.SUCCEEDED, TaskStatus.FAILED, TaskStatus.CANCELLED


class Odd(Exception):
    pass


def test_a_value_in_place_is_the_result_and_what_the_event_shows() -> None:
    """E-08: exact JSON is both."""
    outcome = Outcome(OK, ["j", {"a": 1}])
    assert outcome.result() == outcome.event_value() == {"a": 1}
    assert outcome.exception() is None
    for value in (None, False, 0, ""):
        assert Outcome(OK, ["j", value]).result() is value
    assert Outcome(OK).result() is None


def test_a_pickled_value_is_opened_on_demand_and_once() -> None:
    """E-08: result() gives the same object at each call, as a Future does; the event shows a reference."""
    blob = dump_value({1: (2,)})
    outcome = Outcome(OK, ["p", len(blob), "dict", "{1: (2,)}"], blob)
    assert outcome.event_value() == ValueRef("dict", len(blob), "{1: (2,)}")
    first = outcome.result()
    assert first == {1: (2,)}
    assert outcome.result() is first


def test_an_object_of_this_process_is_handed_over_as_it_is() -> None:
    """R7: inline and thread hand objects over uncopied; the event shows the copy made when it was returned."""
    value = [1]
    outcome = Outcome(OK, ["o", value, "list", "", [1]])
    assert outcome.result() is value
    value.append(2)
    assert outcome.event_value() == [1]
    thing = object()
    assert Outcome(OK, ["o", thing, "object", "<object>"]).event_value() == ValueRef("object", 0, "<object>")
    assert shown_value(None) is None


def test_a_value_that_is_no_longer_held_or_cannot_be_opened_is_a_payload_error() -> None:
    """E-08: never a wrong value."""
    ref = ValueRef("dict", 9, "{}")
    for outcome in (Outcome(OK, ["p", 3, "x", "y"]), Outcome(OK, ["p", 3, "x", "y"], b"bad"), Outcome(OK, ["j", ref])):
        with pytest.raises(PayloadError):
            outcome.result()


def test_the_handlers_own_exception_is_raised_with_the_remote_traceback_as_cause() -> None:
    """E-13: rebuilt where the class is imported; the same object at each call."""
    error = Odd("x", 1)
    info = TaskErrorInfo(f"{__name__}.Odd", "x", traceback="Traceback: there")
    outcome = Outcome(FAILED, error=info, error_blob=dump_exception(error))
    with pytest.raises(Odd) as caught:
        outcome.result()
    assert caught.value.args == ("x", 1)
    cause = caught.value.__cause__
    assert isinstance(cause, RemoteTraceback)
    assert str(cause) == "Traceback: there"
    assert outcome.exception() is caught.value


def test_an_exception_that_cannot_be_rebuilt_is_task_failed() -> None:
    """E-13: TaskFailed shows what is known."""
    info = TaskErrorInfo("nowhere.Gone", "m", traceback="tb")
    for blob in (None, b"garbage"):
        with pytest.raises(TaskFailed, match=r"nowhere\.Gone: m") as caught:
            Outcome(FAILED, error=info, error_blob=blob).result()
        assert caught.value.error == info
        assert str(caught.value.__cause__) == "tb"


def test_an_exception_of_this_process_is_raised_itself_unless_it_is_no_exception() -> None:
    """R7: inline raises the very object; SystemExit of a handler never ends the caller."""
    error = Odd("x")
    with pytest.raises(Odd) as caught:
        Outcome(FAILED, error=TaskErrorInfo("Odd", "x"), error_object=error).result()
    assert caught.value is error
    with pytest.raises(ServiceStopped):
        Outcome(FAILED, error_object=ServiceStopped()).result()
    with pytest.raises(TaskFailed, match="SystemExit"):
        Outcome(FAILED, error=TaskErrorInfo("SystemExit", "3"), error_object=SystemExit(3)).result()


@pytest.mark.parametrize(
    ("outcome", "reason"),
    [
        (Outcome(CANCELLED), None),
        (Outcome(CANCELLED, error=TaskErrorInfo("rxtasks.errors.TaskCancelled", "cancelled")), None),
        (Outcome(CANCELLED, error=TaskErrorInfo("rxtasks.errors.TaskCancelled", "the task was cancelled")), None),
        (Outcome(CANCELLED, error=TaskErrorInfo("rxtasks.errors.TaskCancelled", "no need")), "no need"),
        (Outcome(CANCELLED, error=TaskErrorInfo("x", "the task was cancelled: no need")), "no need"),
        (Outcome(CANCELLED, error_object=TaskCancelled("no need")), "no need"),
        (Outcome(CANCELLED, error_object=Cancelled("no need")), "no need"),
        (Outcome(CANCELLED, error_object=Cancelled()), None),
    ],
)
def test_a_cancelled_task_raises_task_cancelled_with_the_reason(outcome: Outcome, reason: str | None) -> None:
    """W-09: also a concurrent.futures.CancelledError."""
    with pytest.raises(TaskCancelled) as caught:
        outcome.result()
    assert caught.value.reason == reason
    assert isinstance(caught.value, concurrent.futures.CancelledError)


class Big:
    pass


def test_raising_leaves_no_cycle_that_keeps_the_callers_variables() -> None:
    """R14: what the caller's frame held is freed without the garbage collector."""

    def caller() -> weakref.ref[Any]:
        big = Big()
        outcome = Outcome(FAILED, error_object=Odd("x"))
        with contextlib.suppress(Odd):
            outcome.result()
        del outcome
        return weakref.ref(big)

    gc.disable()
    try:
        assert caller()() is None
    finally:
        gc.enable()
