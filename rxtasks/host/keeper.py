"""The thread that looks after a pool that runs: its health for systemd, its sign of life, whether anything is left to run."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from rxtasks.host.notify import Notifier
from rxtasks.host.wake import Ask
from rxtasks.lifecycle.status import TaskStatus
from rxtasks.text import counted

if TYPE_CHECKING:
    from rxtasks.host.pool_host import PoolHost

__all__ = ["Keeper", "left_to_run"]

#: Seconds between two signs of life in the pool's place.
_SEEN: Final = 5.0
#: Seconds between two looks at whether anything is left to run (--burst).
_BURST: Final = 0.25


class Keeper:
    """Looks at the pool until it is stopped.

    Args:
        host: what it looks at.
        notifier: is told how it is: the watchdog only as long as the pool is well.
        ask: called when the pool cannot go on, or with `burst` when nothing is left to run.
        burst: the pool ends when nothing is left to run.
    """

    def __init__(self, host: PoolHost, notifier: Notifier, ask: Callable[[Ask], None], *, burst: bool = False) -> None:
        self._host = host
        self._notifier = notifier
        self._ask = ask
        self._burst = burst
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="rxtasks-keeper", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Stop looking; returns when it has."""
        self._over.set()
        self._thread.join(10.0)

    def _run(self) -> None:
        watchdog = self._notifier.watchdog
        look = _SEEN if watchdog is None else max(0.05, min(_SEEN, watchdog / 3))
        step = min(look, _BURST) if self._burst else look
        due = time.monotonic()
        idle = 0
        while not self._over.is_set():
            if time.monotonic() >= due:
                due = time.monotonic() + look
                if not self._look():
                    return
            if self._burst and not self._host.stopping:
                # Twice: one that had just ended may have let another one run.
                began = time.monotonic()
                idle = 0 if left_to_run(self._host) else idle + 1
                # To look, a store may have to go through all that has ended.
                step = min(look, max(_BURST, 10 * (time.monotonic() - began)))
                if idle > 1:
                    self._burst = False
                    self._ask(Ask("nothing is left to run"))
            self._over.wait(max(0.01, min(step, due - time.monotonic())))

    def _look(self) -> bool:
        """Tell how the pool is; False: it cannot go on, and that has been said."""
        host = self._host
        health = host.service.health()
        if host.processing and not (health["running"] and health["core_alive"]):
            why = host.failure()
            self._notifier.status(why)
            self._ask(Ask(why, failed=True))
            return False
        if not host.stopping:
            self._notifier.status(_in_words(health))
        # Without workers on purpose (stop processing) it is well too, while it drains, and while its store cannot keep
        # anything: that is told, and a restart would cost the running tasks and cure no disk.
        if health["ok"] or health["store"] is not None or host.stopping or not health["running"]:
            self._notifier.alive()
        host.seen()
        return True


def left_to_run(host: PoolHost) -> bool:
    """Say whether something waits that this pool could run now or is to run again, or runs.

    What is due later, or depends on what is, is none of that; nor is what waits in queues that the pool does not serve.
    """
    service = host.service
    queues = host.queues
    pending = service.status().pending
    if pending and queues is not None:
        waiting = service.list(status=TaskStatus.PENDING, limit=1000)
        pending = len(waiting) if len(waiting) == 1000 else sum(task.options.queue in queues for task in waiting)
    if pending or service.status().running_tasks:
        return True
    return bool(service.list(status=TaskStatus.RETRYING, limit=1))


def _in_words(health: dict[str, Any]) -> str:
    if not health["running"]:
        return "processing is stopped"
    words = [
        counted(health["active"], "worker"),
        f"{health['busy']} busy",
        f"{health['pending']:,} tasks pending",
        f"{health['running_tasks']:,} running",
    ]
    for trouble in (health["store"], health["paused"]):
        if trouble:
            words.append(str(trouble))
    return ", ".join(words)
