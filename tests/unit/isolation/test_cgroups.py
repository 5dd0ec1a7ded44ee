"""Control groups: where they may be made, what is written into them, and that none is left (L-02)."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from rxtasks.isolation import cgroups
from rxtasks.isolation.cgroups import Cgroups, Found, Group, find

_V1 = """\
24 1 0:20 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw
30 24 0:26 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
31 24 0:27 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
32 24 0:28 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
"""


def test_own_groups_are_found_by_what_the_kernel_says() -> None:
    """L-02: each controller of version 1 has a mount of its own; version 2 comes first."""
    own = "4:memory:/user/me\n1:cpu,cpuacct:/\n0::/user/me.scope\n"
    unified, old = find(_V1, own)
    assert Found(2, dict.fromkeys(("memory", "cpu"), "/sys/fs/cgroup/unified/user/me.scope")) == unified
    assert Found(1, {"cpu": "/sys/fs/cgroup/cpu,cpuacct", "memory": "/sys/fs/cgroup/memory/user/me"}) == old


def test_in_a_container_the_mount_is_the_containers_group() -> None:
    """L-02: with a mount of the container's own group, and paths as the host sees them."""
    mounts = "31 24 0:27 /docker/abc /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n"
    assert [Found(1, {"memory": "/sys/fs/cgroup/memory"})] == find(mounts, "4:memory:/docker/abc\n")
    assert [Found(1, {"memory": "/sys/fs/cgroup/memory/x"})] == find(mounts, "4:memory:/docker/abc/x\n")
    spaced = r"31 24 0:27 / /my\040groups rw - cgroup2 none rw" + "\n"
    (found,) = find(spaced, "0::/\n")
    assert "/my groups" == found.places["memory"]


@pytest.mark.parametrize("mounts", ["", "nonsense\n", " - \n", "1 2 3 4 5 - cgroup\n"])
def test_what_cannot_be_read_is_no_group(mounts: str) -> None:
    """L-02: a system without control groups keeps limits in other ways."""
    assert [] == find(mounts, "0::/\n") == find(_V1, "") == find(_V1, "nonsense")


# -- version 2, on files like the kernel's -----------------------------------------------------------------------------


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with the files of a group of version 2; a directory made below it gets its own, as the kernel makes them."""
    make = os.mkdir

    def with_files(path: str, mode: int = 0o777) -> None:
        make(path, mode)
        if str(path).startswith(str(tmp_path)):
            _fill(Path(path))

    _fill(tmp_path)
    monkeypatch.setattr(os, "mkdir", with_files)
    return tmp_path


def _fill(directory: Path) -> None:
    (directory / "cgroup.controllers").write_text("cpuset cpu io memory pids\n")
    for name in ("cgroup.subtree_control", "cgroup.procs", "memory.max", "memory.high", "memory.swap.max"):
        (directory / name).write_text("")
    for name in ("memory.oom.group", "cpu.max", "cpu.weight", "memory.events", "cpu.stat"):
        (directory / name).write_text("")


def _texts(group: Group, *names: str) -> list[str]:
    (place,) = set(group._directories.values())
    return [(Path(place) / name).read_text() for name in names]


def test_limits_of_version_2_are_written_and_lifted(tree: Path) -> None:
    """L-02: memory.max ends the whole group, memory.high slows it down, cpu.max is a share of one core."""
    groups = Cgroups(str(tree))
    group = groups.group("w1")
    assert group is not None and (2, {"cpu", "memory"}) == (group.version, group.controllers)
    assert "+memory +cpu" == (tree / "cgroup.subtree_control").read_text()
    assert group.add(4711) and ["4711"] == _texts(group, "cgroup.procs")
    assert group.limit_memory(1000, 500)
    assert ["1000", "500", "0", "1"] == _texts(
        group, "memory.max", "memory.high", "memory.swap.max", "memory.oom.group"
    )
    assert group.limit_cpu(150) and group.stand_back(True)
    assert ["150000 100000", "1"] == _texts(group, "cpu.max", "cpu.weight")
    for name in ("memory.max", "memory.high", "cpu.max", "cpu.weight"):
        (Path(group._directories["cpu"]) / name).write_text("")
    assert group.limit_memory(None) and group.limit_cpu(None) and group.stand_back(False)
    assert ["max", "max", "max 100000", "100"] == _texts(group, "memory.max", "memory.high", "cpu.max", "cpu.weight")


def test_what_the_kernel_counts_is_read(tree: Path) -> None:
    """L-02: kills at the limit of memory, seconds held back at the share of the CPU."""
    group = Cgroups(str(tree)).group("w1")
    assert group is not None and (0, 0.0) == (group.ooms, group.held_seconds)
    place = Path(group._directories["memory"])
    (place / "memory.events").write_text("low 0\nhigh 7\nmax 9\noom 3\noom_kill 2\n")
    (place / "cpu.stat").write_text("usage_usec 5\nnr_periods 4\nthrottled_usec 2500000\n")
    assert (2, 2.5) == (group.ooms, group.held_seconds)
    (place / "memory.events").write_text("oom_kill many\n")
    assert 0 == group.ooms


def test_a_group_whose_limits_are_refused_says_so(tree: Path) -> None:
    """L-02: then limits are kept in other ways."""
    group = Cgroups(str(tree)).group("w1")
    assert group is not None
    for name in ("memory.max", "cpu.max", "cgroup.procs"):
        os.unlink(Path(group._directories["memory"]) / name)
    assert not (group.limit_memory(1) or group.limit_cpu(1) or group.add(1))


def test_a_group_with_processes_and_limits_of_its_own_is_not_evaded(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """L-02: beside one's own group is taken only where that one limits nothing."""
    own = tree / "own"
    os.mkdir(own)
    os.unlink(own / "cgroup.subtree_control")  # as refused as where a group has processes
    (tree / "cgroup.subtree_control").write_text("cpu memory")
    monkeypatch.setattr(cgroups, "_own", lambda: [Found(2, dict.fromkeys(("memory", "cpu"), str(own)))])
    group = Cgroups().group("w1")
    assert group is not None and str(tree) == os.path.dirname(os.path.dirname(group._directories["memory"]))
    for name, text in (("memory.max", "1000"), ("cpu.max", "50000 100000"), ("memory.high", "5")):
        (own / name).write_text(text)
        assert Cgroups().group("w1") is None
        (own / name).write_text("max 100000")


