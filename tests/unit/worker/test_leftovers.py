"""What is swept and what is not."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rxtasks.worker.guardwords import MARK
from rxtasks.worker.leftovers import OwnDirectory, end_marked, sweep, temp_place
from rxtasks.worker.tempdirs import TempRoot

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux")


def dead(place: Path, name: str, marker: bytes = b"temp\n") -> Path:
    """Return a directory as a dead process leaves it."""
    path = place / f"rxtasks-{name}"
    path.mkdir()
    (path / ".rxtasks").write_bytes(marker)
    (path / "file").write_text("x")
    return path


def test_a_dead_one_s_directory_is_removed(tmp_path: Path) -> None:
    """Security rule 5: with all that is in it, but not what links in it lead to."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").touch()
    path = dead(tmp_path, "1")
    (path / "link").symlink_to(outside)
    assert [str(path)] == sweep([str(tmp_path), str(tmp_path)])
    assert not path.exists()
    assert (outside / "precious").exists()


def test_the_marker_is_removed_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Security rule 5, W-10: a sweep that is killed in the middle leaves what the next one finds."""
    path = dead(tmp_path, "1")
    for number in range(30):
        (path / f"{number}").mkdir()
        (path / f"{number}" / "file").touch()
        (path / f"file-{number}").touch()
    left: list[list[str]] = []

    def told(call: Callable[..., None]) -> Callable[..., None]:
        def first(*given: Any, **named: Any) -> None:
            left.append(os.listdir(path))
            call(*given, **named)

        return first

    monkeypatch.setattr(os, "unlink", told(os.unlink))
    monkeypatch.setattr(os, "rmdir", told(os.rmdir))
    assert [str(path)] == sweep([str(tmp_path)])
    assert not path.exists()
    assert len(left) > 90
    assert all(".rxtasks" in names for names in left[:-1]) and [] == left[-1]


def test_a_living_one_s_directory_stays(tmp_path: Path) -> None:
    """Security rule 5: its marker is locked, in this process too."""
    own = OwnDirectory(str(tmp_path), "1")
    assert [] == sweep([str(tmp_path)])
    assert os.path.isdir(own.path)
    own.remove()
    own.remove()
    assert [] == os.listdir(tmp_path)


@pytest.mark.parametrize("odd", ["no marker", "empty marker", "a linked marker", "a link", "a file", "another name"])
def test_what_is_not_surely_ours_stays(odd: str, tmp_path: Path) -> None:
    """Security rule 5: a directory of that name may be anybody's; links are not followed."""
    path = tmp_path / "rxtasks-mine"
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / ".rxtasks").write_bytes(b"temp\n")
    if odd == "a link":
        path.symlink_to(elsewhere)
    elif odd == "a file":
        path.write_text("x")
    elif odd != "another name":
        path.mkdir()
        if odd == "empty marker":
            (path / ".rxtasks").touch()
        elif odd == "a linked marker":
            (path / ".rxtasks").symlink_to(elsewhere / ".rxtasks")
    before = sorted(str(each) for each in tmp_path.rglob("*"))
    assert [] == sweep([str(tmp_path)])
    assert before == sorted(str(each) for each in tmp_path.rglob("*"))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_another_user_s_directory_stays(tmp_path: Path) -> None:
    """Security rule 5: also one whose marker alone is another's."""
    path = dead(tmp_path, "1")
    os.chown(path / ".rxtasks", 12345, -1)
    assert [] == sweep([str(tmp_path)])
    os.chown(path / ".rxtasks", 0, -1)
    os.chown(path, 12345, -1)
    assert [] == sweep([str(tmp_path)])


def test_a_directory_is_made_while_somebody_looks_at_its_marker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """W-10: a sweep that comes between the making and the locking of the marker costs nobody its directory."""
    flock = fcntl.flock
    looks: list[threading.Timer] = []

    def held_first(fd: int, how: int) -> None:
        if not looks:
            other = os.open(tmp_path / "rxtasks-1" / ".rxtasks", os.O_RDWR)
            flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
            looks.append(threading.Timer(0.05, os.close, [other]))
            looks[0].start()
        flock(fd, how)

    monkeypatch.setattr(fcntl, "flock", held_first)
    own = OwnDirectory(str(tmp_path), "1")
    assert looks and [] == sweep([str(tmp_path)]), "it is a living one's"
    own.remove()
    assert [] == os.listdir(tmp_path)


def test_one_token_s_are_swept_alone(tmp_path: Path) -> None:
    """W-10: what a worker has left, beside the others."""
    one, other = dead(tmp_path, "t-1"), dead(tmp_path, "u-1")
    assert [str(one)] == sweep([str(tmp_path)], "t-")
    assert other.exists()


