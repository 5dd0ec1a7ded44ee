"""Every buffer of the stream's way and its bound, in one table (R6).

A bound is a constant where the buffer lives, or a setting; a test holds the table against them. What has no bound in
bytes of its own is bounded by the size of what it holds: a log line has at most 64 KiB, progress data 4 KiB.

| buffer | bound |
|---|---|
| handler -> outbox: logs and outputs of a task not acknowledged yet | `credit` units, one an event or each KiB |
| outbox: progress of a task | one row, the latest |
| outbox -> socket: rows of one frame | FLUSH_ROWS, about FLUSH_KIB KiB |
| the worker's own log lines | WORKER_LINES, then dropped and counted |
| core -> a worker: assignments that it holds | _MOST_HELD, and `send_ahead` seconds of run time |
| a worker -> core: bytes taken in one turn | _TURN |
| a thread's or inline worker's batches under way | _AHEAD |
| descriptors 1 and 2 of a worker | the pipe (64 KiB) and _TURN a turn; not read while delivery is full |
| core -> delivery: events | `buffer_events`, `buffer_bytes`, and what the credit lets out meanwhile |
| core -> delivery: workers that turn busy or idle | _MOST, then the latest of each worker |
| delivery -> a strategy | the n of its operator |
| emissions into a subject that is emitting | PENDING_LIMIT |
| a tracker's events for late subscribers | LINES and BYTES of logs, and of outputs |
| echo to stderr | _MOST lines, then the oldest is dropped and counted |
| requests that wait while a source feeds the engine | `max_pending` |
| tasks that wait in the store | `max_queue` (None: no bound) |
| arguments of a task, a result, an output, a checkpoint, an object that is put | `max_payload` |
| memory files of arguments that wait (more wait as plain bytes) | MOST_OPEN, and a quarter of RLIMIT_NOFILE |
| memory files that came before the frame that names them | MOST_EARLY; from a worker to the core none |
| ended tasks that are remembered | `retain` |
| items of a map in flight | `buffersize` |
| texts of revealed secrets that a worker looks for | _MOST |
| stacks that a worker tells of | _MOST_PARTS, each of _MOST_FRAMES frames |
| callers that wait for the stacks of a task | _MOST_ASKING |
| lines on their way into the merged log | LINES and BYTES, then the oldest is dropped and counted |
| the merged log: lines in memory | the `ring` of the merger and RING_BYTES |
| the merged log: lines that wait for one who follows | BACKLOG_LINES and BACKLOG_BYTES, then as above |
| the merged log: lines that cannot be written to a file | HELD_LINES and HELD_BYTES, then as above |
| metrics: names of tasks that are labels; names that are not | MOST_NAMES; _MOST_OTHERS |
| the merged log: names of tasks; sources whose last line is known | NAMES; _SOURCES |
| control server: events that wait for the client of a stream | _LEAST, and up to _MOST while all have less than _ALL bytes |
| control server: events of all tasks, for all clients together | EVENTS and BYTES |
| control server: connections, and bytes of a body | CONNECTIONS, BODY_BYTES |
| control server: requests that wait for a thread | of each lane its own |
| what a pool says on stderr, to a reader that takes nothing | MAX_LINES, then the oldest is dropped and counted |
"""

from __future__ import annotations

import attrs

__all__ = ["BOUNDS", "Bound"]


@attrs.frozen
class Bound:
    """One constant of the table."""

    #: "module:NAME".
    where: str
    value: int


BOUNDS = (
    Bound("rxtasks.worker.outbox:FLUSH_ROWS", 256),
    Bound("rxtasks.worker.outbox:FLUSH_KIB", 64),
    Bound("rxtasks.worker.outbox:WORKER_LINES", 1000),
    Bound("rxtasks.engine.dispatcher:_MOST_HELD", 1000),
    Bound("rxtasks.engine.turns:_MOST", 1000),
    Bound("rxtasks.isolation.channel:_TURN", 1024 * 1024),
    Bound("rxtasks.isolation.outputs:_TURN", 1024 * 1024),
    Bound("rxtasks.isolation.local:_AHEAD", 64),
    Bound("rxtasks.isolation.process:_MOST_ASKING", 100),
    Bound("rxtasks.worker.stacks:_MOST_PARTS", 64),
    Bound("rxtasks.worker.stacks:_MOST_FRAMES", 100),
    Bound("rxtasks.reactive.subject:PENDING_LIMIT", 10_000),
    Bound("rxtasks.observe.history:LINES", 1000),
    Bound("rxtasks.observe.history:BYTES", 2**20),
    Bound("rxtasks.observe.echo:_MOST", 1000),
    Bound("rxtasks.host.narrator:MAX_LINES", 10_000),
    Bound("rxtasks.logs.reorder:LINES", 20_000),
    Bound("rxtasks.logs.reorder:BYTES", 16 * 2**20),
    Bound("rxtasks.logs.reorder:_SOURCES", 1000),
    Bound("rxtasks.logs.ring:RING_BYTES", 64 * 2**20),
    Bound("rxtasks.logs.followers:BACKLOG_LINES", 50_000),
    Bound("rxtasks.logs.followers:BACKLOG_BYTES", 32 * 2**20),
    Bound("rxtasks.logs.rotated:HELD_LINES", 10_000),
    Bound("rxtasks.logs.rotated:HELD_BYTES", 16 * 2**20),
    Bound("rxtasks.logs.names:NAMES", 10_000),
    Bound("rxtasks.observe.tally:MOST_NAMES", 200),
    Bound("rxtasks.observe.tally:_MOST_OTHERS", 1000),
    Bound("rxtasks.wire.sealed:MOST_OPEN", 512),
    Bound("rxtasks.wire.passing:MOST_EARLY", 1000),
    Bound("rxtasks.wire.framing:MAX_FRAME", 16 * 2**20),
    Bound("rxtasks.wire.framing:MAX_PART", 2**20),
    Bound("rxtasks.control.mailbox:_LEAST", 2**20),
    Bound("rxtasks.control.mailbox:_MOST", 8 * 2**20),
    Bound("rxtasks.control.mailbox:_ALL", 64 * 2**20),
    Bound("rxtasks.control.hub:EVENTS", 100_000),
    Bound("rxtasks.control.hub:BYTES", 32 * 2**20),
    Bound("rxtasks.control.reading:BODY_BYTES", 2**20),
    Bound("rxtasks.control.protocol:CONNECTIONS", 200),
)
