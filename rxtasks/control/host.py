"""What a control server asks of the process that runs the pool."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any, Protocol

from reactivex import Observable

__all__ = ["Host", "Line"]


class Line(Protocol):
    """A line of the merged logs (rxtasks.logs.LogLine)."""

    def to_json(self) -> bytes | str:
        """Return it as one JSON object."""


class Host(Protocol):
    """The process that runs the pool."""

    @property
    def mode(self) -> str:
        """ "process", "thread" or "inline"."""

    @property
    def store(self) -> str:
        """The store as it may be shown."""

    @property
    def started_at(self) -> datetime:
        """When the process became the pool's, in UTC."""

    @property
    def stopping(self) -> bool:
        """Whether it is about to end."""

    def start_processing(self) -> None:
        """Start the workers, and wait until they are ready; nothing if they run."""

    def stop_processing(self, force: bool) -> None:
        """Stop the workers, and wait until they have; the process goes on, and answers."""

    def shutdown(self, force: bool, timeout: float | None) -> None:
        """Begin to end the process: running tasks have `timeout` seconds (None: as it is set). Returns at once."""

    def query_logs(self, filter: Any) -> Iterable[Line]:
        """Return the lines that a LogFilter lets through, in order."""

    def follow_logs(self, filter: Any) -> Observable[Any]:
        """Return the stream of those to come."""

    def metrics_text(self) -> bytes | None:
        """Return the metrics in Prometheus' text format; None without its library."""
