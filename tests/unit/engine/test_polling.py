"""W-12: how often a service looks for tasks that others have put into the store."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rxtasks import TaskService, task
from rxtasks.engine.polling import Polling

LONG = 30.0


@task
def answered() -> int:
    return 42


@given(
    first=st.floats(0.01, 100),
    most=st.floats(0.01, 1000),
    claims=st.lists(st.integers(0, 3), max_size=40),
)
def test_waits_double_up_to_the_most_and_begin_again_with_a_claim(first: float, most: float, claims: list[int]) -> None:
    """W-12: whatever is claimed when."""
    polling = Polling(first, most)
    expected = polling.next()
    assert expected == first
    for times in claims:
        too_long = [polling.claimed() for _ in range(times)]
        assert too_long == [expected > first] * times
        expected = first if times else min(2 * expected, max(first, most))
        assert expected == polling.next()


class Recorded:
    """The recording of a service, as it grows."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def steps(self) -> Iterator[dict[str, Any]]:
        """Yield the steps that were taken so far."""
        for line in self._path.read_text("utf-8").splitlines(keepends=True):
            if line.endswith("\n"):
                step = json.loads(line)
                if "now" in step:
                    yield step

    def looks(self) -> list[float]:
        """Return when the engine was told that tasks may have arrived, in seconds."""
        return [step["now"][0] / 1e9 for step in self.steps() if any(_is(word, "WorkArrived") for word in step["in"])]

    def claims(self) -> list[float]:
        """Return when tasks were claimed."""
        return [
            step["now"][0] / 1e9
            for step in self.steps()
            if any(_is(word, "Claimed") and word["claims"] for word in step["in"])
        ]


def _is(word: Any, name: str) -> bool:
    return isinstance(word, dict) and word.get("is") == name


def wait_until(true: Callable[[], Any]) -> None:
    """Wait until it is, 30 s at most."""
    pause = threading.Event()
    for _ in range(int(LONG / 0.02)):
        if true():
            return
        pause.wait(0.02)
    pytest.fail(f"not within {LONG} s")


@pytest.fixture
def alone(tmp_path: Path) -> Callable[..., tuple[TaskService, Recorded]]:
    """A service of threads, alone on its store: nothing rings; and its recording."""

    def make(**settings: Any) -> tuple[TaskService, Recorded]:
        record = tmp_path / "record.jsonl"
        made = TaskService(
            1,
            isolation="thread",
            store=f"sqlite:///{tmp_path}/tasks.db",
            modules=[__name__],
            record=str(record),
            **settings,
        )
        return made, Recorded(record)

    return make


def gaps(times: list[float]) -> list[float]:
    return [after - before for before, after in itertools.pairwise(times)]


def test_an_idle_service_looks_less_and_less_often(alone: Callable[..., tuple[TaskService, Recorded]]) -> None:
    """W-12: after poll_interval, then twice as long each time, up to idle_backoff_max; a timer is never early."""
    service, recorded = alone(poll_interval=0.02, idle_backoff_max=0.1)
    with service:
        service.start()
        wait_until(lambda: len(recorded.looks()) >= 12)
    # The start brings a look or two of its own.
    assert all(gap >= 0.1 for gap in gaps(recorded.looks())[-6:])


def test_a_claim_brings_the_looks_back(alone: Callable[..., tuple[TaskService, Recorded]]) -> None:
    """W-12: though the next one was minutes away; and a task that is submitted here waits for no look."""
    service, recorded = alone(poll_interval=0.01, idle_backoff_max=3600.0)
    with service:
        service.start()
        wait_until(lambda: len(recorded.looks()) >= 4)
        for _ in range(4):
            least = len(recorded.looks()) + 3
            # Without the reset the fourth time would be 0.01 * 2**16 s, eleven minutes, after the start.
            wait_until(lambda least=least: len(recorded.looks()) >= least)
            assert 42 == service.submit(answered).result(LONG)
    assert 4 == len(recorded.claims())


def test_a_submit_here_waits_for_no_look(alone: Callable[..., tuple[TaskService, Recorded]]) -> None:
    """W-12: with looks that are an hour apart."""
    service, _ = alone(poll_interval=3600.0)
    with service:
        service.start()
        assert [42] * 3 == [service.submit(answered).result(LONG) for _ in range(3)]


def test_where_nothing_can_ring_a_task_of_another_process_is_found_by_looking(
    alone: Callable[..., tuple[TaskService, Recorded]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """W-12: as on a machine without inotify, or with none left."""
    monkeypatch.setattr("rxtasks.stores.sqlite.bell._libc", lambda: None)
    service, recorded = alone(poll_interval=0.05, idle_backoff_max=0.05)
    program = f"""
from rxtasks import TaskRequest, TaskService
with TaskService(0, store="sqlite:///{tmp_path}/tasks.db") as service:
    print(service.push(TaskRequest("{__name__}:answered")).task_id)
"""
    with service:
        service.start()
        wait_until(lambda: len(recorded.looks()) >= 4)
        done = subprocess.run(
            [sys.executable, "-c", program],
            cwd=Path(__file__).parents[3],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        assert 42 == service.track(done.stdout.strip()).result(LONG)