def test_off_and_nothing_there_make_no_group(tmp_path: Path) -> None:
    """L-02: neither is an error."""
    assert Cgroups("off").group("w1") is None
    assert Cgroups(str(tmp_path)).group("w1") is None
    assert [] == os.listdir(tmp_path)


# -- version 1 and 2, by the kernel ------------------------------------------------------------------------------------


def _places() -> list[str]:
    """Return directories in which the kernel lets groups be made here, if any: a test of its own in each."""
    found: list[str] = []
    for each in cgroups._own():
        for place in dict.fromkeys(each.places.values()):
            name = os.path.join(place, f"rxtasks-test-{os.getpid()}")
            try:
                os.mkdir(name)
                if os.path.exists(os.path.join(name, "cgroup.procs")):
                    found.append(place)
                os.rmdir(name)
            except OSError:
                continue
    return found


_PLACES = _places()
_kernel = pytest.mark.skipif(not _PLACES, reason="no control group may be made here")


@pytest.fixture(params=_PLACES)
def place(request: pytest.FixtureRequest) -> str:
    """A directory below which the kernel makes groups."""
    return str(request.param)


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    """A process that waits for its end."""
    process = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
    yield process
    process.kill()
    process.communicate()


def _group(place: str, name: str) -> Group:
    directory = os.path.join(place, name)
    os.mkdir(directory)
    return Group(0, {"": directory})


@_kernel
def test_removing_a_group_ends_what_is_in_it(place: str, sleeper: subprocess.Popen[bytes]) -> None:
    """L-02 W-10: whatever it is, and the group is gone."""
    group = _group(place, f"rxtasks-test-{os.getpid()}")
    directory = group._directories[""]
    assert group.add(sleeper.pid)
    assert group.remove(30)
    assert -9 == sleeper.wait(30) and not os.path.exists(directory)


@_kernel
def test_what_a_dead_engine_left_is_swept_and_what_a_living_one_has_is_not(
    place: str, sleeper: subprocess.Popen[bytes]
) -> None:
    """L-02 W-10: by the lock, which ends with whoever holds it, however that ends."""
    living, dead = (os.path.join(place, f"rxtasks-workers-{number}-test{os.getpid()}") for number in (1, 2))
    stranger = os.path.join(place, f"rxtasks-other-{os.getpid()}")
    for directory in (living, dead, stranger):
        os.mkdir(directory)
    left = _group(dead, "w1")
    assert left.add(sleeper.pid)
    fd = os.open(living, os.O_RDONLY)
    try:
        import fcntl

        fcntl.flock(fd, fcntl.LOCK_EX)
        cgroups.sweep(place)
        assert [True, False, True] == [os.path.exists(path) for path in (living, dead, stranger)]
        assert -9 == sleeper.wait(30)
    finally:
        os.close(fd)
        cgroups.sweep(place)
        os.rmdir(stranger)
    assert not os.path.exists(living)


@_kernel
def test_an_engine_makes_its_groups_and_leaves_none() -> None:
    """L-02: where memory or CPU can be limited here, and the lock is free afterwards."""
    groups = Cgroups()
    group = groups.group("w1")
    if group is None:
        pytest.skip("no group with a controller of memory or CPU may be made here")
    mine = set(groups._mine.values())
    assert all(os.path.isdir(path) for path in mine)
    assert group.limit_memory(2**30) == ("memory" in group.controllers)
    assert group.limit_cpu(50) == ("cpu" in group.controllers)
    assert group.limit_cpu(None) == ("cpu" in group.controllers)
    groups.remove(group)
    groups.close()
    assert not any(os.path.exists(path) for path in mine)
