"""What passes between the routes and what carries them: operations, calls, replies, refusals."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal

import attrs

from rxtasks.control.schema import Schema

if TYPE_CHECKING:
    from rxtasks.control.desk import Desk

__all__ = ["Call", "Operation", "Parameter", "Refused", "Reply", "Stream"]


class Refused(Exception):
    """A request is refused: answered with `status` and {"error": {code, message, hint}}."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        hint: str = "",
        *,
        retry_after: int | None = None,
        close: bool = False,
        allow: tuple[str, ...] = (),
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.hint = hint
        #: Seconds.
        self.retry_after = retry_after
        #: The connection is of no use any more.
        self.close = close
        #: The methods that the path takes, where that is what is wrong.
        self.allow = allow


@attrs.frozen
class Parameter:
    """One parameter of an operation."""

    name: str
    where: Literal["path", "query", "header"]
    schema: Schema
    description: str
    required: bool = False


@attrs.frozen
class Call:
    """A request whose parameters and body have been checked."""

    #: Of path, query and headers, by name; those that were not given are not there.
    given: Mapping[str, Any]
    #: What its JSON says; {} if there is none.
    body: Any


@attrs.frozen
class Reply:
    """An answer: JSON, or bytes as they are."""

    body: Any
    status: int = 200
    media_type: str = "application/json"


@attrs.frozen
class Stream:
    """An answer that goes on: frames of server-sent events."""

    frames: AsyncIterator[bytes]
    #: Called at its end, also where no frame was ever asked for.
    close: Callable[[], None]


#: Done in a thread, so it may wait; a stream is opened in the loop.
Doing = Callable[["Desk", Call], Reply]


@attrs.frozen
class Operation:
    """One method of one path: what it takes, what it answers, what is done. Routing, checks and description come from it."""

    method: Literal["GET", "POST", "DELETE"]
    path: str
    #: Its name in the description and in clients made from it.
    name: str
    summary: str
    run: Doing | None = None
    #: Instead of `run`: opens a stream.
    follow: Callable[[Desk, Call], Any] | None = None
    parameters: tuple[Parameter, ...] = ()
    body: Schema | None = None
    #: What the body is, where one may be left out.
    body_required: bool = False
    #: Status -> schema of the answer (None: no JSON). Refusals that any operation may answer with are added.
    answers: Mapping[int, Schema | None] = attrs.field(factory=dict)
    media_type: str = "application/json"
    #: "health": has threads of its own. "quick": answers from memory. "work": may wait for a disk, a worker or a drain.
    lane: Literal["health", "quick", "work"] = "quick"
    #: Statuses of refusals of its own, each with what it says.
    refusals: Mapping[int, str] = attrs.field(factory=dict)
