"""The thread that a driver runs on: begun before the engine is there, because a start waits longest for the guardian.

::

    caller       begin ──── imports the engine, makes it ──── run ──> waits until workers are ready
                   │                                           │
    this thread    └─> starts the guardian ────── sleeps ──────┴─> the driver's loop: the first fork, ...
    guardian              └──── loads what workers need ─────────────────┘

The kernel tells worker processes, and the guardian, that their parent has ended when the *thread* that started them has
(PR_SET_PDEATHSIG). So nobody else may start them: this thread lives as long as the engine.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

from rxtasks.forking import no_longer, put_right
from rxtasks.isolation.guardian import Guardian

__all__ = ["CoreThread"]

_NAME: Final = "rxtasks-core"


class CoreThread:
    """A thread that sleeps until it is given its work. Holds no thread and no descriptor until it is begun.

    Args:
        guardian: process workers are wanted, and a guardian for them.
        forks: it loads what they need, and they are forked from it.
    """

    def __init__(self, *, guardian: bool, forks: bool = True) -> None:
        self.guardian = Guardian(wanted=guardian, forks=forks)
        self._thread: threading.Thread | None = None
        self._work: Callable[[], None] | None = None
        self._given = threading.Event()

    def begin(self) -> None:
        """Start the thread, and from it the guardian, whose answer nobody waits for; idempotent.

        Raises:
            RuntimeError: there is no room for another thread.
        """
        if self._thread is not None:
            return
        self._given.clear()
        begun = threading.Event()
        thread = threading.Thread(target=self._main, args=(begun,), name=_NAME, daemon=True)
        thread.start()
        self._thread = thread
        put_right(self)
        begun.wait()

    def run(self, work: Callable[[], None]) -> None:
        """Have the thread do this, once.

        Raises:
            RuntimeError: there is no room for another thread.
        """
        self.begin()
        self._work = work
        self._given.set()

    def abandon(self) -> None:
        """End the thread and the guardian, if no work has been given; then it can be begun anew."""
        thread = self._thread
        if thread is None or self._given.is_set():
            return
        self._given.set()
        thread.join()
        self._thread = None
        no_longer(self)

    def is_alive(self) -> bool:
        """Return whether the thread has begun and not ended."""
        return self._thread is not None and self._thread.is_alive()

    def _main(self, begun: threading.Event) -> None:
        try:
            self.guardian.begin()
        finally:
            begun.set()
        self._given.wait()
        work, self._work = self._work, None
        if work is None:
            self.guardian.close()
        else:
            work()

    def after_fork(self) -> None:
        """In a forked child of the parent: there is no such thread."""
        self._thread = None
        self._given = threading.Event()
        self.guardian.after_fork()
