"""The screen of `rxtasks top`, driven by textual's pilot, on a pool in this process."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytest.importorskip("textual")

from textual.widgets import DataTable, RichLog, Static

from rxtasks.cli.top.feed import Feed, Seen
from rxtasks.cli.top.rows import headline, queue_rows
from rxtasks.cli.top.screen import TopApp
from rxtasks.configuration import Configuration, load
from rxtasks.host import PoolHost


@pytest.fixture
def configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Configuration]:
    with tempfile.TemporaryDirectory(prefix="rx") as runtime:
        monkeypatch.setenv("XDG_RUNTIME_DIR", runtime)
        monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
        yield load({"workers.count": 2, "workers.mode": "thread"}, directory=tmp_path, environ={"HOME": str(tmp_path)})


async def until(pilot: object, found: Callable[[], object], what: str) -> None:
    """Let the screen go on until something is there."""
    end = time.monotonic() + 30
    while not found():
        assert time.monotonic() < end, f"waited 30 s for {what}"
        await pilot.pause(0.05)  # type: ignore[attr-defined]


def shown(app: TopApp, name: str) -> str:
    return str(app.query_one(f"#{name}", Static).render())


def test_keys_steer_the_pool_and_the_screen_outlives_it(configuration: Configuration) -> None:
    """C-08: pause, resume, scale; the filter; the end of the pool; any size of the terminal."""

    async def drive() -> int | None:
        host = PoolHost(configuration)
        await asyncio.to_thread(host.start)
        app = TopApp(Feed(configuration))
        try:
            async with app.run_test(size=(120, 30)) as pilot:
                await until(pilot, lambda: "running | 2 workers" in shown(app, "head"), "the pool")
                assert 2 == app.query_one("#workers", DataTable).row_count
                await pilot.press("p")
                await until(pilot, lambda: shown(app, "head").startswith("paused"), "the pause")
                await pilot.press("p")
                await until(pilot, lambda: shown(app, "head").startswith("running"), "its end")
                await pilot.press("+")
                await until(pilot, lambda: "3 workers" in shown(app, "head"), "a third worker")
                await pilot.press("c")
                await until(pilot, lambda: "no task to select" in shown(app, "told"), "what there is not")
                log = app.query_one("#log", RichLog)
                await until(pilot, lambda: any("pool scaled" in str(line.text) for line in log.lines), "the log")
                await pilot.press("slash", *"scaled", "enter")
                await pilot.pause()
                assert log.lines and all("scaled" in str(line.text) for line in log.lines)
                await pilot.press("escape")
                await pilot.pause()
                assert any("worker ready" in str(line.text) for line in log.lines)
                for size in ((10, 3), (1, 1), (300, 90)):
                    await pilot.resize_terminal(*size)
                    await pilot.pause()
                await asyncio.to_thread(host.drain, force=True)
                await asyncio.to_thread(host.close)
                await until(pilot, lambda: "NO CONNECTION: the pool has ended" in shown(app, "head"), "its end")
                await pilot.press("q")
        finally:
            await asyncio.to_thread(host.close)
        return app.return_value

    assert 0 == asyncio.run(drive())


def test_what_tasks_are_called_is_shown_as_text() -> None:
    """Security rule 6: escaped; a task without progress or start has empty cells."""
    task = {"task_id": "01J" + "A" * 23, "name": "[bold]\x1b[31m\u202e", "status": "pending", "created_at": None}
    [(key, cells)] = queue_rows(Seen(tasks=(task,)))
    assert (task["task_id"], "[bold]\\x1b[31m\\u202e") == (key, cells[1])
    assert "\x1b" not in headline(Seen(trouble="a \x1b[2J pool"))
