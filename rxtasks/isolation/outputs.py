"""What a worker's process writes to its file descriptors 1 and 2, below Python's own streams.

Read by the parent: a pipe read by a thread of the same process deadlocks when C code fills it with the GIL held. While
a task is known to run, it is read at once and belongs to that task; else a little later, so that the report that a task
has begun comes first: while one is assigned, up to a second later, for the machine may be loaded. (A worker whose pipes
are not empty at the end of an attempt waits before it reports that end.) While subscribers are behind it is not read: the
pipe fills and its writer waits. Lines are cut at 64 KiB. What is left when the end of an attempt is reported, a line
without an end too, is that attempt's.
"""

from __future__ import annotations

import os
import selectors
from collections.abc import Callable

from rxtasks.forking import close_copies
from rxtasks.isolation.base import Host, Reader
from rxtasks.pool.words import Stimulus

__all__ = ["Outputs"]

_DELAY = 0.01
#: Such delays, of both streams together, that a report which is to be expected may take.
_PATIENCE = 200
_READ = 65536
_MOST_LINE = 65536
#: Bytes of standard error that are kept to explain a crash.
_TAIL = 2000
#: Bytes that one turn reads of one stream; with the pipe's own 64 KiB they bound what waits here.
_TURN = 1024 * 1024


class Outputs:
    """Both pipes of one worker."""

    def __init__(
        self,
        stdout: int,
        stderr: int,
        written: Callable[[str, list[str]], list[Stimulus]],
        runs: Callable[[], bool],
        before: Callable[[], list[Stimulus]],
        host: Host,
    ) -> None:
        self._host = host
        self._runs = runs
        #: Takes in what the worker has reported so far.
        self._before = before
        self._written = written
        self._names = {stdout: "stdout", stderr: "stderr"}
        self._partial = {stdout: b"", stderr: b""}
        self._armed: set[int] = set()
        #: Told whether something of the task that runs is still to be handed over: a line without an end, or what is
        #: left unread because subscribers are behind.
        self.on_rest: Callable[[bool], None] = lambda rest: None
        #: Says whether the report that a task has begun is to be expected.
        self.awaits: Callable[[], bool] = lambda: False
        self._patience = _PATIENCE
        self._ended: set[int] = set()
        self._tail = b""
        for fd in (stdout, stderr):
            os.set_blocking(fd, False)
            self._arm(fd)

    @property
    def tail(self) -> str:
        """The last that came from standard error, as one line."""
        return " | ".join(self._tail.decode("utf-8", "replace").split("\n")[-6:]).strip(" |")

    def _arm(self, fd: int) -> None:
        self._armed.add(fd)
        self._host.watch(fd, selectors.EVENT_READ, self._reader(fd))

    def _reader(self, fd: int) -> Reader:
        return lambda events: self._readable(fd)

    def _readable(self, fd: int) -> list[Stimulus]:
        # What was reported before this was written comes first: it may be the end of the task that ran.
        stimuli = self._before()
        if fd not in self._names:
            return stimuli
        if self._runs() and not self._host.full:
            self._patience = _PATIENCE
            return stimuli + self._drain(fd, final=False)
        # The report that a task has begun is still under way, or subscribers are behind: not now, a little later.
        self._host.unwatch(fd)
        self._armed.discard(fd)
        self._host.later(_DELAY, lambda: self._late(fd))
        self.on_rest(True)
        return stimuli

    def _late(self, fd: int) -> list[Stimulus]:
        if fd not in self._names:
            return []
        if self._host.full:
            self._host.later(_DELAY, lambda: self._late(fd))
            return []
        stimuli = self._before()
        if fd not in self._names:
            return stimuli
        if self._runs():
            self._patience = _PATIENCE
        elif self._patience and self.awaits():
            # Not again for the same task once it is over: a writer that fills the pipe would crawl.
            self._patience -= 1
            self._host.later(_DELAY, lambda: self._late(fd))
            return stimuli
        stimuli += self._drain(fd, final=False)
        if fd in self._names and fd not in self._armed and fd not in self._ended:
            self._arm(fd)
        return stimuli

    def rest(self) -> list[tuple[str, str]]:
        """Return (stream, line) of all that is there, lines without an end too: the attempt that wrote it ends."""
        found: list[tuple[str, str]] = []
        # The worker has waited until its pipes were empty: what is in them now is the next attempt's, unless they
        # were left unread for so long that it gave up.
        unread = self._host.full
        for fd, name in self._names.items():
            found += [(name, line) for line in self._lines(fd, final=True, read=unread)]
        self.on_rest(False)
        return found

    def drain(self, *, final: bool) -> list[Stimulus]:
        """Read both pipes to the end of what is there; `final`: hand over lines without an end too."""
        return [stimulus for fd in list(self._names) for stimulus in self._drain(fd, final=final)]

    def _drain(self, fd: int, *, final: bool) -> list[Stimulus]:
        lines = self._lines(fd, final=final)
        self.on_rest(any(self._partial.values()) or not self._ended.issuperset(self._names.keys() - self._armed))
        return self._written(self._names[fd], lines) if lines else []

    def _lines(self, fd: int, *, final: bool, read: bool = True) -> list[str]:
        data = [self._partial[fd]]
        taken = 0
        while read and taken < _TURN:
            try:
                chunk = os.read(fd, _READ)
            except BlockingIOError:
                break
            except OSError:
                chunk = b""
            if not chunk:
                self._forget(fd)
                break
            taken += len(chunk)
            data.append(chunk)
            if not final:
                # Once only: as soon as the pipe is empty the worker may end this attempt and begin the next one, and
                # what is read after that is the next one's. The selector calls again, behind the reports.
                break
        if not taken and not (final and data[0]):
            return []
        if self._names[fd] == "stderr":
            self._tail = (self._tail + b"".join(data[1:])[-_TAIL:])[-_TAIL:]
        *lines, rest = b"".join(data).split(b"\n")
        if rest and (final or len(rest) > _MOST_LINE):
            lines.append(rest)
            rest = b""
        self._partial[fd] = rest
        return [text for line in lines for text in _cut(line)]

    def _forget(self, fd: int) -> None:
        """Nobody can write to it any more."""
        self._host.unwatch(fd)
        self._armed.discard(fd)
        self._ended.add(fd)

    def close(self) -> None:
        """Close both pipes."""
        for fd in self._names:
            self._host.unwatch(fd)
            os.close(fd)
        self._names.clear()

    def after_fork(self) -> None:
        """In a forked child: close the copies."""
        close_copies(self._names)
        self._names.clear()


def _cut(line: bytes) -> list[str]:
    text = line.decode("utf-8", "backslashreplace").rstrip("\r")
    if len(text) <= _MOST_LINE:
        return [text]
    return [text[start : start + _MOST_LINE] for start in range(0, len(text), _MOST_LINE)]
