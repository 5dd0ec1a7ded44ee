"""Control groups for worker processes, where they may be made (cgroups(7): version 1 and 2).

::

    <this process's own group, or a directory given>/
        rxtasks-workers-<pid>-<random>/   one for each engine, its directory locked (flock) as long as the engine lives
            <worker id>/                  one for each worker that has limits: memory.max, cpu.max, cgroup.procs

Below this process's own group, so that what limits it limits its workers too. In version 2 a group that holds processes can
have no controllers for groups below it (but for the root): there the group beside it is taken, provided that its own has no
limits that this would evade. In version 1 each controller has a tree of its own.

Groups outlive a parent that was killed. The next engine that makes one removes those whose lock nobody holds, and ends what
is left in them.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import signal
import time
from typing import Final

import attrs

from rxtasks.forking import close_copies

__all__ = ["Cgroups", "Found", "Group", "find"]

_ROOT: Final = "/sys/fs/cgroup"
_PREFIX: Final = "rxtasks-workers-"
_WANTED: Final[tuple[str, ...]] = ("memory", "cpu")
#: Microseconds of the period in which a group may use its share of the CPU.
_PERIOD: Final = 100_000
#: Least microseconds of it that the kernel takes.
_LEAST: Final = 1_000
#: Seconds that the processes of a group have to be gone after they were killed.
_PATIENCE: Final = 1.0


@attrs.frozen
class Found:
    """Where groups may be made: a directory for each controller; in version 2 it is the same."""

    version: int
    places: dict[str, str]


def find(mounts: str, own: str) -> list[Found]:
    """Return where this process's own groups are, version 2 first, by /proc/self/mountinfo and /proc/self/cgroup."""
    groups: dict[str, str] = {}
    for line in own.splitlines():
        parts = line.split(":", 2)
        if len(parts) == 3:
            for controller in parts[1].split(","):
                groups[controller] = parts[2]
    unified: str | None = None
    places: dict[str, str] = {}
    for line in mounts.splitlines():
        before, _, after = line.partition(" - ")
        words, rest = before.split(), after.split()
        if len(words) < 5 or len(rest) < 3:
            continue
        if rest[0] == "cgroup2" and "" in groups:
            unified = unified or _below(_plain(words[4]), _plain(words[3]), groups[""])
        elif rest[0] == "cgroup":
            for controller in _WANTED:
                if controller in rest[2].split(",") and controller in groups:
                    places.setdefault(controller, _below(_plain(words[4]), _plain(words[3]), groups[controller]))
    found = [] if unified is None else [Found(2, dict.fromkeys(_WANTED, unified))]
    return [*found, Found(1, places)] if places else found


def _below(mount: str, root: str, path: str) -> str:
    """Return where the group `path` is seen, in a mount of the group `root`."""
    relative = os.path.relpath(path, root) if path.startswith("/") and not path.startswith("/..") else "."
    return mount if relative == "." or relative.startswith("..") else os.path.join(mount, relative)


def _plain(word: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), word)


def _given(path: str) -> list[Found]:
    """Return what a directory offers that was given: a group of version 2, or the mounts of version 1."""
    if os.path.exists(os.path.join(path, "cgroup.controllers")):
        return [Found(2, dict.fromkeys(_WANTED, path))]
    places = {name: os.path.join(path, name) for name in _WANTED if os.path.isdir(os.path.join(path, name))}
    return [Found(1, places)] if places else []


