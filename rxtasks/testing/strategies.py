"""Hypothesis strategies for everything that crosses a process boundary: one for each message class, and `messages()`.

What they make is what the makers of messages promise: JSON that comes back the same, text without lone surrogates, rows
of the documented layout with as many blobs as they refer to. Within that they go to the edges: 0, "", False, None,
empty collections, any script, both ends of 64 bits, blobs around the limit of one part.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

from rxtasks.wire import message as m

__all__ = [
    "MESSAGES",
    "assignments",
    "blobs",
    "error_dicts",
    "event_rows",
    "integers",
    "json_objects",
    "json_values",
    "messages",
    "texts",
]

Strategy = st.SearchStrategy[Any]

_EDGES = (0, 1, -1, 2**31 - 1, 2**31, 2**32, 2**53, 2**53 + 1, 2**63 - 1, 2**63, 2**64 - 1, -(2**31), -(2**63))


def integers() -> Strategy:
    """Whole numbers that JSON carries exactly here: 64 bits, signed or not."""
    return st.sampled_from(_EDGES) | st.integers(-(2**63), 2**64 - 1)


def texts(max_size: int = 40) -> Strategy:
    """Text of any script, with controls and non-characters, without lone surrogates."""
    return st.sampled_from(
        ("", "\0", '"', "\\", "$t", "\u2028", "\U0001f600", "\u202e\u0645\u0631\u062d\u0628\u0627")
    ) | st.text(max_size=max_size)


def numbers() -> Strategy:
    """Finite numbers."""
    return st.floats(allow_nan=False, allow_infinity=False) | integers()


def json_values(max_leaves: int = 12) -> Strategy:
    """Values that JSON carries without change."""
    leaves = st.none() | st.booleans() | numbers() | texts()
    return st.recursive(
        leaves,
        lambda inner: st.lists(inner, max_size=5) | st.dictionaries(texts(), inner, max_size=5),
        max_leaves=max_leaves,
    )


def json_objects() -> Strategy:
    """Dicts that JSON carries without change."""
    return st.dictionaries(texts(), json_values(5), max_size=4)


def blobs(max_size: int = 200) -> Strategy:
    """Bytes, the empty ones among them."""
    return st.binary(max_size=max_size)


def large_blobs() -> Strategy:
    """Bytes around the limits of one part and of what travels in place."""
    return st.sampled_from((2**20 - 1, 2**20, 2**20 + 1, 2 * 2**20 + 3)).map(lambda size: b"\x93" * size)


def optional(inner: Strategy) -> Strategy:
    """`inner`, or None."""
    return st.none() | inner


def error_dicts() -> Strategy:
    """What TaskErrorInfo.to_dict() gives."""

    def build(cause: Strategy) -> Strategy:
        return st.fixed_dictionaries(
            {
                "type": texts(),
                "message": texts(),
                "code": st.none() | texts() | integers(),
                "details": json_values(4),
                "traceback": texts(),
                "cause": cause,
            }
        )

    return build(optional(build(optional(build(st.none())))))


def _value(draw: st.DrawFn, found: list[bytes]) -> list[Any]:
    if draw(st.booleans()):
        return ["j", draw(json_values(6))]
    blob = draw(blobs())
    found.append(blob)
    return ["p", len(blob), draw(texts()), draw(texts())]


@st.composite
def event_rows(draw: st.DrawFn) -> tuple[list[Any], list[bytes]]:
    """(row, its blobs) of any kind."""
    found: list[bytes] = []
    kind = draw(st.sampled_from((m.RUNNING, m.END, m.LOG, m.PROGRESS, m.OUTPUT, m.OUTPUTS, m.WHOLE)))
    if kind == m.WHOLE:
        place = st.tuples(integers(), integers(), integers(), integers(), json_values(6), integers())
        return [kind, *map(list, zip(*draw(st.lists(place, min_size=1, max_size=5)), strict=True))], found
    row: list[Any] = [kind, draw(integers()), draw(integers())]
    if kind == m.OUTPUTS:
        run = draw(st.lists(st.tuples(integers(), json_values(6), integers()), min_size=1, max_size=5))
        return [*row, *map(list, zip(*run, strict=True))], found
    row.append(draw(integers()))
    if kind == m.END:
        row.append(draw(st.sampled_from(("succeeded", "failed", "retrying", "scheduled", "cancelled"))))
        row.append(None if draw(st.booleans()) else _value(draw, found))
        error = draw(optional(error_dicts()))
        if error is not None and draw(st.booleans()):
            error["pickle"] = True
            found.append(draw(blobs()))
        row += [error, draw(optional(numbers())), draw(integers())]
    elif kind == m.LOG:
        row += [draw(texts()), draw(texts()), draw(texts()), draw(optional(json_objects())), draw(integers())]
    elif kind == m.PROGRESS:
        row += [draw(numbers()), draw(optional(numbers())), draw(optional(texts())), draw(optional(json_objects()))]
    elif kind == m.OUTPUT:
        row += [_value(draw, found), draw(integers())]
    return row, found


def assignments() -> Strategy:
    """Tasks for a worker in another process."""
    return st.builds(
        m.Assignment,
        token=integers(),
        fence=integers(),
        task_id=texts(),
        attempt=integers(),
        first_seq=integers(),
        function=texts(),
        credit=integers(),
        options=optional(json_objects()),
        failures=integers(),
        form=st.sampled_from(("p", "t")),
        payload=blobs(),
        restored=optional(blobs()),
        trace=optional(texts()),
    )


@st.composite
def first_attempts(draw: st.DrawFn) -> m.FirstAttempts:
    """Tasks that share their function, for a worker in another process."""
    count = draw(st.integers(0, 4))
    numbers = st.lists(integers(), min_size=count, max_size=count)
    return m.FirstAttempts(
        draw(numbers),
        draw(numbers),
        draw(st.lists(texts(), min_size=count, max_size=count)),
        draw(st.lists(blobs(), min_size=count, max_size=count)),
        draw(texts()),
        draw(integers()),
        draw(optional(json_objects())),
        draw(st.sampled_from(("p", "t"))),
    )


@st.composite
def _events(draw: st.DrawFn) -> m.Events:
    pairs = draw(st.lists(event_rows(), max_size=6))
    return m.Events([row for row, _ in pairs], [blob for _, found in pairs for blob in found], draw(integers()))


#: A strategy for each class of message.
MESSAGES: dict[type[Any], Callable[[], Strategy]] = {
    m.Configure: lambda: st.builds(
        m.Configure,
        worker_id=texts(),
        protocol=integers(),
        sys_path=st.lists(texts(), max_size=4),
        modules=st.lists(texts(), max_size=4),
        initializer=optional(blobs()),
        concurrency=integers(),
        heartbeat=numbers(),
        keep_temp=st.booleans(),
        temp_root=optional(texts()),
        max_payload=integers(),
        max_memory=integers(),
        defines=integers(),
    ),
    m.Define: lambda: st.builds(
        m.Define,
        key=texts(),
        ref=optional(texts()),
        blob=optional(blobs() | large_blobs()),
        command_id=integers(),
    ),
    m.Forget: lambda: st.builds(m.Forget, key=texts(), command_id=integers()),
    m.Assign: lambda: st.builds(m.Assign, tasks=st.lists(assignments(), max_size=4) | first_attempts()),
    m.Grant: lambda: st.builds(m.Grant, rows=st.lists(st.lists(integers(), min_size=2, max_size=2), max_size=4)),
    m.Cancel: lambda: st.builds(m.Cancel, command_id=integers(), token=integers(), reason=optional(texts())),
    m.Checkpoint: lambda: st.builds(m.Checkpoint, command_id=integers(), token=integers()),
    m.Ping: lambda: st.builds(m.Ping, command_id=integers()),
    m.Hook: lambda: st.builds(m.Hook, command_id=integers(), name=texts(), blob=optional(blobs())),
    m.Stop: lambda: st.builds(m.Stop, command_id=integers()),
    m.Reply: lambda: st.builds(m.Reply, request_id=integers(), ok=st.booleans(), error=optional(texts())),
    m.ShowStacks: lambda: st.builds(m.ShowStacks, request_id=integers(), token=integers()),
    m.StackParts: lambda: st.builds(
        m.StackParts,
        request_id=integers(),
        parts=st.lists(st.lists(texts() | st.tuples(texts(), integers(), texts()).map(list), max_size=4), max_size=4),
    ),
    m.Ready: lambda: st.builds(
        m.Ready,
        pid=integers(),
        protocol=integers(),
        python=texts(),
        handlers=st.lists(texts(), max_size=4),
        options=st.dictionaries(texts(), texts(), max_size=4),
    ),
    m.StartFailed: lambda: st.builds(m.StartFailed, error=error_dicts()),
    m.Events: _events,
    m.Heartbeat: lambda: st.builds(
        m.Heartbeat,
        tokens=st.lists(integers(), max_size=4),
        cpu_seconds=numbers(),
        memory_bytes=integers(),
        ended=integers(),
    ),
    m.Ack: lambda: st.builds(m.Ack, command_id=integers(), ok=st.booleans(), error=optional(texts())),
    m.Dropped: lambda: st.builds(m.Dropped, count=integers()),
    m.Request: lambda: st.builds(
        m.Request, request_id=integers(), token=integers(), op=texts(), blob=blobs() | large_blobs()
    ),
    m.Stopping: lambda: st.builds(m.Stopping, reason=texts()),
    m.Trouble: lambda: st.builds(
        m.Trouble,
        what=texts(),
        name=texts(),
        function=texts(),
        error=error_dicts(),
        task_id=optional(texts()),
        untold=integers(),
    ),
}


def messages() -> Strategy:
    """Any command or report."""
    return st.one_of(*(make() for make in MESSAGES.values()))
