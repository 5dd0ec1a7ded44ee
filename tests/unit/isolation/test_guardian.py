"""The guardian as the engine sees it: workers come from it, and where there can be none they are started in another way."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from rxtasks import TaskService
from rxtasks.isolation import guardian
from rxtasks.isolation.base import Host
from rxtasks.isolation.guardian import Guarded, Guardian, can_guard
from rxtasks.wire.codec import Encoder
from rxtasks.wire.message import Configure
from rxtasks.worker.guardwords import FAILED, Said, pack_environment, parse, unpack_environment

pytestmark = pytest.mark.skipif(not can_guard(), reason="needs Linux")

SOON = 20.0


class FakeHost(Host):
    """Watches nothing."""

    def __init__(self) -> None:
        self.calls: list[object] = []

    def watch(self, fd: int, events: int, reader: object) -> None:
        pass

    def unwatch(self, fd: int) -> None:
        pass

    def later(self, seconds: float, call: object) -> None:
        self.calls.append(call)

    def call(self, call: object) -> None:
        self.calls.append(call)


@pytest.fixture(params=[True, False])
def server(request: pytest.FixtureRequest) -> Iterator[Guardian]:
    made = Guardian(forks=request.param)
    yield made
    made.close()


class Started:
    """A worker that was forked, and our ends of its descriptors."""

    def __init__(self, server: Guardian) -> None:
        self.channel, theirs = socket.socketpair()
        self.tokens, token_write = os.pipe()
        passing, their_passing = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.out, out = os.pipe()
        self._ours = (self.channel, passing)
        self._fds = (self.tokens, token_write, out)
        with theirs, their_passing:
            self.worker = server.start(FakeHost(), theirs.fileno(), self.tokens, their_passing.fileno(), out, out)

    def __enter__(self) -> Guarded:
        assert self.worker is not None, "there is no worker"
        return self.worker

    def __exit__(self, *error: object) -> None:
        for sock in self._ours:
            sock.close()
        if self.worker is not None:
            self.worker.reap()
        for fd in (*self._fds, self.out):
            os.close(fd)


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def greeted(started: Started) -> bytes:
    """Greet the worker and return the first bytes that it says."""
    for frame in Encoder().encode(Configure("w-1", sys_path=list(sys.path))):
        started.channel.sendall(frame)
    ready, _, _ = select.select([started.channel], [], [], SOON)
    assert ready, "the worker says nothing"
    return started.channel.recv(65536)


def test_a_worker_is_a_child_of_the_guardian_and_leads_its_session(server: Guardian) -> None:
    """W-10: whom it belongs to, and what it holds."""
    started = Started(server)
    with started as worker:
        assert greeted(started)
        assert server._process is not None and parent_of(worker.pid) == server._process.pid
        assert os.getsid(worker.pid) == worker.pid == os.getpgid(worker.pid)
        assert os.readlink(f"/proc/{worker.pid}/fd/1").startswith("pipe:")
        assert os.readlink(f"/proc/{worker.pid}/fd/0") == os.devnull
        score = Path(f"/proc/{worker.pid}/oom_score_adj").read_text()
        assert int(score) == min(1000, int(Path("/proc/self/oom_score_adj").read_text()) + 200)
        sockets = [fd for fd in os.listdir(f"/proc/{worker.pid}/fd") if is_socket(worker.pid, fd)]
        assert len(sockets) == 2, "it holds the channel and the way of memory files, and nobody else's"


def is_socket(pid: int, fd: str) -> bool:
    with contextlib.suppress(OSError):
        return os.readlink(f"/proc/{pid}/fd/{fd}").startswith("socket:")
    return False


def test_a_worker_sees_directory_and_environment_of_now(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """E-05: not those of the moment when the server started; and its own children see the same."""
    program = "import os; print(os.environ.get('RXTASKS_TEST'), os.environ.get('RXTASKS_GONE'), os.getcwd())"
    run = [sys.executable, "-c", program]
    monkeypatch.setenv("RXTASKS_GONE", "there")
    with TaskService(workers=1, echo=None) as service:
        seen = service.submit(subprocess.check_output, run, text=True).result(SOON)
        assert seen == f"None there {os.getcwd()}\n"
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("RXTASKS_TEST", "now")
        monkeypatch.delenv("RXTASKS_GONE")
        replaced = threading.Event()
        service.pool.subscribe(lambda event: replaced.set() if event.kind == "ready" else None)
        (worker,) = service.workers()
        assert worker.pid is not None
        os.kill(worker.pid, signal.SIGKILL)
        assert replaced.wait(SOON)
        seen = service.submit(subprocess.check_output, run, text=True).result(SOON)
        assert seen == f"now None {tmp_path}\n"


def test_environments_travel_byte_by_byte() -> None:
    """R25: names and values that are no text, empty ones, and values with "=" in them."""
    environment = {b"A": b"", b"B": b"x=y=", b"C\xff": b"\xff\xfe", b"=D": b"1", b"E": b"a\nb"}
    assert unpack_environment(pack_environment(environment)) == environment


def test_a_lost_server_is_replaced(server: Guardian) -> None:
    """W-10: killed from outside it costs nothing: the next worker comes from another one, and is guarded."""
    with Started(server):
        pass
    process = server._process
    assert process is not None
    process.kill()
    process.wait()
    with Started(server) as worker:
        assert server._process not in (None, process)
        assert parent_of(worker.pid) == server._process.pid  # type: ignore[union-attr]


def test_servers_that_end_again_and_again_are_given_up(server: Guardian, monkeypatch: pytest.MonkeyPatch) -> None:
    """W-04: where none can be had, nobody tries for ever; and none is left."""
    monkeypatch.setattr(guardian, "command_line", lambda *arguments, **options: [sys.executable, "-c", "pass"])
    started: list[int] = []
    for _ in range(5):
        Started(server).__exit__()
        started.append(server._lost)
    assert started == [3] * 5
    assert server._process is None


def test_a_stopped_guardian_is_continued(server: Guardian) -> None:
    """W-04, W-06: the engine waits for its answer: it is to give it."""
    with Started(server):
        pass
    assert server._process is not None
    os.kill(server._process.pid, signal.SIGSTOP)
    found: list[int] = []

    def start() -> None:
        with Started(server) as worker:
            found.append(parent_of(worker.pid))

    thread = threading.Thread(target=start, daemon=True)
    thread.start()
    thread.join(SOON)
    assert found == [server._process.pid]


def test_a_server_that_does_not_answer_is_given_up(server: Guardian, monkeypatch: pytest.MonkeyPatch) -> None:
    """W-04: after a while; it is ended."""
    silent = [sys.executable, "-c", "import signal; signal.pause()"]
    monkeypatch.setattr(guardian, "command_line", lambda *arguments, **options: silent)
    monkeypatch.setattr(guardian, "_PATIENCE", 0.2)
    started = Started(server)
    assert started.worker is None and server._lost == 1
    started.__exit__()


@pytest.mark.parametrize("number", [errno.EINVAL, errno.EPERM, errno.ENOSYS])
def test_where_a_guardian_can_start_nothing_there_is_none(
    server: Guardian, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """W-04: a sandbox may forbid it; workers are started in the other way then."""
    monkeypatch.setattr(server, "_ask", lambda host, fds: (Said(FAILED, number), -1))
    for _ in range(2):
        started = Started(server)
        assert started.worker is None and server._process is None
        started.__exit__()


@pytest.mark.parametrize("number", [errno.EAGAIN, errno.ENOMEM])
def test_no_room_for_another_process_is_an_error(
    server: Guardian, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """W-04: it would not be there for a process that is started in the other way, either."""
    monkeypatch.setattr(server, "_ask", lambda request, fds: (Said(FAILED, number), -1))
    with pytest.raises(OSError, match=os.strerror(number)):
        Started(server)


def test_closed_it_leaves_nothing() -> None:
    """W-05: no process and no descriptor."""
    before = set(os.listdir("/proc/self/fd"))
    made = Guardian()
    with Started(made):
        pass
    assert made._process is not None
    pid = made._process.pid
    made.close()
    made.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert set(os.listdir("/proc/self/fd")) <= before


def test_without_one_nothing_is_forked() -> None:
    """W-04: as a setting says."""
    made = Guardian(wanted=False)
    started = Started(made)
    assert started.worker is None and made._process is None
    started.__exit__()


def test_a_large_environment_travels_too(server: Guardian, monkeypatch: pytest.MonkeyPatch) -> None:
    """E-05: what does not fit into one message: 1.5 MB of it."""
    with Started(server):
        pass
    for number in range(15):
        monkeypatch.setenv(f"RXTASKS_TEST_{number}", "x" * 100_000)
    with Started(server) as worker:
        assert worker.pid


@pytest.mark.parametrize("message", [b"", b"S", b"S x", b"E 1", b"X 1", b"S 1 2", b"\xff"])
def test_what_no_guardian_says_is_refused(message: bytes) -> None:
    """R21: it is given up then."""
    with pytest.raises(ValueError):
        parse(message)


@pytest.mark.parametrize(
    ("message", "said"), [(b"S 12", ("S", 12, None)), (b"E 12 -9", ("E", 12, -9)), (b"E 1 ?", ("E", 1, None))]
)
def test_what_a_guardian_says_is_understood(message: bytes, said: tuple[str, int, int | None]) -> None:
    """W-10: the words of the protocol."""
    assert said == parse(message)