class Cgroups:
    """The groups of one engine's workers; made with the first of them. Used by the core thread, but for after_fork.

    Args:
        where: "auto", "off", or a directory.
    """

    def __init__(self, where: str = "auto") -> None:
        self._where = where
        self._looked = where == "off"
        self._version = 0
        #: The engine's own directories, by controller.
        self._mine: dict[str, str] = {}
        self._locks: list[int] = []
        #: Groups that could not be removed yet.
        self._left: list[Group] = []

    def group(self, name: str) -> Group | None:
        """Return a new group; None where none can be made."""
        if not self._looked:
            self._looked = True
            self._begin()
        if not self._mine:
            return None
        directories: dict[str, str] = {}
        for controller, mine in self._mine.items():
            directory = os.path.join(mine, name)
            try:
                if directory not in directories.values():
                    os.mkdir(directory)
                directories[controller] = directory
            except OSError:
                continue
        return Group(self._version, directories) if directories else None

    def remove(self, group: Group) -> None:
        """End what is in the group, and remove it; if it cannot be yet, with the engine."""
        if not group.remove(0.0):
            self._left.append(group)

    def close(self) -> None:
        """Remove everything."""
        for group in self._left:
            group.remove(_PATIENCE)
        self._left.clear()
        for directory in set(self._mine.values()):
            with contextlib.suppress(OSError):
                os.rmdir(directory)
        self._mine.clear()
        for fd in self._locks:
            os.close(fd)
        self._locks.clear()

    def after_fork(self) -> None:
        """In a forked child of the parent: close the copies, which would hold the locks."""
        close_copies(self._locks)
        self._locks = []
        self._mine = {}

    def _begin(self) -> None:
        for found in _given(self._where) if self._where != "auto" else _own():
            made = self._make(found)
            if made:
                self._version, self._mine = found.version, made
                return

    def _make(self, found: Found) -> dict[str, str]:
        """Make the engine's directories; return them by controller, none if that is not possible."""
        name = f"{_PREFIX}{os.getpid()}-{secrets.token_hex(6)}"
        made: dict[str, str] = {}
        if found.version == 2:
            place, controllers = _delegated(found.places["memory"], own=self._where == "auto")
            if not controllers:
                return made
            directory = self._lock(place, name)
            if directory is not None and _write(
                os.path.join(directory, "cgroup.subtree_control"), _enabling(controllers)
            ):
                made = dict.fromkeys(controllers, directory)
            elif directory is not None:
                os.rmdir(directory)
            return made
        for controller, place in found.places.items():
            directory = self._lock(place, name)
            if directory is not None:
                made[controller] = directory
        return made

    def _lock(self, place: str, name: str) -> str | None:
        """Remove what dead engines have left in the place; make a directory there and hold its lock."""
        import fcntl

        sweep(place)
        directory = os.path.join(place, name)
        try:
            os.mkdir(directory)
            fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError:
            return None
        self._locks.append(fd)
        with contextlib.suppress(OSError):
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return directory


def _own() -> list[Found]:
    try:
        with open("/proc/self/mountinfo") as mounts, open("/proc/self/cgroup") as own:
            return find(mounts.read(), own.read())
    except OSError:
        return []


def _delegated(group: str, *, own: bool) -> tuple[str, list[str]]:
    """Return where groups of version 2 can be made, and the controllers that they have there."""
    controllers = _enable(group)
    if controllers or not own:
        return group, controllers
    beside = os.path.dirname(group)
    if _is_limited(group) or not os.path.exists(os.path.join(beside, "cgroup.procs")):
        return group, []
    there = _words(os.path.join(beside, "cgroup.subtree_control"))
    return beside, [name for name in _WANTED if name in there and os.access(beside, os.W_OK)]


def _enable(group: str) -> list[str]:
    """Have groups below this one have controllers; return which."""
    offered = [name for name in _WANTED if name in _words(os.path.join(group, "cgroup.controllers"))]
    path = os.path.join(group, "cgroup.subtree_control")
    missing = [name for name in offered if name not in _words(path)]
    if missing and not _write(path, _enabling(missing)):
        offered = [name for name in offered if name not in missing]
    return offered if os.access(group, os.W_OK) else []


def _enabling(controllers: list[str]) -> str:
    return " ".join(f"+{name}" for name in controllers)


def _is_limited(group: str) -> bool:
    for name in ("memory.max", "memory.high", "cpu.max"):
        words = _words(os.path.join(group, name))
        if words and words[0] != "max":
            return True
    return False


def sweep(place: str) -> None:
    """Remove the groups of engines that are gone, with what is left in them."""
    import fcntl

    try:
        names = [name for name in os.listdir(place) if name.startswith(_PREFIX)]
    except OSError:
        return
    for name in names:
        directory = os.path.join(place, name)
        try:
            fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for below in os.scandir(directory):
                if below.is_dir(follow_symlinks=False):
                    Group(0, {"": below.path}).remove(_PATIENCE)
            os.rmdir(directory)
        except OSError:  # its engine lives, or somebody else sweeps
            pass
        finally:
            os.close(fd)


