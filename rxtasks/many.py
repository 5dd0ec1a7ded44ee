"""The part of a service that does something with many tasks, by the filters of list; and the checks of these filters."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from rxtasks.errors import SettingsError
from rxtasks.lifecycle.status import TaskStatus

if TYPE_CHECKING:
    from rxtasks.bulk import BulkReport, Selection
    from rxtasks.clock import SystemClock
    from rxtasks.engine.engine import TaskEngine
    from rxtasks.stores.base import Store

__all__ = ["ManyTasks", "check_actor", "check_reason", "check_seconds", "checked_filters", "seconds_of"]


class ManyTasks:
    """Calls that take filters."""

    _store: Store
    _clock: SystemClock

    def _engine_now(self) -> TaskEngine:
        raise NotImplementedError

    def cancel_all(
        self,
        status: TaskStatus | str | None = None,
        name: str | None = None,
        tag: str | None = None,
        worker: str | None = None,
        older_than: float | timedelta | None = None,
        limit: int | None = None,
        *,
        reason: str | None = None,
        actor: str = "client",
        dry_run: bool = False,
    ) -> BulkReport:
        """Ask for all tasks to be cancelled that have not ended and that these filters of list() meet, at most `limit`; in
        batches. With `dry_run` nothing is done, and the report says with how many it would be.

        Raises:
            SettingsError: a filter is wrong, or tasks of that status have ended.
            StoreError: the store failed; what was cancelled before is.
        """
        from rxtasks.bulk import cancel_all

        check_actor(actor)
        check_reason("cancel_all", reason)
        wanted = self._selection("cancel_all", status, name, tag, worker, older_than, limit)
        return cancel_all(self._engine_now(), wanted, reason=reason, actor=actor, dry_run=dry_run)

    def retry_all(
        self,
        status: TaskStatus | str | None = None,
        name: str | None = None,
        tag: str | None = None,
        worker: str | None = None,
        older_than: float | timedelta | None = None,
        limit: int | None = None,
        *,
        reason: str | None = None,
        dry_run: bool = False,
    ) -> BulkReport:
        """Retry all tasks that these filters of list() meet, at most `limit`: those that failed, unless `status` says
        otherwise; in batches. A task that has been retried before is left alone, so this can be repeated: its retry counts in
        its place.

        Raises:
            SettingsError: a filter is wrong, or tasks of that status have not ended.
            ServiceStopped, QueueFull, StoreError: as submit; what was retried before is.
        """
        from rxtasks.bulk import retry_all

        check_reason("retry_all", reason)
        wanted = self._selection("retry_all", status, name, tag, worker, older_than, limit)
        return retry_all(self._engine_now(), wanted, reason=reason, dry_run=dry_run)

    def purge(
        self,
        status: TaskStatus | str | None = None,
        name: str | None = None,
        tag: str | None = None,
        worker: str | None = None,
        older_than: float | timedelta | None = None,
        limit: int | None = None,
        *,
        dry_run: bool = False,
    ) -> BulkReport:
        """Forget all tasks that have ended and that these filters of list() meet, at most `limit`, with their events and
        results; in batches. `older_than`: ended at least so many seconds ago. (prune() does so by time alone, and faster.)

        Raises:
            SettingsError: a filter is wrong, or tasks of that status have not ended.
            StoreError: the store failed; what was forgotten before is.
        """
        from rxtasks.bulk import purge

        wanted = self._selection("purge", status, name, tag, worker, older_than, limit)
        return purge(self._store, wanted, dry_run=dry_run)

    def _selection(
        self,
        what: str,
        status: TaskStatus | str | None,
        name: str | None,
        tag: str | None,
        worker: str | None,
        older_than: float | timedelta | None,
        limit: int | None,
    ) -> Selection:
        from rxtasks.bulk import Selection

        found = checked_filters(what, status, name, tag, worker)
        if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 0):
            raise SettingsError(f"{what}: limit is a whole number from 0 or None, not {limit!r}")
        seconds = 0.0 if older_than is None else seconds_of(f"{what}: older_than", older_than)
        return Selection(found, name, tag, worker, self._clock.wall_us() - int(seconds * 1e6), limit)


def checked_filters(
    what: str, status: TaskStatus | str | None, name: str | None, tag: str | None, worker: str | None
) -> TaskStatus | None:
    """Return the status that is wanted."""
    for field, text in (("name", name), ("tag", tag), ("worker", worker)):
        if text is not None and not isinstance(text, str):
            raise SettingsError(f"{what}: {field} is text or None, not {text!r}")
    if status is None:
        return None
    try:
        return TaskStatus(status)
    except ValueError:
        raise SettingsError(f"there is no status {status!r}; statuses: {', '.join(TaskStatus)}") from None


def check_actor(actor: str) -> None:
    if actor not in ("client", "operator"):
        raise SettingsError(f'actor is "client" or "operator", not {actor!r}')


def check_reason(what: str, reason: str | None) -> None:
    if reason is not None and not isinstance(reason, str):
        raise SettingsError(f"{what}: reason is text or None, not {reason!r}")


def seconds_of(what: str, value: float | timedelta) -> float:
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    check_seconds(what, seconds)
    return seconds


def check_seconds(what: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < float("inf"):
        raise SettingsError(f"{what} is seconds from 0, not {value!r}")
