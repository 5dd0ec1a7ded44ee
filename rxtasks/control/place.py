"""Where a pool is found: three files of one name in the user's directory, one name for each store.

::

    $XDG_RUNTIME_DIR/rxtasks/pool-<hash>.lock   locked (flock) by the process that runs the pool, as long as it lives
                                        .info   what that process has told of itself, as JSON
                                        .sock   where its control server answers

Whoever holds the lock runs the pool, and nobody else does: the kernel lets go of it with the end of the process, whatever
that was, so no file that was left behind is ever taken for a pool. A child that is forked closes its copy (rxtasks.forking),
and what is executed gets none. The info stays after a kill -9, and says who it was; an orderly end takes all three along.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final

import attrs

from rxtasks.control.canonical import MEMORY, redacted, short_name
from rxtasks.control.directory import find_directory, opened
from rxtasks.control.errors import PoolRuns
from rxtasks.errors import SettingsError
from rxtasks.forking import close_copies, no_longer, put_right

__all__ = ["Dead", "Held", "Place", "PoolInfo", "PoolRuns", "Running"]

_LOCK: Final = ".lock"
_INFO: Final = ".info"
_SOCKET: Final = ".sock"
#: Seconds that who holds the lock has to say who it is.
_PATIENCE: Final = 1.0
_LOOK: Final = 0.01
#: Seconds for which what is left of a pool in memory is kept; nobody starts at its place again.
_KEPT: Final = 86_400.0
#: Bytes of an info at most: more is none of ours.
_MOST: Final = 64 * 1024


@attrs.frozen
class PoolInfo:
    """What a pool has told of itself at its start."""

    pid: int
    #: The store as it may be shown.
    store: str
    #: In UTC.
    started_at: datetime
    #: Directory of its log files, None = none.
    logs: str | None = None
    #: "process", "thread" or "inline".
    mode: str | None = None
    #: Where it listens beside its socket, as "127.0.0.1:8080"; None = nowhere.
    listen: str | None = None
    #: When the process was started, in ticks since the machine's; tells it from a later one of the same number.
    ticks: int = 0
    #: Whatever else it has told.
    more: Mapping[str, Any] = attrs.field(factory=dict)

    @property
    def alive(self) -> bool:
        """Whether that very process is there, as far as can be seen from here."""
        return self.ticks != 0 and _ticks(self.pid) == self.ticks

    def to_json(self) -> bytes:
        """Return it as one JSON object."""
        body = attrs.asdict(self, recurse=False) | {"started_at": self.started_at.isoformat(), "more": dict(self.more)}
        return json.dumps(body).encode()

    @staticmethod
    def from_json(data: bytes) -> PoolInfo | None:
        """Return what `to_json` wrote; None where it is something else."""
        try:
            body = json.loads(data)
            known = {key: value for key, value in body.items() if key in _FIELDS}
            info = PoolInfo(**{**known, "started_at": datetime.fromisoformat(body["started_at"])})
            return info if type(info.pid) is int and type(info.ticks) is int and type(info.store) is str else None
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return None


_FIELDS: Final = frozenset(field.name for field in attrs.fields(PoolInfo))


@attrs.frozen
class Running:
    """A pool that runs."""

    #: Its process; None: it has not said yet.
    pid: int | None
    #: Path of its control socket.
    socket: str
    info: PoolInfo | None


@attrs.frozen
class Dead:
    """A pool that ended without saying so: it was killed, or its machine was."""

    info: PoolInfo


class Held:
    """The place, held by this process until release()."""

    def __init__(self, place: Place, fd: int, info: PoolInfo) -> None:
        self.place = place
        self.info = info
        self._fd = fd
        #: The directory, locked too: what tidies up temporary files (systemd-tmpfiles) leaves it alone then.
        self._folder = _keep(place.directory)
        put_right(self)

    @property
    def socket(self) -> str:
        """Path of the control socket."""
        return self.place.socket

    def tell(self, **facts: Any) -> None:
        """Add to what is told of the pool: fields of PoolInfo, and whatever else."""
        known = {name: value for name, value in facts.items() if name in _FIELDS}
        more = {name: value for name, value in facts.items() if name not in _FIELDS}
        self.info = attrs.evolve(self.info, **{**known, "more": {**self.info.more, **more}})
        self.place._write(self.info)

    def release(self) -> None:
        """Let go, in order: nothing is left behind. Idempotent."""
        fd, self._fd = self._fd, -1
        if fd < 0:
            return
        no_longer(self)
        with contextlib.suppress(OSError, SettingsError), opened(self.place.directory) as folder:
            self.place._remove(folder)
        os.close(fd)
        if self._folder >= 0:
            os.close(self._folder)

    def after_fork(self) -> None:
        """A forked child does not hold it."""
        fd, self._fd = self._fd, -1
        close_copies((fd, self._folder))

    def __enter__(self) -> Held:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


class Place:
    """The place of one store's pool. Make one with `Place.of`."""

    def __init__(self, directory: str, name: str, store: str) -> None:
        self.directory = directory
        self.name = name
        #: The store as it may be shown.
        self.store = store

    def __repr__(self) -> str:
        return f"<Place {self.name} of {self.store}>"

    @staticmethod
    def of(store: str, environ: Mapping[str, str] | None = None, *, pid: int | None = None) -> Place:
        """Return the place of a store's pool. Two spellings of one store have one; a store in memory is that of a process.

        Args:
            store: a URL, as TaskService takes it.
            environ: None = this process's.
            pid: the process whose memory it is; None = this one.

        Raises:
            SettingsError: there is no safe directory.
        """
        return Place(find_directory(environ), short_name(store, pid), redacted(store))

    @staticmethod
    def all(environ: Mapping[str, str] | None = None) -> list[Running | Dead]:
        """Return the pools of this user: those that run, the latest first, then those that were killed."""
        directory = find_directory(environ)
        names = sorted({name.rpartition(".")[0] for name in os.listdir(directory) if name.endswith(_INFO)})
        found = [Place(directory, name, "").find() for name in names]
        running = [one for one in found if isinstance(one, Running)]
        dead = [one for one in found if isinstance(one, Dead)]
        return [*sorted(running, key=_since, reverse=True), *sorted(dead, key=_since, reverse=True)]

    @property
    def socket(self) -> str:
        """Path of the control socket. It may be longer than an address takes: `rxtasks.control.directory.reachable`."""
        return os.path.join(self.directory, self.name + _SOCKET)

    def hold(self, **facts: Any) -> Held:
        """Become the one process that runs the store's pool.

        Args:
            facts: what is told of it, beside who and when: fields of PoolInfo, and whatever else JSON can carry.

        Raises:
            PoolRuns: another process does already, or this one.
            SettingsError: the place is not safe, or cannot be written.
        """
        until = time.monotonic() + _PATIENCE
        while True:
            try:
                with opened(self.directory) as folder:
                    fd = self._take(folder)
            except OSError as error:
                raise SettingsError(
                    f"the pool's files in {self.directory} cannot be written ({error}); check owner, mode and room"
                ) from error
            if fd is not None:
                break
            info = self._read()
            # Somebody who looks holds it for a moment; a winner has not said yet who it is.
            if (info is not None and info.alive) or time.monotonic() > until:
                raise PoolRuns(None if info is None else info.pid, self.store, info)
            time.sleep(_LOOK)
        info = PoolInfo(os.getpid(), self.store, datetime.now(UTC), ticks=_ticks(os.getpid()))
        held = Held(self, fd, info)
        try:
            held.tell(**facts)
            self._sweep()
        except BaseException:
            held.release()
            raise
        return held

    def find(self) -> Running | Dead | None:
        """Return the pool that runs here, or what is known of one that was killed; None: none ran, or it ended in order.

        Raises:
            SettingsError: the place is not safe.
        """
        until = time.monotonic() + _PATIENCE
        while True:
            if not self._is_held():
                info = self._read()
                return None if info is None else Dead(info)
            info = self._read()
            if (info is not None and info.alive) or time.monotonic() > until:
                return Running(None if info is None else info.pid, self.socket, info)
            time.sleep(_LOOK)  # it has not said yet who it is, or somebody else has just looked

    def forget(self) -> None:
        """Remove what a killed pool has left; nothing if one runs."""
        with contextlib.suppress(OSError, SettingsError), opened(self.directory) as folder:
            fd = self._take(folder)
            if fd is not None:
                self._remove(folder)
                os.close(fd)

    # -- the files -----------------------------------------------------------------------------------------------------

    def _take(self, folder: int) -> int | None:
        """Return the descriptor of the lock file, locked; None: somebody has it."""
        while True:
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
            fd = os.open(self.name + _LOCK, flags, 0o600, dir_fd=folder)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if self._is_in_place(fd, folder):
                    return fd
            except BlockingIOError:
                os.close(fd)
                return None
            except BaseException:
                os.close(fd)
                raise
            os.close(fd)  # removed meanwhile by who held it: not the file that others look at

    def _is_in_place(self, fd: int, folder: int) -> bool:
        try:
            found = os.stat(self.name + _LOCK, dir_fd=folder, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return os.path.samestat(found, os.fstat(fd))

    def _is_held(self) -> bool:
        try:
            with opened(self.directory) as folder:
                flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
                fd = os.open(self.name + _LOCK, flags, dir_fd=folder)
        except OSError:
            return False
        try:
            # Shared: of several who look at once each finds it free.
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(fd)
        return False

    def _read(self) -> PoolInfo | None:
        try:
            with opened(self.directory) as folder:
                fd = os.open(
                    self.name + _INFO, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, dir_fd=folder
                )
        except OSError:
            return None
        with os.fdopen(fd, "rb") as file:
            try:
                return PoolInfo.from_json(file.read(_MOST))
            except OSError:
                return None

    def _write(self, info: PoolInfo) -> None:
        """Put the info in place at once: who reads has the old one or the new one."""
        try:
            with opened(self.directory) as folder:
                unseen = self.name + ".new"
                flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
                with os.fdopen(os.open(unseen, flags, 0o600, dir_fd=folder), "wb") as file:
                    file.write(info.to_json())
                os.rename(unseen, self.name + _INFO, src_dir_fd=folder, dst_dir_fd=folder)
        except OSError as error:
            raise SettingsError(
                f"the pool's files in {self.directory} cannot be written ({error}); check owner, mode and room"
            ) from error

    def _remove(self, folder: int) -> None:
        """Remove the files; the lock, which is held, last."""
        for suffix in (_SOCKET, _INFO, _LOCK):
            with contextlib.suppress(OSError):
                os.unlink(self.name + suffix, dir_fd=folder)

    def _sweep(self) -> None:
        """Remove what pools in memory have left that were killed long ago."""
        for place in self._memory_places():
            found = place.find()
            if isinstance(found, Dead) and (datetime.now(UTC) - found.info.started_at).total_seconds() > _KEPT:
                place.forget()

    def _memory_places(self) -> Iterator[Place]:
        for name in os.listdir(self.directory):
            if name.startswith(f"{MEMORY}-") and name.endswith(_INFO) and name != self.name + _INFO:
                yield Place(self.directory, name.removesuffix(_INFO), MEMORY)


def _keep(directory: str) -> int:
    """Return the descriptor of the directory, locked as others may lock it too; -1 where that cannot be had."""
    try:
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return -1
    with contextlib.suppress(OSError):
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    return fd


def _since(found: Running | Dead) -> datetime:
    return datetime.min.replace(tzinfo=UTC) if found.info is None else found.info.started_at


def _ticks(pid: int) -> int:
    """Return when a process was started, in ticks since the machine's start; 0: there is none, or it cannot be told."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return 0
    return 0 if fields[:1] in ([b"Z"], [b"X"]) else int(fields[19])