def test_a_directory_cannot_be_made_twice(tmp_path: Path) -> None:
    """Security rule 5: what is there already is not taken over."""
    own = OwnDirectory(str(tmp_path), "1")
    with pytest.raises(FileExistsError):
        OwnDirectory(str(tmp_path), "1")
    assert os.path.isdir(own.path)
    own.remove()


def test_a_forked_child_does_not_hold_the_lock(tmp_path: Path) -> None:
    """W-10: nor does it remove what is its parent's."""
    own = OwnDirectory(str(tmp_path), "1")
    read, write = os.pipe()
    done, tell = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(write)
        own.remove()
        os.write(tell, b"x")
        os.read(read, 1)
        os._exit(0)
    try:
        os.read(done, 1)
        fd = own._lock
        assert os.path.isdir(own.path)
        os.close(fd)
        own._lock = -1
        with open(Path(own.path) / ".rxtasks", "rb") as marker:
            fcntl.flock(marker, fcntl.LOCK_EX | fcntl.LOCK_NB)
        assert [own.path] == sweep([str(tmp_path)])
    finally:
        os.close(write)
        os.waitpid(pid, 0)
        for fd in (read, done, tell):
            os.close(fd)


def test_marked_processes_end_with_all_below(tmp_path: Path) -> None:
    """W-10: a stopped one, and what it started without the mark; one with another mark stays."""
    token = os.urandom(16).hex()
    script = "env -i sleep 1000 & echo $!; kill -STOP $$"
    mine = subprocess.Popen(["sh", "-c", script], stdout=subprocess.PIPE, env={**os.environ, MARK: token})
    other = subprocess.Popen(["sleep", "1000"], env={**os.environ, MARK: token[:-1]})
    assert mine.stdout is not None
    try:
        with mine.stdout:
            child = os.pidfd_open(int(mine.stdout.readline()))
        os.waitid(os.P_PID, mine.pid, os.WSTOPPED | os.WNOWAIT)
        path = dead(tmp_path, token, b"guardian\n")
        assert [str(path)] == sweep([str(tmp_path)])
        assert -signal.SIGKILL == mine.wait(20)
        signal_fd(child)
        assert other.poll() is None
        assert 0 == end_marked(token)
    finally:
        for process in (mine, other):
            process.kill()
            process.wait()


def signal_fd(pidfd: int) -> None:
    """Fail unless this process ends soon."""
    import select

    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    assert poll.poll(20_000)
    os.close(pidfd)


def test_who_sweeps_is_spared(monkeypatch: pytest.MonkeyPatch) -> None:
    """W-10: a service in a worker whose guardian is dead does not end itself, nor what it descends from."""
    token = os.urandom(16).hex()
    program = (
        "import sys; from rxtasks.worker.leftovers import end_marked;"
        f"import subprocess; subprocess.run([sys.executable, '-c', 'from rxtasks.worker.leftovers import end_marked;"
        f'print(end_marked("{token}"))\'], check=True)'
    )
    run = subprocess.run(
        [sys.executable, "-c", program], env={**os.environ, MARK: token}, capture_output=True, text=True, timeout=60
    )
    assert (0, "0\n") == (run.returncode, run.stdout), run.stderr


def test_the_place_is_the_environment_s(tmp_path: Path) -> None:
    """W-10: where tempfile would make them."""
    assert str(tmp_path) == temp_place({b"TMPDIR": os.fsencode(tmp_path)})
    assert str(tmp_path) == temp_place({b"TMPDIR": b"/no/such", b"TEMP": os.fsencode(tmp_path)})
    assert "/tmp" == temp_place({})


def test_a_root_that_is_removed_is_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """W-17: somebody has cleaned the system's place meanwhile."""
    import shutil
    import tempfile

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    root = TempRoot(None, "t-1")
    first = root.make("task", 1)
    shutil.rmtree(first.parent)
    second = root.make("task", 1)
    assert second.is_dir()
    root.close()
    assert [] == os.listdir(tmp_path)


def test_without_locks_directories_are_made_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """W-17: on a file system that knows none nothing can be told from a dead one's, so nothing is swept either."""
    import tempfile

    def refuse(fd: int, how: int) -> None:
        raise OSError(95, "not supported")

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(fcntl, "flock", refuse)
    root = TempRoot(None, "t-1")
    path = root.make("task", 1)
    assert path.is_dir()
    root.close()
    assert [path.name] == os.listdir(tmp_path)
