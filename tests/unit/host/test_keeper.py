"""The thread that looks after a pool."""

from __future__ import annotations

import socket
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from rxtasks.host.keeper import Keeper
from rxtasks.host.notify import Notifier
from rxtasks.host.wake import Ask

WELL = {
    "ok": True,
    "running": True,
    "core_alive": True,
    "store": None,
    "paused": None,
    "active": 2,
    "busy": 1,
    "pending": 3,
    "running_tasks": 1,
}


class Pool:
    """As much of a host as is looked at; its health is what the test says."""

    stopping = False
    processing = True

    def __init__(self) -> None:
        self.service = self
        self.state: dict[str, Any] = dict(WELL)

    def health(self) -> dict[str, Any]:
        return self.state

    def failure(self) -> str:
        return "it failed"

    def seen(self) -> None:
        """Leave no sign."""


def received(manager: socket.socket, number: int) -> list[str]:
    return [manager.recv(4096).decode() for _ in range(number)]


def test_the_watchdog_is_fed_while_the_pool_is_well_and_no_longer(tmp_path: Path) -> None:
    """WATCHDOG=1 only while a restart would cure nothing; the status says what is wrong."""
    manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    manager.bind(str(tmp_path / "n"))
    manager.settimeout(30)
    pool, asked = Pool(), SimpleQueue[Ask]()
    keeper = Keeper(pool, Notifier(str(tmp_path / "n"), watchdog=0.15), asked.put)  # type: ignore[arg-type]
    keeper.start()
    try:
        assert "STATUS=2 workers, 1 busy, 3 tasks pending, 1 running" in (first := received(manager, 4))
        assert "WATCHDOG=1" in first
        pool.state = {**WELL, "ok": False, "store": "the disk is full"}
        while "the disk is full" not in received(manager, 1)[0]:
            pass
        assert "WATCHDOG=1" in received(manager, 4), "running tasks go on: no restart gives the disk room"
        pool.state = {**WELL, "ok": False, "active": 0}
        while "0 workers" not in received(manager, 1)[0]:
            pass
        assert not [one for one in received(manager, 10) if one.startswith("WATCHDOG")]
        pool.state = dict(WELL)
        while received(manager, 1) != ["WATCHDOG=1"]:
            pass
        pool.state = {**WELL, "running": False, "core_alive": False}
        assert asked.get(timeout=30).failed
    finally:
        keeper.stop()
        manager.close()
