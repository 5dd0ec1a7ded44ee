"""Where a pool is found."""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from rxtasks import SettingsError
from rxtasks.control.canonical import canonical, redacted
from rxtasks.control.directory import find_directory, reachable
from rxtasks.control.place import Dead, Place, PoolInfo, PoolRuns, Running

ROOT = str(Path(__file__).resolve().parents[3])
#: Seconds after which a test has failed.
LONG = 30.0

#: Holds the place of argv[1], says so, and waits to be told to end (or killed).
HOLD = """
import sys
from rxtasks.control.place import Place, PoolRuns
try:
    held = Place.of(sys.argv[1]).hold(mode="process", logs="/var/log/pool")
except PoolRuns as error:
    print("runs", error.pid, flush=True)
    sys.exit(4)
print("held", flush=True)
sys.stdin.readline()
held.release()
print("released", flush=True)
sys.stdin.readline()
"""


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    return {"XDG_RUNTIME_DIR": str(tmp_path)}


class Holder:
    def __init__(self, store: str, directory: Path, code: str = HOLD) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", code, store],
            env={**os.environ, "XDG_RUNTIME_DIR": str(directory), "PYTHONPATH": ROOT},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def go_on(self) -> str:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return self.line()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(LONG)


@pytest.fixture
def holders() -> Iterator[list[Holder]]:
    made: list[Holder] = []
    yield made
    for each in made:
        each.kill()


def test_whoever_holds_the_place_is_found_and_an_orderly_end_leaves_nothing(environ: dict[str, str]) -> None:
    """C-09, rule 4: the lock says who runs the pool."""
    place = Place.of("sqlite:////tmp/some.db", environ)
    assert place.find() is None
    held = place.hold(mode="thread", logs="/logs", color="blue")
    found = place.find()
    assert isinstance(found, Running)
    assert os.getpid() == found.pid
    assert place.socket == found.socket
    assert found.info is not None
    assert ("thread", "/logs", "sqlite:////tmp/some.db", {"color": "blue"}) == (
        found.info.mode,
        found.info.logs,
        found.info.store,
        found.info.more,
    )
    assert [found] == Place.all(environ)
    with pytest.raises(PoolRuns, match=rf"runs already, in process {os.getpid()}; use that one"):
        place.hold()
    held.release()
    held.release()
    assert place.find() is None
    assert [] == os.listdir(place.directory)
    place.hold().release()


def test_what_a_killed_pool_was_is_known_and_its_place_can_be_had(tmp_path: Path, holders: list[Holder]) -> None:
    """C-09: after kill -9 nothing that was left behind is taken for a pool."""
    store = f"sqlite:///{tmp_path}/tasks.db"
    holder = Holder(store, tmp_path)
    holders.append(holder)
    assert "held" == holder.line()
    place = Place.of(store, {"XDG_RUNTIME_DIR": str(tmp_path)})
    assert isinstance(place.find(), Running)
    holder.kill()
    found = place.find()
    assert isinstance(found, Dead)
    assert (holder.process.pid, "/var/log/pool", False) == (found.info.pid, found.info.logs, found.info.alive)
    assert [found] == Place.all({"XDG_RUNTIME_DIR": str(tmp_path)})
    with place.hold():
        again = place.find()
        assert isinstance(again, Running)
        assert os.getpid() == again.pid
    assert place.find() is None


def test_a_stopped_holder_is_a_pool_that_runs(tmp_path: Path, holders: list[Holder]) -> None:
    """A process that stands still (SIGSTOP) holds its place."""
    holder = Holder("sqlite:////x.db", tmp_path)
    holders.append(holder)
    assert "held" == holder.line()
    os.kill(holder.process.pid, signal.SIGSTOP)
    assert isinstance(Place.of("sqlite:////x.db", {"XDG_RUNTIME_DIR": str(tmp_path)}).find(), Running)


def test_of_several_that_start_at_once_exactly_one_wins_while_others_look(
    tmp_path: Path, holders: list[Holder]
) -> None:
    """C-09: two `worker start` at once."""
    environ = {"XDG_RUNTIME_DIR": str(tmp_path)}
    place = Place.of("sqlite:////same.db", environ)
    looking = threading.Event()

    def look() -> None:
        while not looking.is_set():
            place.find()

    watchers = [threading.Thread(target=look) for _ in range(2)]
    for watcher in watchers:
        watcher.start()
    try:
        for _ in range(3):
            round_of = [Holder("sqlite:////same.db", tmp_path) for _ in range(3)]
            holders += round_of
            said = [each.line() for each in round_of]
            winners = [each for each, word in zip(round_of, said, strict=True) if word == "held"]
            assert 1 == len(winners), said
            assert [f"runs {winners[0].process.pid}"] * 2 == [word for word in said if word != "held"]
            assert "released" == winners[0].go_on()
            for each in round_of:
                each.kill()
    finally:
        looking.set()
        for watcher in watchers:
            watcher.join(LONG)


