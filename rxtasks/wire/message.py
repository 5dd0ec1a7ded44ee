"""The messages between an engine and its workers.

Commands go down, reports come up. Each is an attrs class; `codec` turns them into frames and back. Two of them are
hot (`Assign`, `Events`): they carry many tasks or many events each, `Events` as rows whose layout is below.

Event rows (lists; the first three places are common)::

    [RUNNING,  token, seq, time_us]
    [END,      token, seq, time_us, status, value, error, delay, ran_us]
    [LOG,      token, seq, time_us, level, message, stream, fields, size]
    [PROGRESS, token, seq, time_us, current, total, message, data]
    [OUTPUT,   token, seq, time_us, value, size]
    [OUTPUTS,  token, seq, [time_us ..], [json ..], [size ..]]      as many OUTPUTs of ["j", json], from seq on
    [WHOLE,    [token ..], [seq ..], [began_us ..], [ended_us ..], [json ..], [ran_us ..]]
               as many attempts, each a RUNNING of that seq and, next, an END that succeeded with ["j", json]

`token` names the claim under which the task runs. `seq` is final: the worker numbers rows when they leave its outbox,
from the assignment's `first_seq`. A LOG row of token 0 and seq 0 belongs to the worker, not to a task. `status` in END
is succeeded, failed, retrying, scheduled or cancelled; `delay` is seconds until the next attempt (retrying) or until
the time asked for (scheduled), else None; `ran_us` is the attempt's run time; `error` is TaskErrorInfo.to_dict().
`fields` and `data` are None where empty. `size` is the bytes of a credited event as its sender counted them; both sides
take credit.event_cost(size, window) for it, where the window is the assignment's `credit`.

A value (`value` in END and OUTPUT) is one of::

    None                              no value (END without result; the result None is ["j", None])
    ["j", json]                       exact JSON of at most 64 KiB, in place
    ["p", size, type, preview]        pickled, the next of the message's blobs (rows in order)
    ["t", size, type, preview]        tagged JSON, likewise; where the store is durable
    ["o", object, type, preview]      an object handed over in the same process; never encoded

An error whose exception can be rebuilt has the key "pickle" = True beside those of to_dict(): the next blob (after the
value's, if any) is the pickled (class name, args, state). In one process it is the exception itself: "object": exc.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import repeat
from typing import Any, Final, TypeAlias

import attrs

__all__ = [
    "END",
    "LOG",
    "OUTPUT",
    "OUTPUTS",
    "PROGRESS",
    "PROTOCOL",
    "RUNNING",
    "WHOLE",
    "Ack",
    "Assign",
    "Assignment",
    "Assignments",
    "Cancel",
    "Checkpoint",
    "Command",
    "Configure",
    "Define",
    "Dropped",
    "Events",
    "FirstAttempts",
    "Forget",
    "Grant",
    "Heartbeat",
    "Hook",
    "Message",
    "Ping",
    "Ready",
    "Reply",
    "Report",
    "Request",
    "ShowStacks",
    "StackParts",
    "StartFailed",
    "Stop",
    "Stopping",
    "Trouble",
]

#: Version of the protocol; a worker of another one is refused in the greeting.
PROTOCOL: Final = 1

RUNNING: Final = 0
END: Final = 1
LOG: Final = 2
PROGRESS: Final = 3
OUTPUT: Final = 4
#: Most outputs are JSON, and they come in floods: one list for each place costs either side half of one for each event.
OUTPUTS: Final = 5
#: Attempts that said nothing and ended before it was told that they began: of short tasks nearly all.
WHOLE: Final = 6

# -- commands ---------------------------------------------------------------------------------------------------------


@attrs.frozen
class Configure:
    """The first command: who you are and how to work."""

    worker_id: str
    protocol: int = PROTOCOL
    #: Put in front of the worker's own sys.path (entries it lacks), in this order.
    sys_path: list[str] = attrs.field(factory=list)
    #: Modules to import before ready.
    modules: list[str] = attrs.field(factory=list)
    #: Modules to import before ready as well, if they can be: the worker that this one takes over from was sent functions
    #: of theirs, and the first task of each is not to wait for that again.
    preload: list[str] = attrs.field(factory=list)
    #: cloudpickle of (function, args), called before ready; None = none.
    initializer: bytes | None = None
    #: Tasks that may run at once (async handlers).
    concurrency: int = 1
    #: Seconds between heartbeats.
    heartbeat: float = 5.0
    keep_temp: bool = False
    #: Directory in which attempts make their temp_dir; None = the system's.
    temp_root: str | None = None
    #: Bytes that a result, an output or a checkpoint may take, pickled.
    max_payload: int = 2**30
    #: Resident bytes above which the end of an attempt is followed by a Heartbeat; 0 = never.
    max_memory: int = 0
    #: The store outlives this process: results, outputs and checkpoints are JSON, tagged where needed.
    durable: bool = False
    #: Directory in which the engine keeps results that such a store cannot hold, '' = there is none.
    kept: str = ""
    #: So many Defines follow, of hooks and resources, which the worker takes in before it sets itself up.
    defines: int = 0


@attrs.frozen
class Define:
    """Make a function known under `key`, before an assignment uses it. Acknowledged if it has a command_id."""

    key: str
    #: "module:qualname" to import, or None with a blob.
    ref: str | None = None
    #: cloudpickle of the function; for a key "put:..." the object that was put, as payload.pack_value writes it.
    blob: bytes | None = None
    #: 0 = it is not acknowledged.
    command_id: int = 0


@attrs.frozen
class Forget:
    """The function `key` is not used again until it is defined again. Acknowledged if it has a command_id."""

    key: str
    #: 0 = it is not acknowledged.
    command_id: int = 0


@attrs.define
class Assignment:
    """One task for a worker. Not frozen: made for every task, and a frozen attrs object costs three times as much."""

    token: int
    fence: int
    task_id: str
    #: The attempt that would start now (from 1).
    attempt: int
    first_seq: int
    #: Key of a defined function.
    function: str
    #: Units of credit for logs and outputs, cumulative from 0 for this token.
    credit: int
    #: What differs from the defaults of TaskOptions and matters to the worker:
    #: {"name", "timeout", "grace", "retry": {...RetryPolicy; types as "module:QualName" or pickled}}; None = nothing.
    options: dict[str, Any] | None = None
    #: Attempts of this task that have ended by an exception so far.
    failures: int = 0
    #: Form of the arguments: "p" pickled (args, kwargs); "h" the same with handles of objects that were put in it (the keys
    #: of their Defines are its persistent ids); "t" tagged JSON; "o" an object handed over in one process.
    form: str = "p"
    #: The arguments (bytes, or wire.sealed.Sealed where they are large; for "o" the tuple (args, kwargs) itself).
    payload: Any = b""
    #: Last checkpoint of an earlier attempt (pickled; tagged JSON where the store is durable), or None; with the results of
    #: steps, if there are any (rxtasks.wire.steps).
    restored: bytes | None = None
    trace: str | None = None


@attrs.define
class FirstAttempts:
    """First attempts of tasks that share everything but who they are: an item for each in each list. Iterates as Assignments.

    Hundreds of calls of one function are as many of these at once: lists cost either side a fraction of objects.
    """

    tokens: list[int]
    fences: list[int]
    task_ids: list[str]
    payloads: list[Any]
    function: str
    credit: int
    options: dict[str, Any] | None = None
    form: str = "p"

    def __len__(self) -> int:
        return len(self.tokens)

    def __iter__(self) -> Iterator[Assignment]:
        return map(
            Assignment,
            self.tokens,
            self.fences,
            self.task_ids,
            repeat(1),
            repeat(1),
            repeat(self.function),
            repeat(self.credit),
            repeat(self.options),
            repeat(0),
            repeat(self.form),
            self.payloads,
        )


#: Tasks for a worker, in order.
Assignments: TypeAlias = list[Assignment] | FirstAttempts


@attrs.frozen
class Assign:
    """Run these, in this order. One byte a task has been written to the token pipe before."""

    tasks: Assignments


@attrs.frozen
class Grant:
    """Credit for logs and outputs: rows of [token, cumulative units]. Repeats change nothing."""

    rows: list[list[int]]


@attrs.frozen
class Cancel:
    """End this task: cooperative first. Acknowledged."""

    command_id: int
    token: int
    reason: str | None = None


@attrs.frozen
class Checkpoint:
    """Ask this task to checkpoint (soft timeout, drain). Acknowledged."""

    command_id: int
    token: int


@attrs.frozen
class Ping:
    """Ask for a heartbeat now. Acknowledged."""

    command_id: int


@attrs.frozen
class Hook:
    """Call the hook `name` with the pickled arguments. Acknowledged."""

    command_id: int
    name: str
    blob: bytes | None = None


@attrs.frozen
class Stop:
    """Finish what runs, start nothing more, then leave. Acknowledged at once."""

    command_id: int


@attrs.frozen
class Reply:
    """The answer to a Request, after its effect is durable where the store is."""

    request_id: int
    ok: bool = True
    error: str | None = None


@attrs.frozen
class ShowStacks:
    """Tell where this task stands. Answered with StackParts at once, whatever runs."""

    request_id: int
    token: int


# -- reports ----------------------------------------------------------------------------------------------------------


@attrs.frozen
class Ready:
    """The worker can take assignments."""

    pid: int
    protocol: int = PROTOCOL
    python: str = ""
    #: Names of the handlers that its modules registered.
    handlers: list[str] = attrs.field(factory=list)
    #: Their own options as JSON (rxtasks.lifecycle.stored), of those that have other than the defaults.
    options: dict[str, str] = attrs.field(factory=dict)


@attrs.frozen
class StartFailed:
    """The worker cannot start; it leaves after this."""

    error: dict[str, Any]


@attrs.frozen
class Events:
    """What tasks did, in order. `conflated` counts progress that was overwritten before it left the outbox."""

    rows: list[list[Any]]
    blobs: list[bytes] = attrs.field(factory=list)
    conflated: int = 0


@attrs.frozen
class Heartbeat:
    """A sign of life with what runs and what it uses."""

    #: Tokens of the tasks that run.
    tokens: list[int] = attrs.field(factory=list)
    #: CPU seconds of the process since its start.
    cpu_seconds: float = 0.0
    #: Resident bytes.
    memory_bytes: int = 0
    #: Measured as an attempt ended, and above max_memory: so many have ended in this process by then. 0 = at any moment.
    ended: int = 0


@attrs.frozen
class Ack:
    """A command was taken (ok) or could not be (error)."""

    command_id: int
    ok: bool = True
    error: str | None = None


@attrs.frozen
class Dropped:
    """This many assignments were found taken back (no byte left in the token pipe) and are forgotten."""

    count: int


@attrs.frozen
class Request:
    """A task asks for something durable and waits for the Reply.

    op "checkpoint" with the state, or "step" with a step's result (rxtasks.wire.steps).
    """

    request_id: int
    token: int
    op: str
    blob: bytes = b""


@attrs.frozen
class Stopping:
    """The worker starts nothing more and leaves when what runs has ended; it should be replaced (recycling)."""

    reason: str


@attrs.frozen
class StackParts:
    """The answer to ShowStacks: stacks as rxtasks.worker.stacks makes them, the task's own first; none = it does not run."""

    request_id: int
    parts: list[list[Any]] = attrs.field(factory=list)


@attrs.frozen
class Trouble:
    """Something beside the tasks failed, and nothing else comes of it: a hook, the closing of a resource."""

    #: "hook" or "resource".
    what: str
    #: The hook's point ("before_task"), or the resource's name.
    name: str
    #: The function that was called, "" = none is known.
    function: str
    #: TaskErrorInfo.to_dict() of what was raised.
    error: dict[str, Any]
    #: The task around which a hook was called, None = none.
    task_id: str | None = None
    #: As many failures before this one were not told of, because there were too many in a second.
    untold: int = 0


Command: TypeAlias = (
    Configure | Define | Forget | Assign | Grant | Cancel | Checkpoint | Ping | Hook | Stop | Reply | ShowStacks
)
Report: TypeAlias = Ready | StartFailed | Events | Heartbeat | Ack | Dropped | Request | Stopping | StackParts | Trouble
Message: TypeAlias = Command | Report
