"""What a process tree uses, as /proc tells it (L-01)."""

from __future__ import annotations

import mmap
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from rxtasks.isolation.usage import Tree, disk_bytes, temp_dirs
from rxtasks.wire.sealed import PUT_NAME, SealedFiles, map_sealed
from rxtasks.worker.tempdirs import TempRoot

_MB = 2**20

_CHILD = """
import os, subprocess, sys
kept = os.urandom(2**20) * {size}
below = {below}
if below:
    text = "import os, sys; b = os.urandom(2**20) * " + str(below) + "; print(1, flush=True); sys.stdin.read()"
    child = subprocess.Popen([sys.executable, "-c", text], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    child.stdout.readline()
{more}
print(1, flush=True)
sys.stdin.read()
"""


@contextmanager
def _process(size: int, below: int = 0, more: str = "") -> Iterator[Tree]:
    """A process that holds so many MB, with a child that does."""
    text = _CHILD.format(size=size, below=below, more=more)
    child = subprocess.Popen([sys.executable, "-c", text], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdout is not None
    try:
        assert child.stdout.readline() == b"1\n"
        yield Tree(child.pid)
    finally:
        child.communicate()


def test_the_memory_of_children_counts() -> None:
    """L-01: what a handler's children take is the worker's."""
    with _process(20, below=30) as tree:
        usage = tree.look()
    assert usage is not None and usage.exact
    assert 50 * _MB < usage.memory_bytes < 90 * _MB


def test_pages_that_a_fork_shares_count_once() -> None:
    """L-01: four forks of a process of 40 MB take 40 MB, not 200."""
    more = "for _ in range(4):\n    if os.fork() == 0:\n        os.read(0, 1)\n        os._exit(0)\n"
    with _process(40, more=more) as tree:
        usage = tree.look()
    assert usage is not None
    assert 40 * _MB < usage.memory_bytes < 90 * _MB


def test_an_estimate_is_enough_below_what_is_asked_for() -> None:
    """L-01: the page tables are walked only where it matters; and then what is shared is known."""
    with _process(20) as tree:
        high = tree.look(1e12)
        exact = tree.look(1e6)
        again = tree.look(1e12)
    assert high is not None and exact is not None and again is not None
    assert [False, True, False] == [high.exact, exact.exact, again.exact]
    assert high.memory_bytes > exact.memory_bytes
    assert abs(again.memory_bytes - exact.memory_bytes) < _MB


def test_objects_that_were_put_do_not_count() -> None:
    """L-01 E-20: all workers share them; any other memory file counts."""
    before = Tree(os.getpid()).look()
    put, other = (
        SealedFiles(PUT_NAME).make([bytes(40 * _MB)], 40 * _MB),
        SealedFiles().make([bytes(30 * _MB)], 30 * _MB),
    )
    assert put is not None and other is not None and before is not None
    views = [map_sealed(put.fileno(), len(put)), map_sealed(other.fileno(), len(other))]
    touched = sum(view[place] for view in views for place in range(0, len(view), mmap.PAGESIZE))
    after = Tree(os.getpid()).look()
    assert after is not None and touched == 0
    assert 25 * _MB < after.memory_bytes - before.memory_bytes < 38 * _MB


def test_cpu_seconds_of_the_tree_never_fall() -> None:
    """L-01: those of a child that has ended included."""
    tree = Tree(os.getpid())
    first = tree.look(1e12)
    child = subprocess.Popen(
        [sys.executable, "-c", "import time\nwhile time.process_time() < 0.3: pass\ninput()"], stdin=-1
    )
    seen = [first.cpu_seconds if first else 0.0]
    while seen[-1] < seen[0] + 0.3:
        usage = tree.look(1e12)
        assert usage is not None
        seen.append(usage.cpu_seconds)
    child.communicate(b"\n")
    last = tree.look(1e12)
    assert last is not None
    assert sorted(seen) == seen and last.cpu_seconds >= seen[-1]


def test_a_process_that_is_gone_uses_nothing() -> None:
    """L-01: nor is another one measured that has its number now."""
    with _process(1) as tree:
        assert tree.look() is not None
        other = Tree(os.getpid())
        other._began -= 1
        assert other.look() is None
    assert tree.look() is None


def test_the_files_of_an_attempt_count_by_what_the_disk_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """L-01: hard links once, holes not at all, links not followed; of this task and no other."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    place = TempRoot(None, "worker-4711")
    mine = place.make("my-task", 1)
    other = TempRoot(str(tmp_path)).make("other", 1)
    (mine / "below").mkdir()
    (mine / "below" / "data").write_bytes(os.urandom(3 * _MB))
    os.link(mine / "below" / "data", mine / "again")
    os.symlink(tmp_path, mine / "up")
    with open(mine / "hole", "wb") as file:
        file.truncate(1000 * _MB)
    (other / "data").write_bytes(os.urandom(5 * _MB))
    found = temp_dirs(str(tmp_path))
    assert {"my-task", "other"} == {task for task, _ in found}
    held = disk_bytes(path for task, path in found if task == "my-task")
    assert 3 * _MB <= held < 4 * _MB
    place.close()
    assert ["other"] == [task for task, _ in temp_dirs(str(tmp_path))]
    assert 0 == disk_bytes([str(tmp_path / "none")]) and [] == temp_dirs(str(tmp_path / "none"))
