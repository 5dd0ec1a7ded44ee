"""rxtasks in a notebook.

::

    import rxtasks.jupyter as rxj

    rxj.subscribe(tracker.outputs, print)      # run the cell again: it is replaced, not doubled
    rxj.watch(service)                         # a live display; also of a tracker or a pool
    results = list(rxj.iterate(...))           # see watch for maps
    rxj.record(service)                        # from now on, each attempt of each task
    rxj.frame(service), rxj.timeline(service)  # what ran

A tracker, a service, a pool, events, records and reports show themselves as the value of a cell, without this module.
What a subscriber prints appears in the cell that subscribed, by itself: subscribers of a service are called in the
context in which they subscribed.

Needs `pip install 'rxtasks[jupyter]'` for live widgets (anywidget), DataFrames (pandas) and charts (altair); each is
imported when it is used, and without anywidget displays are HTML that is updated in place.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar, overload

from reactivex import Observable

from rxtasks.errors import SettingsError
from rxtasks.futures.executor import TaskExecutor
from rxtasks.jupyter.desk import Desk
from rxtasks.jupyter.frontend import current_cell
from rxtasks.jupyter.interrupts import SignalWakeup
from rxtasks.jupyter.named import NamedSubscription
from rxtasks.jupyter.recording import Attempt, Recording
from rxtasks.jupyter.tables import attempts_frame, tasks_frame, timeline_chart
from rxtasks.jupyter.watching import watched
from rxtasks.lifecycle.status import TaskStatus
from rxtasks.observe.tracker import TaskTracker
from rxtasks.pool.pool import WorkerPool
from rxtasks.service import TaskService
from rxtasks.text import shown
from rxtasks.view import ServiceView

__all__ = [
    "Attempt",
    "NamedSubscription",
    "Recording",
    "attempts",
    "bundle",
    "frame",
    "record",
    "subscribe",
    "subscriptions",
    "timeline",
    "watch",
]

T = TypeVar("T")

#: The kernel's one desk: what a cell has left there the next run of the cell finds.
_DESK = Desk()
#: What `%load_ext` switches on.
_WAKEUP = SignalWakeup()


def subscribe(
    observable: Observable[T],
    on_next: Callable[[T], object],
    on_error: Callable[[Exception], object] | None = None,
    on_completed: Callable[[], object] | None = None,
    *,
    name: str | None = None,
) -> NamedSubscription:
    """Subscribe, in the place of the subscription of the same name: a cell that is run again does not subscribe twice.

    Args:
        on_error: without it the error is printed to the cell that subscribed.
        name: None: made of the cell and the number of the subscription in it, where the frontend says which cell runs
            (JupyterLab, Notebook 7, VS Code do). A new run of a cell ends all that its last run left under such names.

    Raises:
        SettingsError: no name was given, and there is no cell to make one of; or an argument is of another type.
    """
    if not isinstance(observable, Observable) or not callable(on_next):
        wrong: object = on_next if isinstance(observable, Observable) else observable
        raise SettingsError(f"subscribe() takes an observable and a function for its values, not {wrong!r}")
    if name is not None and (not isinstance(name, str) or not name):
        raise SettingsError(f"subscribe: name is a text, not {name!r}")
    chosen = _DESK.names.name_for(current_cell()) if name is None else name

    def failed(error: Exception) -> None:
        if on_error is not None:
            on_error(error)
        else:
            print(f"{chosen}: the stream failed: {type(error).__name__}: {shown(str(error))}", file=sys.stderr)

    def make(entry: NamedSubscription) -> Any:
        def take(value: T) -> None:
            on_next(value)

        def over_by_error(error: Exception) -> None:
            entry.ended()
            failed(error)

        def over() -> None:
            entry.ended()
            if on_completed is not None:
                on_completed()

        return observable.subscribe(take, over_by_error, over)

    return _DESK.names.replace(chosen, make)


def subscriptions() -> dict[str, NamedSubscription]:
    """Return what subscribe() made and what lives, by name; dispose() ends one."""
    return _DESK.names.all()


@overload
def watch(  # type: ignore[overload-overlap]
    thing: TaskTracker | ServiceView | TaskExecutor | WorkerPool, *, title: str | None = None, total: int | None = None
) -> None: ...


@overload
def watch(thing: Observable[T], *, title: str | None = None, total: int | None = None) -> Observable[T]: ...


def watch(thing: Any, *, title: str | None = None, total: int | None = None) -> Any:
    """Show `thing` live, at most ten times a second, without slowing it down.

    A tracker, a service, an executor or a pool is shown in this cell at once. Any other observable, `service.map(...)`
    above all, is returned as one that does what it did, and is shown in the cell that subscribes: values done, failed
    (those that are exceptions, as with on_failure="emit"), in flight, and the rate.

    Args:
        title: of an observable ("map" or "stream").
        total: how many values an observable will emit; a map whose iterables have a length knows.

    Raises:
        SettingsError: it is no observable, or `total` no number of values.
    """
    if total is not None and (isinstance(total, bool) or not isinstance(total, int) or total < 0):
        raise SettingsError(f"watch: total is a whole number from 0, not {total!r}")
    if isinstance(thing, TaskTracker | ServiceView | TaskExecutor | WorkerPool):
        _DESK.watch(_DESK.view_of(thing))
        return None
    if not isinstance(thing, Observable):
        raise SettingsError(
            f"watch() shows a tracker, a service, an executor, a pool or an observable, not {type(thing).__name__}"
        )
    from rxtasks.engine.mapping import MapStream

    return watched(thing, _DESK.follow, title or ("map" if isinstance(thing, MapStream) else "stream"), total)


def record(service: TaskService | TaskExecutor, *, limit: int = 100_000) -> Recording:
    """Record every attempt of every task of `service` (or of an executor's) from now on; call it again after each start.

    Idempotent. Without it, `timeline` and `attempts` know the last attempt of each task only. `limit`: ended attempts kept.

    Raises:
        SettingsError: it is no service, or `limit` no number.
    """
    if isinstance(limit, bool) or not isinstance(limit, int) or limit < 1:
        raise SettingsError(f"record: limit is a whole number from 1, not {limit!r}")
    return _DESK.record(_service("record", service), limit)


def frame(
    service: TaskService | TaskExecutor,
    *,
    status: TaskStatus | str | None = None,
    name: str | None = None,
    tag: str | None = None,
    worker: str | None = None,
    older_than: float | timedelta | None = None,
    limit: int | None = None,
) -> Any:
    """Return a pandas DataFrame of the tasks that the service remembers (`retain`), one a row, in order of arrival.

    Columns: task_id, name, status, worker (text), attempt, crashes (integers), created, started, finished (UTC), waited and
    seconds (floats), error_type, error (text), tags. The types are the same whatever there is, also of no tasks. The
    filters are those of `service.list`; `limit`: the latest so many.

    Raises:
        RxTasksError: pandas is not installed.
        SettingsError: it is no service, or a filter is wrong.
    """
    if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 0):
        raise SettingsError(f"frame: limit is a whole number from 0, not {limit!r}")
    filters = {"status": status, "name": name, "tag": tag, "worker": worker, "older_than": older_than}
    return tasks_frame(_service("frame", service), filters, limit)


def attempts(service: TaskService | TaskExecutor) -> Any:
    """Return a pandas DataFrame of attempts, one a row: those recorded, of other tasks the last one.

    Columns: task_id, name, attempt, worker, outcome, started, finished (UTC), seconds, error.

    Raises:
        RxTasksError: pandas is not installed.
        SettingsError: it is no service.
    """
    service = _service("attempts", service)
    return attempts_frame(service, _DESK.recording_of(service))


def timeline(service: TaskService | TaskExecutor, *, limit: int = 5_000) -> Any:
    """Return an altair chart: a lane for each worker, a bar for each attempt, coloured by how it ended.

    `record(service)` before the tasks run, to see every attempt; without it the last one of each task is shown.
    `limit`: the latest attempts that are drawn.

    Raises:
        RxTasksError: altair is not installed.
        SettingsError: it is no service, or `limit` no number.
    """
    if isinstance(limit, bool) or not isinstance(limit, int) or limit < 1:
        raise SettingsError(f"timeline: limit is a whole number from 1, not {limit!r}")
    service = _service("timeline", service)
    return timeline_chart(service, _DESK.recording_of(service), limit)


def _service(what: str, thing: Any) -> TaskService:
    found = thing.service if isinstance(thing, TaskExecutor) else getattr(thing, "_service", None)
    if not isinstance(found, TaskService):
        raise SettingsError(f"{what}() takes a service or an executor, not {thing!r}")
    return found


def bundle(thing: Any, include: Any = None, exclude: Any = None) -> dict[str, Any]:
    """Return the picture of `thing` by MIME type; what `_repr_mimebundle_` of the package's classes returns."""
    made = _DESK.bundle(thing)
    if include:
        made = {kind: value for kind, value in made.items() if kind in include}
    if exclude:
        made = {kind: value for kind, value in made.items() if kind not in exclude}
    return made


def load_ipython_extension(shell: Any) -> None:
    """`%load_ext rxtasks.jupyter`: a cell that is run again loses its unnamed subscriptions before it runs, even if its
    new text subscribes to nothing; and an interrupt ends an `await` at once, not when the loop next has something to do.
    """
    shell.events.register("pre_run_cell", _before_cell)
    _WAKEUP.enable()


def unload_ipython_extension(shell: Any) -> None:
    """`%unload_ext rxtasks.jupyter`."""
    shell.events.unregister("pre_run_cell", _before_cell)
    _WAKEUP.disable()


def _before_cell(info: Any) -> None:
    cell_id = getattr(info, "cell_id", None)
    if cell_id is not None:
        _DESK.names.end_cell(cell_id)
