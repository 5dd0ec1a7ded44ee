"""What arrives wakes the core: nothing that comes round by itself would find it in time."""

from __future__ import annotations

from pathlib import Path

import pytest

from rxtasks import TaskService
from tests.chaos.durable import add
from tests.chaos.support import LONG

#: Seconds between what happens by itself: a task that nobody is woken for waits for so long.
_HOUR = 3600.0


@pytest.mark.parametrize("isolation", ["process", "thread"])
@pytest.mark.parametrize("store", ["memory", "sqlite"])
def test_a_task_that_comes_while_all_sleep_begins_at_once(tmp_path: Path, store: str, isolation: str) -> None:
    """W-12: a submit wakes the engine, whatever polls and beats how seldom; also what is resumed, and what is moved forward."""
    quiet = {"heartbeat": _HOUR, "poll_interval": _HOUR, "idle_backoff_max": _HOUR}
    quiet |= {"lease": 2 * _HOUR, "lease_renewal": _HOUR, "pause_memory": None, "pause_stall": None}
    url = "memory" if store == "memory" else f"sqlite:///{tmp_path / 'tasks.db'}"
    with TaskService(
        1, isolation=isolation, store=url, modules=["tests.chaos.durable"], echo=None, on_exit="force", **quiet
    ) as made:
        made.start()
        for _ in range(3):
            assert 3 == made.submit(add, 1, 2).result(LONG)
            assert made.flush(LONG)
        made.pause()
        paused = made.submit(add, 2, 2)
        made.resume()
        assert 4 == paused.result(LONG)
        later = made.with_options(delay=_HOUR).submit(add, 3, 2)
        made.update(later.task_id, run_at=made.get(later.task_id).created_at)
        assert 5 == later.result(LONG)
