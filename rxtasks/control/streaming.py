"""The streams of events: of one task, from any seq on; of all tasks; of log lines.

A task's stream goes at its client's own pace: what it is too slow for is dropped here, and read again from the task's log (the
store's, or the tracker's) when it comes to that. So it misses nothing that is still held, and nobody waits for it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Final

from rxtasks.control.desk import Desk
from rxtasks.control.filters import log_filter
from rxtasks.control.hub import Overtaken, Reader
from rxtasks.control.mailbox import Mailbox
from rxtasks.control.shown import as_json
from rxtasks.control.sse import BEAT, OPENING, SILENCE, frame, notice
from rxtasks.control.words import Call, Refused, Reply, Stream
from rxtasks.errors import LogTruncated
from rxtasks.lifecycle.events import StatusEvent, TaskEvent
from rxtasks.lifecycle.task import TaskRecord
from rxtasks.observe.tracker import TaskTracker
from rxtasks.service import TaskService

__all__ = ["follow_all", "follow_logs", "follow_task"]

_STOPS: Final = "the control server stops"

#: seq, whether it is the task's last, and the event as it is sent.
_Packed = tuple[int, bool, bytes]


async def follow_task(desk: Desk, call: Call) -> Stream | Reply:
    """Open the stream of one task's events; 204 where there is nothing left to tell.

    Raises:
        UnknownTask: there is no such task.
        LogTruncated: the events asked for are no longer held.
    """
    desk.streams.check_room()
    last = call.given.get("last-event-id")
    first = call.given.get("from_seq", 1) if last is None else last + 1
    record, tracker = await desk.work.run(lambda: _found(desk.service, call.given["id"]))
    desk.kept.add(tracker)
    tracker.resumed(first)
    end = tracker.last_status
    if end is None or not end.status.terminal:
        return _task_stream(desk, tracker, first)
    # In memory only its record is left of a task that ended long ago: that makes one event.
    forgotten = end.seq == 1 and record.started_at is not None
    if forgotten and first > 1:
        raise Refused(
            410,
            LogTruncated.code or "",
            "the task has ended, and the events asked for are no longer held",
            f"GET /v1/tasks/{record.task_id} says how it ended",
        )
    if first > end.seq:
        return Reply(None, 204)
    return _task_stream(desk, tracker, first, forgotten=forgotten)


def _task_stream(desk: Desk, tracker: TaskTracker, first: int, *, forgotten: bool = False) -> Stream:
    # Nothing is missed by beginning when the first frame is asked for: the log has what came before.
    return Stream(_task_frames(desk, tracker, first, forgotten), lambda: None)


def _found(service: TaskService, task_id: str) -> tuple[TaskRecord, TaskTracker]:
    # Of a schedule: the occurrence that runs, or is due next.
    record = service.get(task_id)
    return record, service.track(record.task_id)


async def _task_frames(desk: Desk, tracker: TaskTracker, first: int, forgotten: bool) -> AsyncIterator[bytes]:
    yield OPENING
    if forgotten:
        yield notice("truncated", "the task ended, and of its events only how it ended is still known")
    while True:
        box: Mailbox[_Packed] = Mailbox(_pack, desk.budget)
        with desk.streams.entered(box.close):
            try:
                await desk.work.run(lambda box=box, first=first: box.follow(tracker.resumed(first)))  # type: ignore[misc]
                while (taken := await box.take(SILENCE)) != []:
                    if taken is None:
                        yield BEAT
                        continue
                    parts = []
                    for seq, ends, made in taken:
                        first = seq + 1
                        parts.append(made)
                        if ends:
                            yield b"".join(parts)
                            return
                    yield b"".join(parts)
            except LogTruncated as error:
                box.error = error
            finally:
                box.close()
        if box.overflowed and not desk.streams.ending:
            continue  # from the log, at the client's own pace
        if isinstance(box.error, LogTruncated):
            what = f"events before seq {box.error.first_seq} are no longer held"
            yield notice("truncated", what, first_seq=box.error.first_seq, next_seq=first)
        elif desk.streams.ending:
            yield notice("closed", _STOPS, next_seq=first)
        else:
            yield notice("closed", "processing was stopped before the task ended", next_seq=first)
        return


def _pack(event: TaskEvent) -> tuple[_Packed, int]:
    try:
        data = event.to_json()
    except TypeError:
        data = as_json({"task_id": event.task_id, "seq": event.seq, "kind": event.kind})
    made = frame(event.kind, data, event.seq)
    return (event.seq, isinstance(event, StatusEvent) and event.status.terminal, made), len(made)


async def follow_all(desk: Desk, call: Call) -> Stream:
    """Open the stream of all tasks' events from now on, or behind the event whose id the client had last."""
    desk.streams.check_room()
    kinds = call.given.get("kind")
    cursor = call.given.get("last-event-id") or None
    reader, misses = desk.hub.enter(cursor)
    wanted = None if kinds is None else {*kinds.split(","), "stopped"}
    return Stream(_all_frames(desk, reader, wanted, misses), lambda: desk.hub.leave(reader))


async def _all_frames(desk: Desk, reader: Reader, kinds: set[str] | None, misses: bool) -> AsyncIterator[bytes]:
    try:
        with desk.streams.entered(reader.close):
            yield OPENING
            if misses:
                yield notice(
                    "gap",
                    "events since the id that was given are no longer kept, or it is none of this stream's: some were missed;"
                    " GET /v1/tasks and /v1/tasks/{id}/events have what is stored",
                )
            while (taken := await reader.take(SILENCE)) != []:
                parts = (
                    BEAT if taken is None else b"".join([made for kind, made in taken if not kinds or kind in kinds])
                )
                if parts:
                    yield parts
            yield notice("closed", _STOPS)
    except Overtaken:
        yield notice("overflow", "this client is slower than the events: some were missed; ask for fewer kinds")


async def follow_logs(desk: Desk, call: Call) -> Stream:
    """Open the stream of log lines to come."""
    desk.streams.check_room()
    wanted = log_filter(call.given)
    box: Mailbox[bytes] = Mailbox(_pack_line, desk.budget)
    try:
        await desk.work.run(lambda: box.follow(desk.host.follow_logs(wanted)))
    except BaseException:
        box.close()
        raise
    return Stream(_log_frames(desk, box), box.close)


async def _log_frames(desk: Desk, box: Mailbox[bytes]) -> AsyncIterator[bytes]:
    yield OPENING
    with desk.streams.entered(box.close):
        while (taken := await box.take(SILENCE)) != []:
            yield BEAT if taken is None else b"".join(taken)
    if box.overflowed:
        yield notice("overflow", "this client is slower than the lines: some were missed; GET /v1/logs has them")
    else:
        yield notice("closed", _STOPS if desk.streams.ending else "there are no more lines")


def _pack_line(line: Any) -> tuple[bytes, int]:
    data = line.to_json()
    made = frame("line", data.encode() if isinstance(data, str) else data)
    return made, len(made)
