"""What was put (TaskService.put): the handle that its user holds, and the content that tasks hold on to."""

from __future__ import annotations

from types import TracebackType
from typing import Any, ClassVar, NoReturn, Self

from rxtasks.errors import PayloadError

__all__ = ["Handle", "Put"]


class Put:
    """The content behind a handle. It lives as long as the handle, and every unfinished task that was given it, lives."""

    __slots__ = ("__weakref__", "blob", "key", "kind", "value")

    def __init__(self, key: str, kind: str, blob: Any, value: Any) -> None:
        self.key = key
        #: Name of the object's type.
        self.kind = kind
        #: What process workers are sent: bytes or wire.sealed.Sealed; None where there are none.
        self.blob = blob
        #: The object itself, for workers in this process; None where there are none.
        self.value = value

    def __repr__(self) -> str:
        return f"<{self.key}: {self.kind}>"


class Handle:
    """Stands for an object that TaskService.put was given. Pass it to tasks of that service, anywhere in their arguments:
    the handler finds the object itself in its place.

    All tasks of a worker share one object, and its arrays lie in memory that all workers share: treat it as read-only.
    (In process workers arrays refuse to be written to; in threads and inline it is the very object that was put.)

    `release()`, leaving a `with` block or dropping the last reference gives it up: tasks that were submitted before still
    get it, and then workers forget it.
    """

    __slots__ = ("__weakref__", "_put")

    #: There has been one: arguments that are not pickled are searched for handles only then.
    known: ClassVar[bool] = False

    def __init__(self, put: Put) -> None:
        self._put: Put | None = put
        Handle.known = True

    @property
    def released(self) -> bool:
        """True once it has been given up: it cannot be passed any more."""
        return self._put is None

    def release(self) -> None:
        """Give the object up; no error if that has been done."""
        self._put = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def __reduce__(self) -> NoReturn:
        if self._put is None:
            raise PayloadError("this handle was released; put() the object again, or release it later")
        raise PayloadError("a handle is good in the arguments of tasks of the service that gave it, and nowhere else")

    def __repr__(self) -> str:
        return "<Handle, released>" if self._put is None else f"<Handle of {self._put.kind}>"