class Group:
    """One worker's group. Its calls never raise: what the kernel refuses is not so."""

    def __init__(self, version: int, directories: dict[str, str]) -> None:
        self.version = version
        #: By controller; of version 2 all the same.
        self._directories = directories

    @property
    def controllers(self) -> frozenset[str]:
        """Which controllers it has."""
        return frozenset(self._directories)

    def add(self, pid: int) -> bool:
        """Move a process into the group; what it forks from then on is in it too."""
        return all(_write(os.path.join(path, "cgroup.procs"), str(pid)) for path in set(self._directories.values()))

    def limit_memory(self, limit: int | None, high: int | None = None) -> bool:
        """Let the kernel end what goes beyond `limit` bytes, and (version 2) slow down what goes beyond `high`."""
        if self.version == 2:
            held = self._set("memory", "memory.max", "max" if limit is None else str(limit))
            self._set("memory", "memory.swap.max", "max" if limit is None else "0")
            self._set("memory", "memory.oom.group", "0" if limit is None else "1")
            slowed = self._set("memory", "memory.high", "max" if high is None else str(high))
            return held and (slowed or high is None)
        value = "-1" if limit is None else str(limit)
        # Memory with swap is never to be less than memory: the order counts.
        if limit is None:
            self._set("memory", "memory.memsw.limit_in_bytes", value)
            return self._set("memory", "memory.limit_in_bytes", value)
        held = self._set("memory", "memory.limit_in_bytes", value)
        self._set("memory", "memory.memsw.limit_in_bytes", value)
        return held

    def limit_cpu(self, percent: float | None) -> bool:
        """Let it have so many percent of one core."""
        quota = None if percent is None else max(_LEAST, int(_PERIOD * percent / 100))
        if self.version == 2:
            return self._set("cpu", "cpu.max", f"{'max' if quota is None else quota} {_PERIOD}")
        self._set("cpu", "cpu.cfs_period_us", str(_PERIOD))
        return self._set("cpu", "cpu.cfs_quota_us", "-1" if quota is None else str(quota))

    def stand_back(self, back: bool) -> bool:
        """Let everybody else have the CPU first, or no longer."""
        if self.version == 2:
            return self._set("cpu", "cpu.weight", "1" if back else "100")
        return self._set("cpu", "cpu.shares", "2" if back else "1024")

    @property
    def ooms(self) -> int:
        """How many processes of it the kernel has killed because they were at its limit."""
        return self._number("memory", "memory.events" if self.version == 2 else "memory.oom_control", "oom_kill")

    @property
    def held_seconds(self) -> float:
        """For how long the kernel has held it back at its share of the CPU, seconds."""
        if self.version == 2:
            return self._number("cpu", "cpu.stat", "throttled_usec") / 1e6
        return self._number("cpu", "cpu.stat", "throttled_time") / 1e9

    def kill(self) -> int:
        """End every process in the group; return how many there were."""
        found = 0
        for path in set(self._directories.values()):
            pids = _words(os.path.join(path, "cgroup.procs"))
            found = max(found, len(pids))
            if pids and _write(os.path.join(path, "cgroup.kill"), "1"):
                continue
            for pid in pids:
                # 0 stands for a process of another PID namespace; to kill(2) it means the caller's own group.
                with contextlib.suppress(OSError, ValueError):
                    if int(pid) > 1:
                        os.kill(int(pid), signal.SIGKILL)
        return found

    def remove(self, patience: float) -> bool:
        """End what is in it, and remove it; return whether it is gone after at most `patience` seconds."""
        end = time.monotonic() + patience
        while True:
            self.kill()
            for controller, path in list(self._directories.items()):
                try:
                    os.rmdir(path)
                except FileNotFoundError:
                    pass
                except OSError:
                    continue
                del self._directories[controller]
            if not self._directories:
                return True
            if time.monotonic() >= end:
                return False
            time.sleep(0.005)

    def _set(self, controller: str, name: str, value: str) -> bool:
        path = self._directories.get(controller)
        return path is not None and _write(os.path.join(path, name), value)

    def _number(self, controller: str, name: str, key: str) -> int:
        path = self._directories.get(controller)
        if path is not None:
            try:
                with open(os.path.join(path, name), "rb") as file:
                    for line in file.read().splitlines():
                        words = line.split()
                        if len(words) == 2 and words[0] == key.encode():
                            return int(words[1])
            except (OSError, ValueError):
                pass
        return 0


def _write(path: str, text: str) -> bool:
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, text.encode())
        finally:
            os.close(fd)
    except OSError:
        return False
    return True


def _words(path: str) -> list[str]:
    try:
        with open(path) as file:
            return file.read().split()
    except OSError:
        return []
