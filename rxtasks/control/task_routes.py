"""Operations on tasks."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from rxtasks.control.desk import Desk
from rxtasks.control.named import TASK_ID, ref, value
from rxtasks.control.shown import show_record, show_transition
from rxtasks.control.streaming import follow_all, follow_task
from rxtasks.control.words import Call, Operation, Parameter, Refused, Reply
from rxtasks.errors import SettingsError, UnknownTask
from rxtasks.lifecycle.options import ResourceLimits
from rxtasks.lifecycle.retry import RetryPolicy
from rxtasks.lifecycle.status import TaskStatus
from rxtasks.lifecycle.task import TaskRequest, new_id

__all__ = ["TASKS"]

_TEXT: Final = {"type": "string", "minLength": 1, "maxLength": 1000}
#: Of a task that there is: one that was pushed in Python may have any.
_ANY_ID: Final = {"type": "string", "minLength": 1, "maxLength": 500}
_ID: Final = Parameter("id", "path", _ANY_ID, "The task's id; a slash in it is sent as %2F.", required=True)
_LIMIT: Final = {"type": "integer", "minimum": 1, "maximum": 1000}
_GONE: Final = {404: "There is no such task."}
_REASON: Final = {
    "type": "object",
    "additionalProperties": False,
    "properties": {"reason": {"type": ["string", "null"], "maxLength": 1000, "description": "For the task's history."}},
}
_LAST: Final = "The id of the last event that was had; goes before from_seq."


def _list(desk: Desk, call: Call) -> Reply:
    given = dict(call.given)
    limit = given.pop("limit", 100)
    found = desk.service.list(**given, limit=limit)
    following = found[-1].task_id if len(found) == limit else None
    return Reply({"tasks": [show_record(record, whole=False) for record in found], "next": following})


def _push(desk: Desk, call: Call) -> Reply:
    body: Mapping[str, Any] = call.body
    changes = _options(body.get("options") or {})
    task_id = body.get("task_id")
    again = task_id is not None and _known(desk, task_id)
    request = TaskRequest(
        body["task"], tuple(body.get("args", ())), body.get("kwargs", {}), task_id=task_id or new_id()
    )
    tracker = desk.service.with_options(**changes).push(request)
    desk.kept.add(tracker)
    return Reply(show_record(desk.service.get(tracker.task_id)), 200 if again else 201)


def _known(desk: Desk, task_id: str) -> bool:
    try:
        desk.service.get(task_id)
    except UnknownTask:
        return False
    return True


#: Options that are whole numbers: JSON has 3.0 for one too.
_WHOLE: Final = frozenset({"priority", "max_crashes", "max_running", "max_attempts", "memory_bytes", "disk_bytes"})


def _options(given: Mapping[str, Any]) -> dict[str, Any]:
    changes = _whole(given)
    if changes.get("run_at") is not None:
        changes["run_at"] = datetime.fromisoformat(changes["run_at"])
    if changes.get("retry") is not None:
        changes["retry"] = RetryPolicy(**_whole(changes["retry"]))
    if changes.get("limits") is not None:
        changes["limits"] = ResourceLimits(**_whole(changes["limits"]))
    return changes


def _whole(given: Mapping[str, Any]) -> dict[str, Any]:
    return {name: int(item) if name in _WHOLE and item is not None else item for name, item in given.items()}


def _get(desk: Desk, call: Call) -> Reply:
    return Reply(show_record(desk.service.get(call.given["id"])))


def _delete(desk: Desk, call: Call) -> Reply:
    try:
        desk.service.delete(call.given["id"])
    except SettingsError as error:
        raise Refused(409, "WRONG_STATE", str(error)) from error
    desk.kept.drop(call.given["id"])
    return Reply({"deleted": call.given["id"]})


def _cancel(desk: Desk, call: Call) -> Reply:
    task_id = call.given["id"]
    if not desk.service.cancel(task_id, call.body.get("reason"), actor="operator"):
        status = desk.service.get(task_id).status
        raise Refused(409, "WRONG_STATE", f"task {task_id} has ended already, as {status}")
    return Reply(show_record(desk.service.get(task_id)), 202)


def _retry(desk: Desk, call: Call) -> Reply:
    try:
        made = desk.service.retry(call.given["id"], reason=call.body.get("reason"))
    except SettingsError as error:
        raise Refused(409, "WRONG_STATE", str(error)) from error
    desk.kept.add(made)
    return Reply(show_record(desk.service.get(made.task_id)), 201)


def _history(desk: Desk, call: Call) -> Reply:
    return Reply({"history": [show_transition(step) for step in desk.service.history(call.given["id"])]})


def _stack(desk: Desk, call: Call) -> Reply:
    try:
        return Reply({"stack": desk.service.stack(call.given["id"])})
    except SettingsError as error:
        raise Refused(409, "WRONG_STATE", str(error)) from error


def _explain(desk: Desk, call: Call) -> Reply:
    return Reply({"explain": desk.service.explain(call.given.get("id"))})


_SENTENCES: Final = value("explain", {"type": "array", "items": {"type": "string"}})
_SEQ: Final = {"type": "integer", "minimum": 0, "maximum": 2**53}

TASKS: Final = (
    Operation(
        "GET",
        "/v1/tasks",
        "list_tasks",
        "Tasks in the order of arrival, a page at a time: `next` is the `after` of the following one, null = there is none.",
        _list,
        parameters=(
            Parameter(
                "status", "query", {"type": "string", "enum": [str(one) for one in TaskStatus]}, "In this status."
            ),
            Parameter("name", "query", _TEXT, "Of this name."),
            Parameter("tag", "query", _TEXT, "With this tag."),
            Parameter("worker", "query", _TEXT, "Of this worker."),
            Parameter(
                "older_than", "query", {"type": "number", "minimum": 0, "maximum": 1e9}, "Created so many seconds ago."
            ),
            Parameter("limit", "query", _LIMIT, "Tasks at most; 100."),
            Parameter("after", "query", _ANY_ID, "From behind this task."),
        ),
        answers={
            200: {
                "type": "object",
                "properties": {
                    "tasks": {"type": "array", "items": ref("TaskSummary")},
                    "next": {"type": ["string", "null"]},
                },
                "required": ["tasks", "next"],
            }
        },
        lane="work",
        refusals={404: "The task `after` is not known."},
    ),
    Operation(
        "POST",
        "/v1/tasks",
        "push_task",
        "Queue a task, by the name of a registered handler. An id that is known already answers 200 with the task that has it.",
        _push,
        body={
            "type": "object",
            "additionalProperties": False,
            "properties": {
                "task": {**_TEXT, "description": "The handler's name; nothing is imported for it."},
                "args": {"type": "array", "x-secret": True},
                "kwargs": {"type": "object", "x-secret": True},
                "options": ref("TaskOptions"),
                "task_id": TASK_ID,
            },
            "required": ["task"],
        },
        body_required=True,
        answers={200: ref("Task"), 201: ref("Task")},
        lane="work",
        refusals={429: "As many tasks wait as may (max_queue); see Retry-After."},
    ),
    Operation(
        "GET",
        "/v1/tasks/{id}",
        "get_task",
        "One task.",
        _get,
        parameters=(_ID,),
        answers={200: ref("Task")},
        lane="work",
        refusals=_GONE,
    ),
    Operation(
        "DELETE",
        "/v1/tasks/{id}",
        "delete_task",
        "Forget a task that has ended.",
        _delete,
        parameters=(_ID,),
        answers={200: value("deleted", {"type": "string"})},
        lane="work",
        refusals={**_GONE, 409: "It has not ended."},
    ),
    Operation(
        "POST",
        "/v1/tasks/{id}/cancel",
        "cancel_task",
        "Ask for a task to be cancelled; it ends when its attempt has.",
        _cancel,
        parameters=(_ID,),
        body=_REASON,
        answers={202: ref("Task")},
        lane="work",
        refusals={**_GONE, 409: "It has ended already."},
    ),
    Operation(
        "POST",
        "/v1/tasks/{id}/retry",
        "retry_task",
        "Queue a task that has ended anew, as a task of its own.",
        _retry,
        parameters=(_ID,),
        body=_REASON,
        answers={201: ref("Task")},
        lane="work",
        refusals={
            **_GONE,
            409: "It has not ended, or its arguments are no longer held.",
            429: "As many tasks wait as may (max_queue).",
        },
    ),
    Operation(
        "GET",
        "/v1/tasks/{id}/history",
        "get_history",
        "How the task came to where it is.",
        _history,
        parameters=(_ID,),
        answers={200: value("history", {"type": "array", "items": ref("Transition")})},
        lane="work",
        refusals=_GONE,
    ),
    Operation(
        "GET",
        "/v1/tasks/{id}/stack",
        "get_stack",
        "Where the handler of a running task stands.",
        _stack,
        parameters=(_ID,),
        answers={200: value("stack", {"type": "string"})},
        lane="work",
        refusals={**_GONE, 409: "It does not run."},
    ),
    Operation(
        "GET",
        "/v1/tasks/{id}/explain",
        "explain_task",
        "What the task waits for.",
        _explain,
        parameters=(_ID,),
        answers={200: _SENTENCES},
        lane="work",
        refusals=_GONE,
    ),
    Operation(
        "GET", "/v1/explain", "explain", "What everything waits for.", _explain, answers={200: _SENTENCES}, lane="work"
    ),
    Operation(
        "GET",
        "/v1/tasks/{id}/events",
        "follow_task",
        "The task's events as server-sent events, id = seq, to its end; those that are held first. 204: there are no more.",
        follow=follow_task,
        parameters=(
            _ID,
            Parameter("from_seq", "query", {**_SEQ, "minimum": 1}, "The first seq that is wanted; 1."),
            Parameter("last-event-id", "header", _SEQ, _LAST),
        ),
        answers={200: None, 204: None},
        media_type="text/event-stream",
        refusals={**_GONE, 410: "The events from that seq on are no longer held."},
    ),
    Operation(
        "GET",
        "/v1/events",
        "follow_events",
        "All tasks' events from now on as server-sent events. A client that comes again goes on behind its last id; `gap` tells"
        " that some could not be given, `overflow` that it was too slow, and ends.",
        follow=follow_all,
        parameters=(
            Parameter(
                "kind",
                "query",
                {
                    "type": "string",
                    "pattern": "^(status|log|progress|output)(,(status|log|progress|output)){0,3}$",
                    "x-in-words": "is one or more of status, log, progress and output, with commas",
                },
                "Events of these kinds only, as `status,progress`.",
            ),
            Parameter(
                "last-event-id",
                "header",
                {"type": "string", "maxLength": 100},
                "The id of the last event that was had.",
            ),
        ),
        answers={200: None},
        media_type="text/event-stream",
    ),
)
