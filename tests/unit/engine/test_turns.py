"""What is shown of workers that turn busy and idle while a subscriber of the pool is slow."""

from __future__ import annotations

import threading

from rxtasks import TaskService, WorkerEvent, WorkerStatus
from rxtasks.clock import utc_from_us
from rxtasks.pool.words import Announce, ShowTurned

WAIT = 30.0


def test_the_latest_turn_of_a_worker_comes_before_its_end() -> None:
    """W-02: what was kept back because too much waited is shown before what follows it."""
    entered, shown, go, over = (threading.Event() for _ in range(4))
    seen: list[str] = []

    def slow(event: WorkerEvent) -> None:
        entered.set()
        go.wait(WAIT)
        if event.worker_id == "w":
            seen.append(event.kind)
            if event.kind == "stopped":
                over.set()

    with TaskService(1, isolation="thread", stall_timeout=60.0) as service:
        service.pool.subscribe(slow)
        service.start()
        assert entered.wait(WAIT)
        outlet = service.engine.outlet

        def show() -> list[object]:
            for number in range(1501):
                status = WorkerStatus.BUSY if number % 2 == 0 else WorkerStatus.IDLE
                outlet.show_turned(ShowTurned("w", status, number))
            for kind in ("stopping", "stopped"):
                outlet.announce(Announce(WorkerEvent(kind, "w", utc_from_us(0))))
            shown.set()
            return []

        service.engine.driver.call(show)  # type: ignore[arg-type]
        assert shown.wait(WAIT)
        go.set()
        assert over.wait(WAIT)
    assert len(seen) < 1503  # some were kept back, and overwritten
    assert ["busy", "stopping", "stopped"] == seen[-3:]
