"""Live views: a card that is looked at again and again, and whoever shows it is told when it has changed.

Nothing subscribes here, so a view costs the tasks nothing whatever they do: one thread (`Pulse`) reads what trackers and
pools show of themselves anyway, at most ten times a second and once a second while nothing changes, and sends only what
is different. `wake` shortens the wait. The thread ends with the last live view.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextvars import copy_context

from rxtasks.jupyter.card import Card
from rxtasks.reactive.subject import log_problem

__all__ = ["IDLE", "INTERVAL", "LiveView", "Pulse"]

#: Seconds between two looks at a view: the least, and the most (while nothing changes).
INTERVAL = 0.1
IDLE = 1.0


class LiveView:
    """One thing that is shown, anywhere and any number of times.

    `look` makes its card; it is called until a card is over. Listeners get each card that differs from the one before.
    """

    def __init__(self, look: Callable[[], Card]) -> None:
        self._look: Callable[[], Card] | None = look
        #: What was looked like last.
        self.card = look()
        self._listeners: list[Callable[[Card], None]] = []
        self._lock = threading.Lock()
        #: Held during a look: two threads do not send in the wrong order.
        self._turn = threading.Lock()
        # The cell that shows it first is the one that what it sends belongs to.
        self._context = copy_context()
        #: time.monotonic() of the next look, and the seconds to the one after that; the pulse's own.
        self.due = 0.0
        self.pause = INTERVAL

    @property
    def over(self) -> bool:
        """True when the last card was the final one."""
        return self._look is None

    def listen(self, listener: Callable[[Card], None]) -> None:
        """Tell `listener` of every later change; one that raises is reported and hears no more."""
        with self._lock:
            self._listeners.append(listener)

    def refresh(self) -> bool:
        """Look again; tell the listeners and return True if it has changed. From any thread."""
        with self._turn:
            return self._refresh()

    def _refresh(self) -> bool:
        look = self._look
        if look is None:
            return False
        before, was_over = self.card, self.card.over
        card = self.card = look()
        if was_over and card.over:
            # Looked at once more after its end: nothing that was still on its way is missed. What it shows is let go.
            self._look = None
        if card == before:
            return False
        for listener in list(self._listeners):
            try:
                self._context.copy().run(listener, card)
            except Exception as error:
                self._listeners.remove(listener)
                log_problem("a live display could not be updated", error)
        return True


class Pulse:
    """Looks at every live view in its time, on one thread."""

    def __init__(self, interval: float = INTERVAL, idle: float = IDLE) -> None:
        self.interval = interval
        self.idle = idle
        self._views: set[LiveView] = set()
        self._changed = threading.Condition()
        self._running = False

    def add(self, view: LiveView) -> None:
        """Keep `view` up to date until it is over."""
        with self._changed:
            view.due, view.pause = time.monotonic() + self.interval, self.interval
            self._views.add(view)
            self._changed.notify()
            if not self._running:
                self._running = True
                threading.Thread(target=self._beat, name="rxtasks-display", daemon=True).start()

    def wake(self, view: LiveView) -> None:
        """Look at `view` soon: something has happened. From any thread; never more often than the interval."""
        with self._changed:
            view.pause = self.interval
            soon = time.monotonic() + self.interval
            if view.due > soon:
                view.due = soon
                self._changed.notify()

    def _beat(self) -> None:
        while True:
            with self._changed:
                if not self._views:
                    self._running = False
                    return
                now = time.monotonic()
                due = [view for view in self._views if view.due <= now]
                if not due:
                    self._changed.wait(min(view.due for view in self._views) - now)
                    continue
            for view in due:
                self._look_at(view)

    def _look_at(self, view: LiveView) -> None:
        try:
            changed = view.refresh()
        except Exception as error:
            log_problem("a live display failed and ends", error)
            with self._changed:
                self._views.discard(view)
            return
        with self._changed:
            if view.over:
                self._views.discard(view)
                return
            quiet = not changed and not view.card.over
            view.pause = min(2 * view.pause, self.idle) if quiet else self.interval
            view.due = time.monotonic() + view.pause
