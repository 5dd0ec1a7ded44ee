"""The operators' types, as a user's checker sees them."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

CODE = """
import asyncio
from reactivex import Observable
from rxtasks.lifecycle.events import LogEvent, OutputEvent, ProgressEvent, StatusEvent, TaskEvent
from rxtasks.operators import (
    batch, buffer_bounded, deliver_on, latest, logs, of_task, outputs, progress, statuses, terminal,
)
from rxtasks.reactive.aiterate import aiterate
from rxtasks.reactive.iterate import iterate
from rxtasks.reactive.subject import RxSubject

bus: RxSubject[TaskEvent] = RxSubject()


def lines(events: list[LogEvent]) -> None: ...
def bar(event: ProgressEvent) -> None: ...
def change(event: StatusEvent) -> None: ...
def value(event: OutputEvent) -> None: ...
def number(value: int) -> None: ...


bus.pipe(logs("INFO"), batch(10, 1.0)).subscribe(lines)
bus.pipe(of_task("x"), progress(), latest()).subscribe(bar)
bus.pipe(progress(), latest(key=lambda event: event.task_id)).subscribe(bar)
bus.pipe(statuses(), of_task("x"), buffer_bounded(5, on_full="drop_oldest")).subscribe(change)
bus.pipe(terminal(), deliver_on(lambda call: call())).subscribe(change)
bus.pipe(outputs(), buffer_bounded(3, scheduler=None)).subscribe(value)
dropped: int = bus.pipe(latest()).dropped

numbers: Observable[int] = Observable()
numbers.pipe(buffer_bounded(3)).subscribe(number)
for item in iterate(numbers, buffersize=3):
    number(item)
with iterate(bus.pipe(logs())) as items:
    lines(list(items))


async def main() -> None:
    numbers.pipe(buffer_bounded(3, scheduler=asyncio.get_running_loop())).subscribe(number)
    async with aiterate(bus.pipe(statuses())) as events:
        async for event in events:
            change(event)
    reveal_type(bus.pipe(logs("INFO"), batch(10, 1.0)))
"""


@pytest.mark.slow
def test_a_users_code_checks_strictly(tmp_path: Path) -> None:
    """The contract: py.typed, and mypy --strict is clean for users too."""
    pytest.importorskip("mypy")
    file = tmp_path / "user.py"
    file.write_text(CODE)
    root = Path(__file__).parents[3]
    command = [
        sys.executable,
        "-m",
        "mypy",
        "--strict",
        "--follow-imports=silent",
        f"--cache-dir={tmp_path}",
        str(file),
    ]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=110, check=False)
    assert "error" not in done.stdout, done.stdout
    assert re.search(r"Strategy\[.*list\[rxtasks.lifecycle.events.LogEvent\]\]", done.stdout)
