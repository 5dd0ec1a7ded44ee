"""What is known of an error after it has left the process in which it was raised."""

from __future__ import annotations

from typing import Any

import attrs

from rxtasks.displayed import Displayed

__all__ = ["TaskErrorInfo"]


@attrs.frozen
class TaskErrorInfo(Displayed):
    """An exception as data: the same in every isolation.

    The traceback is text and never holds values of variables or arguments.
    """

    #: The exception's class, "module.QualName"; builtins without "builtins.".
    type: str
    message: str
    #: The exception's own `code` attribute if it is a str or int, else None.
    code: str | int | None = None
    #: The exception's own `details` attribute where it is JSON, else None.
    details: Any = None
    traceback: str = ""
    #: The exception's __cause__ (or unsuppressed __context__), one level a step.
    cause: TaskErrorInfo | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-able dict; `from_dict` gives an equal object."""
        return {
            "type": self.type,
            "message": self.message,
            "code": self.code,
            "details": self.details,
            "traceback": self.traceback,
            "cause": None if self.cause is None else self.cause.to_dict(),
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> TaskErrorInfo:
        """Rebuild from `to_dict`; unknown keys are ignored."""
        cause = data.get("cause")
        return cls(
            type=data["type"],
            message=data["message"],
            code=data.get("code"),
            details=data.get("details"),
            traceback=data.get("traceback", ""),
            cause=None if cause is None else cls.from_dict(cause),
        )

    def __str__(self) -> str:
        return f"{self.type}: {self.message}" if self.message else self.type
