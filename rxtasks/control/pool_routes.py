"""Operations on the pool, its workers and the process that runs it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any, Final

from rxtasks.control.desk import Desk
from rxtasks.control.named import ref, value
from rxtasks.control.shown import show_status, show_worker
from rxtasks.control.words import Call, Operation, Parameter, Refused, Reply
from rxtasks.errors import RxTasksError
from rxtasks.pool.info import PoolStatus

__all__ = ["POOL"]

#: Seconds that an answer waits for the core to have done what was asked, and between two looks.
_MOMENT: Final = 0.5
_LOOK: Final = 0.002
_FORCE: Final = {"type": "boolean", "description": "Running tasks are not waited for."}
_WORKER: Final = Parameter(
    "id", "path", {"type": "string", "minLength": 1, "maxLength": 200}, "The worker's id.", required=True
)
_GONE: Final = {404: "There is no such worker."}


def _health(desk: Desk, call: Call) -> Reply:
    found = desk.service.health()
    return Reply(found, 200 if found["ok"] else 503)


def _metrics(desk: Desk, call: Call) -> Reply:
    text = desk.host.metrics_text()
    if text is None:
        raise Refused(
            404,
            "NO_METRICS",
            "prometheus-client is not installed where the pool runs",
            "pip install 'rxtasks[metrics]' there, and start the pool again",
        )
    return Reply(text, media_type="text/plain; version=0.0.4; charset=utf-8")


def _status(desk: Desk, call: Call) -> Reply:
    from rxtasks import __version__

    host, service = desk.host, desk.service
    pool = service.status()
    return Reply(
        {
            "pid": os.getpid(),
            "mode": host.mode,
            "store": host.store,
            "version": __version__,
            "started_at": host.started_at,
            "processing": pool.running,
            "stopping": host.stopping,
            "pool": show_status(pool),
            "workers": [show_worker(info) for info in service.workers()],
        }
    )


def _start(desk: Desk, call: Call) -> Reply:
    desk.host.start_processing()
    return _pool(desk)


def _stop(desk: Desk, call: Call) -> Reply:
    desk.host.stop_processing(bool(call.body.get("force", False)))
    desk.kept.clear()  # they are of an engine that is no more
    return _pool(desk)


def _pause(desk: Desk, call: Call) -> Reply:
    desk.service.pause()
    return _when(desk, lambda status: status.paused is not None)


def _resume(desk: Desk, call: Call) -> Reply:
    desk.service.resume()
    # Where it is still not so, the machine is short of something, and the answer says what.
    return _when(desk, lambda status: status.paused is None)


def _when(desk: Desk, there: Callable[[PoolStatus], bool]) -> Reply:
    """Answer when the core has done it: that comes in a moment, and nothing tells of it."""
    until = time.monotonic() + _MOMENT
    while (status := desk.service.status()).running and not there(status) and time.monotonic() < until:
        time.sleep(_LOOK)
    return Reply({"pool": show_status(status)})


def _pool(desk: Desk) -> Reply:
    return Reply({"pool": show_status(desk.service.status())})


def _shutdown(desk: Desk, call: Call) -> Reply:
    desk.host.shutdown(bool(call.body.get("force", False)), call.body.get("timeout"))
    return Reply({"stopping": True}, 202)


def _scale(desk: Desk, call: Call) -> Reply:
    return Reply({"count": desk.service.scale(int(call.body["count"]))})


def _workers(desk: Desk, call: Call) -> Reply:
    return Reply({"workers": [show_worker(info) for info in desk.service.workers()]})


def _worker(desk: Desk, call: Call) -> Reply:
    for info in desk.service.workers():
        if info.worker_id == call.given["id"]:
            return Reply(show_worker(info))
    raise _unknown(desk, call)


def _unknown(desk: Desk, call: Call) -> Refused:
    known = ", ".join(info.worker_id for info in desk.service.workers()[:20]) or "none"
    return Refused(404, "UNKNOWN_WORKER", f"no worker {call.given['id']!r} in this pool", f"its workers: {known}")


def _restart(desk: Desk, call: Call) -> Reply:
    try:
        return Reply({"replaced_by": desk.service.pool.restart(call.given["id"])})
    except RxTasksError as error:
        raise _refusal(desk, call, error) from error


def _kill(desk: Desk, call: Call) -> Reply:
    try:
        return Reply({"killed": desk.service.pool.kill(call.given["id"])})
    except RxTasksError as error:
        raise _refusal(desk, call, error) from error


def _refusal(desk: Desk, call: Call, error: RxTasksError) -> Refused | RxTasksError:
    if type(error) is not RxTasksError:
        return error
    if any(info.worker_id == call.given["id"] for info in desk.service.workers()):
        return Refused(409, "WRONG_STATE", str(error))
    return _unknown(desk, call)


_POOL_ANSWER: Final[dict[int, Any]] = {200: value("pool", ref("PoolStatus"))}

POOL: Final = (
    Operation(
        "GET",
        "/health",
        "health",
        "Whether the pool runs and its store can keep tasks; 503 where not.",
        _health,
        answers={200: ref("Health"), 503: {"type": "object"}},
        lane="health",
    ),
    Operation(
        "GET",
        "/metrics",
        "metrics",
        "The metrics in Prometheus' text format.",
        _metrics,
        answers={200: None},
        media_type="text/plain",
        lane="work",
        refusals={404: "The library of the metrics is not installed."},
    ),
    Operation(
        "GET",
        "/v1/status",
        "status",
        "The process, the pool and its workers.",
        _status,
        answers={200: ref("Status")},
    ),
    Operation(
        "POST",
        "/v1/processing/start",
        "start_processing",
        "Start the workers, and wait until they are ready.",
        _start,
        answers=_POOL_ANSWER,
        lane="work",
    ),
    Operation(
        "POST",
        "/v1/processing/stop",
        "stop_processing",
        "Stop the workers, and wait until they have; the process goes on.",
        _stop,
        body={"type": "object", "additionalProperties": False, "properties": {"force": _FORCE}},
        answers=_POOL_ANSWER,
        lane="work",
    ),
    Operation(
        "POST",
        "/v1/processing/pause",
        "pause_processing",
        "Begin no new attempts; those that run go on.",
        _pause,
        answers=_POOL_ANSWER,
        lane="work",
    ),
    Operation(
        "POST",
        "/v1/processing/resume",
        "resume_processing",
        "Begin attempts again.",
        _resume,
        answers=_POOL_ANSWER,
        lane="work",
    ),
    Operation(
        "POST",
        "/v1/shutdown",
        "shutdown",
        "Begin to end the process of the pool.",
        _shutdown,
        body={
            "type": "object",
            "additionalProperties": False,
            "properties": {
                "force": _FORCE,
                "timeout": {
                    "type": ["number", "null"],
                    "minimum": 0,
                    "maximum": 1e6,
                    "description": "Seconds for running tasks; null: as it is set.",
                },
            },
        },
        answers={202: value("stopping", {"type": "boolean"})},
    ),
    Operation(
        "POST",
        "/v1/scale",
        "scale",
        "Want so many workers; answers how many there will be.",
        _scale,
        body={
            "type": "object",
            "additionalProperties": False,
            "properties": {"count": {"type": "integer", "minimum": 0, "maximum": 1000}},
            "required": ["count"],
        },
        body_required=True,
        answers={200: value("count", {"type": "integer"})},
    ),
    Operation(
        "GET",
        "/v1/workers",
        "list_workers",
        "Every worker.",
        _workers,
        answers={200: value("workers", {"type": "array", "items": ref("Worker")})},
    ),
    Operation(
        "GET",
        "/v1/workers/{id}",
        "get_worker",
        "One worker.",
        _worker,
        parameters=(_WORKER,),
        answers={200: ref("Worker")},
        refusals=_GONE,
    ),
    Operation(
        "POST",
        "/v1/workers/{id}/restart",
        "restart_worker",
        "Put another worker in the place of this one; it ends what it runs.",
        _restart,
        parameters=(_WORKER,),
        answers={200: value("replaced_by", {"type": ["string", "null"]})},
        refusals={**_GONE, 409: "It cannot be restarted now."},
    ),
    Operation(
        "POST",
        "/v1/workers/{id}/kill",
        "kill_worker",
        "End the worker now; what it runs is interrupted and runs again.",
        _kill,
        parameters=(_WORKER,),
        answers={200: value("killed", {"type": "boolean"})},
        refusals={**_GONE, 409: "It is a thread that runs a task."},
        lane="work",
    ),
)
