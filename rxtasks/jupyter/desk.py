"""`Desk`: what a kernel keeps for its notebook. A kernel has one (in `rxtasks.jupyter`); tests make their own.

One live view and one widget for each thing, however often and wherever it is shown: a cell that is run again shows the
same one. What is shown is held until it is over, a pool or service only as long as the user holds it.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

from rxtasks.engine.engine import TaskEngine
from rxtasks.errors import UnknownTask
from rxtasks.futures.executor import TaskExecutor
from rxtasks.jupyter.card import Card
from rxtasks.jupyter.cards import card_of
from rxtasks.jupyter.frontend import VIEW, make_widget, show, static
from rxtasks.jupyter.live import LiveView, Pulse
from rxtasks.jupyter.named import NamedSubscriptions
from rxtasks.jupyter.recording import Recording
from rxtasks.observe.tracker import TaskTracker
from rxtasks.pool.pool import WorkerPool
from rxtasks.service import TaskService
from rxtasks.view import ServiceView

__all__ = ["Desk"]


class Desk:
    """Live views, named subscriptions and recordings of one kernel."""

    def __init__(self) -> None:
        self.pulse = Pulse()
        self.names = NamedSubscriptions()
        self._views: weakref.WeakKeyDictionary[Any, LiveView] = weakref.WeakKeyDictionary()
        self._widgets: weakref.WeakKeyDictionary[LiveView, Any] = weakref.WeakKeyDictionary()
        self._recordings: weakref.WeakKeyDictionary[TaskService, Recording] = weakref.WeakKeyDictionary()

    # -- showing -------------------------------------------------------------------------------------------------------

    def bundle(self, thing: Any) -> dict[str, Any]:
        """Return the picture of `thing` by MIME type: text, HTML, and a live widget where it still changes."""
        thing = _shown(thing)
        card = card_of(thing)
        if card.over:
            return static(card)
        return self._bundle(self.view_of(thing))

    def _bundle(self, view: LiveView) -> dict[str, Any]:
        made = static(view.card)
        widget = self._widgets.get(view)
        if widget is None:
            widget = make_widget(view)
            if widget is None:
                return made
            self._widgets[view] = widget
        return {**made, VIEW: {"version_major": 2, "version_minor": 0, "model_id": widget.model_id}}

    def view_of(self, thing: Any) -> LiveView:
        """Return the live view of a tracker, pool or service: the same one as long as that is not over."""
        thing = _shown(thing)
        view = self._views.get(thing)
        if view is None or view.over:
            view = self._views[thing] = LiveView(_look_at(thing))
            self._follow(thing, view)
            self.pulse.add(view)
        return view

    def _follow(self, thing: Any, view: LiveView) -> None:
        if isinstance(thing, TaskTracker):
            thing.future.add_done_callback(lambda _: self.pulse.wake(view))

    def watch(self, view: LiveView) -> None:
        """Show `view` in the running cell and keep it up to date there, with a widget or without."""
        update = show(self._bundle(view))
        if self._widgets.get(view) is None:
            view.listen(lambda card: update(static(card)))
        else:  # what is kept with the notebook is what it was at the end
            view.listen(lambda card: update(self._bundle(view)) if card.over else None)

    def follow(self, look: Callable[[], Card]) -> LiveView:
        """Show what `look` returns in the running cell until it is over."""
        view = LiveView(look)
        self.watch(view)
        self.pulse.add(view)
        return view

    # -- recording -----------------------------------------------------------------------------------------------------

    def record(self, service: TaskService, limit: int) -> Recording:
        """Return the recording of `service`, which goes on with its current start; made if there is none."""
        recording = self._recordings.get(service)
        if recording is None:
            recording = self._recordings[service] = Recording(limit, _names_in(weakref.ref(service)))
        recording.follow(service.events)
        return recording

    def recording_of(self, service: TaskService) -> Recording | None:
        """Return the recording of `service`, None if there is none."""
        return self._recordings.get(service)


def _shown(thing: Any) -> Any:
    """Return what is shown of `thing`: of a view and an executor the service behind it, of an engine its pool."""
    if isinstance(thing, ServiceView):
        return thing._service
    if isinstance(thing, TaskExecutor):
        return thing.service
    return thing.pool if isinstance(thing, TaskEngine) else thing


def _look_at(thing: Any) -> Callable[[], Card]:
    if isinstance(thing, TaskService | WorkerPool):
        return _look_weakly(weakref.ref(thing))
    return lambda: card_of(thing)


def _names_in(reference: weakref.ref[TaskService]) -> Callable[[str], str]:
    def name_of(task_id: str) -> str:
        service = reference()
        try:
            return "" if service is None else service.get(task_id).name
        except UnknownTask:
            return ""

    return name_of


def _look_weakly(reference: weakref.ref[Any]) -> Callable[[], Card]:
    def look() -> Card:
        thing = reference()
        return Card("pool", "gone") if thing is None else card_of(thing)

    return look