def test_a_lock_file_that_was_removed_meanwhile_is_no_place(
    environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between opening the file and locking it, who held it may have ended in order."""
    place = Place.of("sqlite:////gone.db", environ)
    first = place.hold()
    real = fcntl.flock

    def flock(fd: int, how: int) -> None:
        first.release()
        real(fd, how)

    monkeypatch.setattr("rxtasks.control.place.fcntl.flock", flock)
    with place.hold():
        monkeypatch.undo()
        assert isinstance(place.find(), Running)
        with pytest.raises(PoolRuns):
            place.hold()


def test_of_threads_that_take_the_place_in_turns_no_two_have_it(environ: dict[str, str]) -> None:
    """An orderly end removes the lock file; who opened it before does not hold the place by it."""
    inside: list[int] = []
    wins, most = [0], [0]

    def take() -> None:
        place = Place.of("sqlite:////turns.db", environ)
        while wins[0] < 200:
            try:
                held = place.hold()
            except PoolRuns:
                continue
            inside.append(1)
            most[0] = max(most[0], len(inside))
            wins[0] += 1
            inside.pop()
            held.release()

    threads = [threading.Thread(target=take) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LONG)
    assert wins[0] >= 200
    assert 1 == most[0]


FORK = """
import os, signal, sys
from rxtasks.control.place import Place
held = Place.of(sys.argv[1]).hold()
child = os.fork()
while child == 0:
    signal.pause()
print("held", flush=True)
sys.stdin.readline()
print(child, flush=True)
sys.stdin.readline()
"""


def test_a_forked_child_does_not_hold_the_place(tmp_path: Path, holders: list[Holder]) -> None:
    """Rule 4: a child that outlives the pool is no pool."""
    holder = Holder("sqlite:////f.db", tmp_path, FORK)
    holders.append(holder)
    assert "held" == holder.line()
    child = int(holder.go_on())
    try:
        holder.kill()
        os.kill(child, 0)  # it lives
        assert isinstance(Place.of("sqlite:////f.db", {"XDG_RUNTIME_DIR": str(tmp_path)}).find(), Dead)
    finally:
        os.kill(child, signal.SIGKILL)


def test_an_executed_child_does_not_hold_the_place(environ: dict[str, str]) -> None:
    place = Place.of("sqlite:////e.db", environ)
    with place.hold():
        child = subprocess.Popen(["cat"], stdin=subprocess.PIPE, close_fds=False)
    try:
        with place.hold():
            pass
    finally:
        child.kill()
        child.wait(LONG)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("sqlite:///{}/a.db", "sqlite:///{}/./sub/../a.db"),
        ("sqlite:///{}/a.db", "sqlite:///{}/link.db"),
        ("sqlite:///{}/a.db", "sqlite:///{}/way/a.db"),
        ("postgresql://me:secret@Host/db?x=1", "postgres://host:5432/db"),
        ("postgresql://host/db", "postgresql+psycopg://other@host/db"),
    ],
)
def test_two_spellings_of_a_store_are_one_place(tmp_path: Path, one: str, other: str) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "a.db").touch()
    (tmp_path / "link.db").symlink_to("a.db")
    (tmp_path / "way").symlink_to(".")
    environ = {"XDG_RUNTIME_DIR": str(tmp_path)}
    assert Place.of(one.format(tmp_path), environ).name == Place.of(other.format(tmp_path), environ).name


def test_a_relative_path_is_that_of_the_service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert canonical("sqlite:///a.db") == canonical(f"sqlite:///{tmp_path}/a.db")


def test_different_stores_have_different_places(environ: dict[str, str]) -> None:
    stores = [
        "sqlite:////a.db",
        "sqlite:////b.db",
        "postgresql://h/a",
        "postgresql://h/b",
        "postgresql://h:1/a",
        "memory",
    ]
    names = {Place.of(store, environ).name for store in stores} | {Place.of("memory", environ, pid=1).name}
    assert len(stores) + 1 == len(names)


def test_no_password_is_told(environ: dict[str, str]) -> None:
    """Rule 3: neither in the info nor in an error."""
    url = "postgresql://user:geheim@host/db?sslpassword=geheim"
    with Place.of(url, environ).hold() as held:
        told = b"".join(path.read_bytes() for path in Path(held.place.directory).iterdir() if path.is_file())
        with pytest.raises(PoolRuns) as caught:
            held.place.hold()
    assert b"geheim" not in told
    assert "geheim" not in f"{caught.value} {held.place!r} {redacted('postgresql://[::geheim')}"


# -- the directory -----------------------------------------------------------------------------------------------------


def test_the_directory_is_made_for_this_user_alone(environ: dict[str, str], tmp_path: Path) -> None:
    """Rule 4."""
    assert str(tmp_path / "rxtasks") == find_directory(environ)
    assert 0o40700 == (tmp_path / "rxtasks").stat().st_mode


def test_without_a_runtime_directory_there_is_a_place_for_the_user(tmp_path: Path) -> None:
    tmp_path.chmod(0o1777)
    path = find_directory({"TMPDIR": str(tmp_path), "XDG_RUNTIME_DIR": "relative"})
    assert path in (f"/run/user/{os.geteuid()}/rxtasks", str(tmp_path / f"rxtasks-{os.geteuid()}"))
    assert 0o40700 == os.stat(path).st_mode


def test_a_directory_that_others_may_use_is_refused(environ: dict[str, str], tmp_path: Path) -> None:
    """Rule 4."""
    (tmp_path / "rxtasks").mkdir(mode=0o700)
    (tmp_path / "rxtasks").chmod(0o750)
    with pytest.raises(SettingsError, match=r"has mode 0750.*chmod 700"):
        Place.of("memory", environ)


def test_a_link_in_the_place_of_the_directory_is_refused(environ: dict[str, str], tmp_path: Path) -> None:
    """Rule 4: through O_NOFOLLOW."""
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    (tmp_path / "rxtasks").symlink_to("elsewhere")
    with pytest.raises(SettingsError, match="is a link"):
        Place.of("memory", environ)


def test_a_directory_below_one_that_others_can_change_is_refused(environ: dict[str, str], tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    with pytest.raises(SettingsError, match="can be changed by other users"):
        Place.of("memory", environ)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a directory of another user")
def test_a_directory_of_another_user_is_refused(environ: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "rxtasks").mkdir(mode=0o700)
    os.chown(tmp_path / "rxtasks", 12345, 12345)
    with pytest.raises(SettingsError, match="belongs to user 12345"):
        Place.of("memory", environ)


def test_files_of_others_kinds_in_the_place_are_no_pool(environ: dict[str, str]) -> None:
    place = Place.of("memory", environ)
    info = Path(place.directory, place.name + ".info")
    for content in (b"", b"{}", b"[1]", b"\xff", b'{"pid": "x", "store": 1, "started_at": "now"}', b"[" * 100_000):
        info.write_bytes(content)
        assert place.find() is None
        assert [] == Place.all(environ)
    info.unlink()
    os.mkfifo(info)
    assert place.find() is None
    with place.hold():
        assert isinstance(place.find(), Running)


def test_an_info_survives_what_later_versions_add(environ: dict[str, str]) -> None:
    with Place.of("memory", environ).hold(mode="thread") as held:
        body = held.info.to_json()
    assert held.info == PoolInfo.from_json(body[:-1] + b', "later": 1}')


def test_a_socket_can_be_reached_however_long_its_path_is(tmp_path: Path) -> None:
    """unix(7): 108 bytes."""
    deep = tmp_path / ("d" * 120)
    deep.mkdir()
    path = str(deep / "s.sock")
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
        with reachable(path) as name:
            server.bind(name)
        server.listen()
        assert os.path.exists(path)
        with reachable(path) as name:
            client.connect(name)


def test_what_pools_in_memory_have_left_is_swept_in_the_end(environ: dict[str, str]) -> None:
    old = Place.of("memory", environ, pid=2**30)
    directory = Path(old.directory)
    (directory / f"{old.name}.lock").touch()
    kept = Place.of("memory", environ, pid=2**30 + 1)
    from datetime import UTC, datetime, timedelta

    for place, age in ((old, 48), (kept, 1)):
        info = PoolInfo(2**30, "memory", datetime.now(UTC) - timedelta(hours=age), ticks=1)
        (directory / f"{place.name}.info").write_bytes(info.to_json())
    with Place.of("memory", environ).hold():
        assert old.find() is None
        assert isinstance(kept.find(), Dead)
