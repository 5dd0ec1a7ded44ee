"""The screen of `rxtasks top`: panes that show what the feed has seen, and keys that give it orders."""

from __future__ import annotations

import signal
from collections import deque
from typing import Any, ClassVar, Final

from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.widgets import DataTable, Footer, Input, RichLog, Static

from rxtasks.cli.codes import DONE, INTERRUPTED
from rxtasks.cli.top.feed import Feed
from rxtasks.cli.top.rows import QUEUE, WORKERS, headline, queue_rows, worker_rows
from rxtasks.control.client import ControlClient, quoted
from rxtasks.logs import LogFilter, LogLine, render
from rxtasks.text import shown

__all__ = ["TopApp", "run"]

#: Seconds between two drawings.
_DRAW: Final = 0.25
#: Lines of the log that are kept, and filtered anew.
_KEPT: Final = 2000
_STYLES: Final = {"WARNING": "yellow", "ERROR": "red", "CRITICAL": "bold red", "DEBUG": "dim", "TRACE": "dim"}


def run(feed: Feed) -> int:
    """Show the pool until q, Ctrl-C or a signal, and return the exit code; the terminal is as it was."""
    return TopApp(feed).run() or DONE


class TopApp(App[int]):
    """See the module."""

    ENABLE_COMMAND_PALETTE = False
    TITLE = "rxtasks top"
    CSS = """
    #head { height: 1; background: $primary; color: $text; text-style: bold; }
    #panes { height: 1fr; min-height: 4; }
    #workers, #queue { width: 1fr; }
    #log { height: 1fr; border-top: solid $primary; }
    #log:focus { border-top: solid $accent; }
    #filter { display: none; height: 1; border: none; padding: 0; }
    #told { height: 1; color: $text-muted; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q", "leave", "Quit"),
        Binding("ctrl+c", "leave", "Quit", show=False, priority=True),
        Binding("p", "pause", "Pause/resume"),
        Binding("plus", "scale(1)", "Scale", key_display="+/-"),
        Binding("minus", "scale(-1)", "Scale", show=False),
        Binding("c", "cancel", "Cancel task"),
        Binding("k", "kill", "Kill worker"),
        Binding("r", "restart", "Restart worker"),
        Binding("slash", "filter", "Filter"),
        Binding("escape", "unfilter", "All lines", show=False),
    ]

    def __init__(self, feed: Feed) -> None:
        super().__init__()
        self.feed = feed
        self._kept: deque[LogLine] = deque(maxlen=_KEPT)
        self._wanted = LogFilter()
        self._drawn: dict[str, Any] = {}

    def compose(self) -> ComposeResult:
        """Make the panes."""
        yield Static("", id="head", markup=False)
        with Horizontal(id="panes"):
            yield DataTable[Text](id="workers", cursor_type="row", zebra_stripes=True)
            yield DataTable[Text](id="queue", cursor_type="row", zebra_stripes=True)
        yield RichLog(id="log", max_lines=_KEPT, markup=False, highlight=False, wrap=False)
        yield Input(id="filter", placeholder="text of lines to show, then Enter; Esc shows all", compact=True)
        yield Static("", id="told", markup=False)
        yield Footer()

    def on_mount(self) -> None:
        """Begin to look and to draw."""
        import asyncio

        loop = asyncio.get_running_loop()
        for number, code in ((signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGINT, INTERRUPTED)):
            try:
                loop.add_signal_handler(number, self.exit, code)
            except (NotImplementedError, RuntimeError, ValueError):  # not the main thread: a test
                break
        for name, head in (("workers", WORKERS), ("queue", QUEUE)):
            table = self._table(name)
            for word in head:
                table.add_column(word, key=word)
        self._table("workers").focus()
        self.feed.start()
        self.set_interval(_DRAW, self.draw)
        self.draw()

    def on_unmount(self) -> None:
        """Look no more."""
        self.feed.stop()

    # -- drawing -------------------------------------------------------------------------------------------------------

    def draw(self) -> None:
        """Show what has been seen since the last time."""
        seen = self.feed.seen
        self._put("head", headline(seen))
        self._put("told", shown(seen.told))
        self._fill("workers", worker_rows(seen))
        self._fill("queue", queue_rows(seen))
        lines = self.feed.take_lines()
        self._kept.extend(lines)
        self._write(lines)

    def _put(self, name: str, text: str) -> None:
        if self._drawn.get(name) != text:
            self._drawn[name] = text
            self.query_one(f"#{name}", Static).update(text)

    def _table(self, name: str) -> DataTable[Text]:
        return self.query_one(f"#{name}", DataTable)

    def _fill(self, name: str, rows: list[tuple[str, tuple[str, ...]]]) -> None:
        """Show the rows; the selection stays with what is selected."""
        if self._drawn.get(name) == rows:
            return
        self._drawn[name] = rows
        table = self._table(name)
        selected, index = self._selected(name), table.cursor_row
        table.clear()
        for key, cells in rows:
            # Text, not str: what a task is called is no markup.
            table.add_row(*map(Text, cells), key=key)
        keys = [key for key, _ in rows]
        if keys:
            table.move_cursor(row=keys.index(selected) if selected in keys else min(index, len(keys) - 1))

    def _write(self, lines: list[LogLine]) -> None:
        log = self.query_one("#log", RichLog)
        for line in lines:
            if self._wanted.matches(line):
                log.write(Text(render(line, "plain"), style=_STYLES.get(line.level, "")))

    def _selected(self, name: str) -> str | None:
        table = self._table(name)
        if not table.row_count:
            return None
        return table.coordinate_to_cell_key(table.cursor_coordinate).row_key.value

    # -- keys ----------------------------------------------------------------------------------------------------------

    def action_leave(self) -> None:
        """q: quit."""
        self.exit(DONE)

    def action_pause(self) -> None:
        """p: pause, or resume where it is paused."""
        status = self.feed.seen.status
        paused = status is not None and bool(status["pool"].get("paused"))
        word = "resume" if paused else "pause"

        def order(client: ControlClient) -> str:
            client.post(f"/v1/processing/{word}")
            return "resumed" if paused else "paused; p resumes"

        self.feed.order(order)

    def action_scale(self, step: int) -> None:
        """+ and -: one worker more or less."""

        def order(client: ControlClient) -> str:
            pool = client.get("/v1/status")["pool"]
            # Those that leave are no longer wanted.
            wanted = max(1, pool["workers"] - pool["stopping"] + step)
            return f"the pool will have {client.post('/v1/scale', {'count': wanted})['count']} workers"

        self.feed.order(order)

    def action_cancel(self) -> None:
        """c: cancel the selected task."""
        self._with("queue", "task", "/v1/tasks/{}/cancel", "cancel of task {} is asked for")

    def action_kill(self) -> None:
        """k: kill the selected worker."""
        self._with("workers", "worker", "/v1/workers/{}/kill", "worker {} is killed; what it ran is run again")

    def action_restart(self) -> None:
        """r: restart the selected worker."""
        self._with(
            "workers", "worker", "/v1/workers/{}/restart", "worker {} is replaced when it has ended what it runs"
        )

    def _with(self, pane: str, noun: str, path: str, told: str) -> None:
        selected = self._selected(pane)
        if selected is None:
            self.feed.order(lambda client: f"there is no {noun} to select")
            return

        def order(client: ControlClient, selected: str = selected) -> str:
            client.post(path.format(quoted(selected)))
            return told.format(selected)

        self.feed.order(order)

    def action_filter(self) -> None:
        """/: ask for the text of the lines to show."""
        box = self.query_one("#filter", Input)
        box.display = True
        box.focus()

    def action_unfilter(self) -> None:
        """Esc: show all lines again."""
        self._leave_box()
        self._filter("")

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Enter: show the lines with this text."""
        self._leave_box()
        self._filter(event.value.strip())

    def _leave_box(self) -> None:
        box = self.query_one("#filter", Input)
        box.display = False
        self.query_one("#log", RichLog).focus()

    def _filter(self, text: str) -> None:
        self._wanted = LogFilter(text=text or None)
        log = self.query_one("#log", RichLog)
        log.clear()
        log.border_title = f"lines with {shown(text)!r}" if text else ""
        self._write(list(self._kept))
