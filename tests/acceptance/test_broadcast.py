"""Commands to every worker of a pool, acknowledged by each (W-14), with real workers."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from rxtasks import PayloadError, TaskContext, TaskService

WAIT = 30.0


def leave_mark(folder: str) -> None:
    name = f"{os.getpid()}-{threading.get_ident()}"
    (Path(folder) / name).touch(exist_ok=False)


def refuse() -> None:
    raise ValueError("not here")


def report_checkpoint(started: str, ctx: TaskContext) -> bool:
    """Run until a checkpoint is asked for."""
    Path(started).touch()
    waited = threading.Event()
    for _ in range(int(WAIT * 100)):
        if ctx.checkpoint_requested:
            return True
        waited.wait(0.01)
    return False


@pytest.mark.parametrize("isolation", ["process", "thread"])
def test_a_call_reaches_every_worker_once(isolation: str, tmp_path: Path) -> None:
    """W-14: a hook is acknowledged by each worker, and each has called it once."""
    with TaskService(workers=3, isolation=isolation) as service:
        service.start()
        answers = service.pool.call(leave_mark, str(tmp_path), timeout=WAIT)
        assert answers == dict.fromkeys((info.worker_id for info in service.workers()), None)
        assert len(list(tmp_path.iterdir())) == 3
        # It is forgotten afterwards: the next one is another.
        assert len(service.pool.call(leave_mark, str(tmp_path / "nowhere"), timeout=WAIT)) == 3
        assert service.submit(os.getpid).result(WAIT) > 0


@pytest.mark.parametrize("isolation", ["process", "thread"])
def test_what_a_call_raises_is_its_answer_and_harms_nothing(isolation: str) -> None:
    """W-14, E-07: a failing hook is reported with its worker, and the worker goes on."""
    with TaskService(workers=2, isolation=isolation) as service:
        service.start()
        answers = service.pool.call(refuse, timeout=WAIT)
        assert len(answers) == 2
        assert all("ValueError: not here" in (text or "") for text in answers.values())
        assert service.submit(abs, -3).result(WAIT) == 3


def test_an_inline_worker_refuses_and_says_why() -> None:
    """W-14: there is no thread on which it could be called."""
    with TaskService(workers=1, isolation="inline") as service:
        service.start()
        (text,) = service.pool.call(refuse, timeout=WAIT).values()
        assert text is not None and "no thread of its own" in text


def test_a_call_that_cannot_travel_is_refused() -> None:
    """R26, W-14: refused where it was asked for, and nobody is asked."""
    with TaskService(workers=1) as service:
        service.start()
        with pytest.raises(PayloadError):
            service.pool.call(print, threading.Lock(), timeout=WAIT)


@pytest.mark.parametrize("isolation", ["process", "thread"])
def test_a_checkpoint_is_asked_of_what_runs(isolation: str, tmp_path: Path) -> None:
    """W-14: acknowledged by the worker whose task has been told, and by no idle one."""
    started = tmp_path / "started"
    with TaskService(workers=2, isolation=isolation) as service:
        service.start()
        running = threading.Event()
        tracker = service.submit(report_checkpoint, str(started))
        tracker.statuses.subscribe(lambda event: running.set())
        assert running.wait(WAIT)
        answers = service.pool.checkpoint(timeout=WAIT)
        assert tracker.result(WAIT) is True
        assert len(answers) == 1 and set(answers.values()) == {None}
        assert service.pool.checkpoint(timeout=WAIT) == {}
        assert len(service.pool.ping(timeout=WAIT)) == 2
