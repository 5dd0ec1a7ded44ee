"""How each message is taken apart for the wire and put together again.

On the wire a message is `[kind, sizes, field, field, ...]` in JSON, and its blobs beside it. Fields are in the order of
the class; where a field is bytes its place holds 1 and its content is the next blob (null: the field is None). Fields
that the reader does not know (a later version appends some) are ignored; fields that the writer did not know take
their default. Kind numbers are for ever: a number that was given up is not used again.

What comes in is checked here, once, against the types that the message classes declare.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

import attrs

from rxtasks.errors import ProtocolError
from rxtasks.wire import message as m
from rxtasks.wire.eventrows import check_error, check_rows

__all__ = ["KINDS", "PART", "SHAPES", "SHAPE_OF", "Shape"]

#: The kind of a frame that carries a part of a large blob; no message.
PART: Final = 0

KINDS: Final[dict[int, type[Any]]] = {
    1: m.Configure,
    2: m.Define,
    3: m.Forget,
    4: m.Assign,
    5: m.Grant,
    6: m.Cancel,
    7: m.Checkpoint,
    8: m.Ping,
    9: m.Hook,
    10: m.Stop,
    11: m.Reply,
    12: m.ShowStacks,
    32: m.Ready,
    33: m.StartFailed,
    34: m.Events,
    35: m.Heartbeat,
    36: m.Ack,
    37: m.Dropped,
    38: m.Request,
    39: m.Stopping,
    40: m.StackParts,
    44: m.Trouble,
}

_CONTROL = 64 * 1024
_LARGE = 16 * 2**20
#: Messages whose head may be larger than 64 KiB; their blobs do not count.
_WIDE: Final = (
    m.Configure,
    m.Define,
    m.Assign,
    m.Grant,
    m.Ready,
    m.StartFailed,
    m.Events,
    m.Heartbeat,
    m.StackParts,
    m.Trouble,
)


class Shape(NamedTuple):
    """How one class of message travels."""

    kind: int
    cls: type[Any]
    #: Bytes that the head may have.
    limit: int
    #: message -> (fields for JSON, blobs)
    take: Callable[[Any], tuple[list[Any], Sequence[bytes]]]
    #: (fields from JSON, blobs) -> message; checks both.
    make: Callable[[list[Any], list[bytes]], Any]


def _is_int(value: Any) -> bool:
    return type(value) is int


def _is_str(value: Any) -> bool:
    return type(value) is str


def _is_number(value: Any) -> bool:
    return type(value) is float or type(value) is int


def _list_of(check: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: type(value) is list and all(map(check, value))


_BYTES: Final = ("bytes", "bytes | None")
_CHECKS: Final[dict[str, Callable[[Any], bool]]] = {
    "int": _is_int,
    "bool": lambda value: type(value) is bool,
    "str": _is_str,
    "str | None": lambda value: value is None or type(value) is str,
    "float": _is_number,
    "bytes": _is_int,  # the mark of a blob
    "bytes | None": lambda value: value is None or type(value) is int,
    "list[str]": _list_of(_is_str),
    "list[int]": _list_of(_is_int),
    "list[list[int]]": _list_of(_list_of(_is_int)),
    "list[list[Any]]": _list_of(lambda value: type(value) is list),
    "dict[str, Any]": lambda value: type(value) is dict,
    "dict[str, str]": lambda value: type(value) is dict and all(map(_is_str, value.values())),
}


def _plain(kind: int, cls: type[Any]) -> Shape:
    fields = attrs.fields(cls)
    names = [field.name for field in fields]
    checks = [_CHECKS[str(field.type)] for field in fields]
    blob_at = [index for index, field in enumerate(fields) if field.type in _BYTES]
    needed = sum(field.default is attrs.NOTHING for field in fields)
    mapped = cls is m.Define

    def take(message: Any) -> tuple[list[Any], Sequence[bytes]]:
        values = [getattr(message, name) for name in names]
        if not blob_at:
            return values, ()
        blobs = []
        for index in blob_at:
            if values[index] is not None:
                blobs.append(values[index])
                values[index] = 1
        return values, blobs

    def make(values: list[Any], blobs: list[bytes]) -> Any:
        if len(values) < needed:
            raise ProtocolError(f"{cls.__name__} lacks {names[len(values)]}")
        del values[len(names) :]
        for name, check, value in zip(names, checks, values, strict=False):
            if not check(value):
                raise ProtocolError(f"{cls.__name__}.{name} cannot be {type(value).__name__}")
        used = 0
        for index in blob_at:
            if index < len(values) and values[index] is not None:
                if used == len(blobs):
                    raise ProtocolError(f"{cls.__name__}.{names[index]} lacks its content")
                blob = blobs[used]
                values[index] = blob if mapped else bytes(blob)
                used += 1
        if used != len(blobs):
            raise ProtocolError(f"{cls.__name__} came with {len(blobs)} blobs and refers to {used}")
        return cls(*values)

    return Shape(kind, cls, _LARGE if cls in _WIDE else _CONTROL, take, make)


def _take_assign(message: m.Assign) -> tuple[list[Any], Sequence[bytes]]:
    """Return [rows, None], a row for each Assignment; or [[], columns] for FirstAttempts. Payloads are the blobs."""
    rows = []
    blobs = []
    tasks = message.tasks
    if isinstance(tasks, m.FirstAttempts):
        same = (tasks.function, tasks.credit, tasks.options, tasks.form)
        return [(), [tasks.tokens, tasks.fences, tasks.task_ids, *same]], tasks.payloads
    for t in tasks:
        restored = t.restored
        rows.append(
            (
                t.token,
                t.fence,
                t.task_id,
                t.attempt,
                t.first_seq,
                t.function,
                t.credit,
                t.options,
                t.failures,
                t.form,
                restored is not None,
                t.trace,
            )
        )
        blobs.append(t.payload)
        if restored is not None:
            blobs.append(restored)
    return [rows, None], blobs


def _make_firsts(columns: Any, blobs: list[bytes]) -> m.Assign:
    try:
        tokens, fences, task_ids, function, credit, options, form = columns[:7]
        if not (
            {*map(type, tokens), *map(type, fences), type(credit)} == {int}
            and {*map(type, task_ids), type(function), type(form)} == {str}
            and type(tokens) is type(fences) is type(task_ids) is list
            and len(tokens) == len(fences) == len(task_ids) == len(blobs)
            and (options is None or type(options) is dict)
        ):
            raise ValueError("a field has a wrong type or length")
    except (TypeError, ValueError) as error:
        raise ProtocolError(f"not assignments: {error}") from None
    return m.Assign(m.FirstAttempts(tokens, fences, task_ids, blobs, function, credit, options, form))


def _make_assign(values: list[Any], blobs: list[bytes]) -> m.Assign:
    if len(values) > 1 and values[1] is not None:
        return _make_firsts(values[1], blobs)
    tasks = []
    used = 0
    try:
        for row in values[0]:
            if len(row) > 12:
                row = row[:12]
            token, fence, task_id, attempt, first_seq, function, credit, options, failures, form, again, trace = row
            if not (
                type(token) is type(fence) is type(attempt) is type(first_seq) is type(credit) is type(failures) is int
                and type(task_id) is type(function) is type(form) is str
                and (options is None or type(options) is dict)
                and type(again) is bool
                and (trace is None or type(trace) is str)
            ):
                raise ValueError("a field has a wrong type")
            payload = blobs[used]
            used += 1
            restored = None
            if again:
                restored = blobs[used]
                used += 1
            tasks.append(
                m.Assignment(
                    token,
                    fence,
                    task_id,
                    attempt,
                    first_seq,
                    function,
                    credit,
                    options,
                    failures,
                    form,
                    payload,
                    restored,
                    trace,
                )
            )
    except (IndexError, TypeError, ValueError) as error:
        raise ProtocolError(f"not an assignment: {error}") from None
    if used != len(blobs):
        raise ProtocolError(f"Assign came with {len(blobs)} blobs and refers to {used}")
    return m.Assign(tasks)


def _take_events(message: m.Events) -> tuple[list[Any], Sequence[bytes]]:
    return [message.rows, message.conflated], message.blobs


def _make_events(values: list[Any], blobs: list[bytes]) -> m.Events:
    if len(values) < 2 or type(values[0]) is not list or type(values[1]) is not int:
        raise ProtocolError("Events is [rows, conflated]")
    used = check_rows(values[0])
    if used != len(blobs):
        raise ProtocolError(f"Events came with {len(blobs)} blobs and refers to {used}")
    return m.Events(values[0], blobs, values[1])


def _with_error(kind: int, cls: type[m.StartFailed | m.Trouble]) -> Shape:
    plain = _plain(kind, cls)

    def make(values: list[Any], blobs: list[bytes]) -> Any:
        message = plain.make(values, blobs)
        if check_error(message.error, []):
            raise ProtocolError(f"the error of a {cls.__name__} has no pickle")
        return message

    return plain._replace(make=make)


def _shape(kind: int, cls: type[Any]) -> Shape:
    if cls is m.Assign:
        return Shape(kind, cls, _LARGE, _take_assign, _make_assign)
    if cls is m.Events:
        return Shape(kind, cls, _LARGE, _take_events, _make_events)
    if cls is m.StartFailed or cls is m.Trouble:
        return _with_error(kind, cls)
    return _plain(kind, cls)


#: By kind number.
SHAPES: Final[dict[int, Shape]] = {kind: _shape(kind, cls) for kind, cls in KINDS.items()}
#: By class.
SHAPE_OF: Final[dict[type[Any], Shape]] = {shape.cls: shape for shape in SHAPES.values()}
