"""The fork server: it forks children of ours, as they would have been started by us, and its loss costs time only."""

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
from rxtasks.isolation import forkserver
from rxtasks.isolation.forkserver import ForkServer, Sibling
from rxtasks.wire.codec import Encoder
from rxtasks.wire.message import Configure
from rxtasks.worker.forkrequest import pack_environment, unpack_environment
from rxtasks.worker.siblings import can_fork_siblings, fork_sibling

pytestmark = pytest.mark.skipif(not can_fork_siblings(), reason="needs Linux's CLONE_PARENT")

SOON = 20.0


@pytest.fixture
def server() -> Iterator[ForkServer]:
    made = ForkServer()
    yield made
    made.close()


class Forked:
    """A worker that was forked, and our ends of its descriptors."""

    def __init__(self, server: ForkServer) -> None:
        self.channel, theirs = socket.socketpair()
        self.tokens, token_write = os.pipe()
        passing, their_passing = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.out, out = os.pipe()
        self._ours = (self.channel, passing)
        self._fds = (self.tokens, token_write, out)
        with theirs, their_passing:
            self.worker = server.fork(theirs.fileno(), self.tokens, their_passing.fileno(), out, out)

    def __enter__(self) -> Sibling:
        assert self.worker is not None, "there was no fork"
        return self.worker

    def __exit__(self, *error: object) -> None:
        for sock in self._ours:
            sock.close()
        if self.worker is not None:
            self.worker.send_signal(signal.SIGKILL)
            self.worker.wait()
        for fd in (*self._fds, self.out):
            os.close(fd)


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def greeted(forked: Forked) -> bytes:
    """Greet the worker and return the first bytes that it says."""
    for frame in Encoder().encode(Configure("w-1", sys_path=list(sys.path))):
        forked.channel.sendall(frame)
    ready, _, _ = select.select([forked.channel], [], [], SOON)
    assert ready, "the worker says nothing"
    return forked.channel.recv(65536)


def test_a_forked_worker_is_a_child_of_ours_and_leads_its_session(server: ForkServer) -> None:
    """W-10: whom it belongs to, and what it is killed with, are as if it had been started by itself."""
    forked = Forked(server)
    with forked as worker:
        assert greeted(forked)
        assert parent_of(worker.pid) == os.getpid()
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


def test_a_lost_server_is_replaced(server: ForkServer) -> None:
    """W-10: killed from outside it costs one start; the next worker comes from another server."""
    with Forked(server):
        pass
    process = server._process
    assert process is not None
    process.kill()
    process.wait()
    forked = Forked(server)
    assert forked.worker is None, "start it in another way"
    forked.__exit__()
    with Forked(server) as worker:
        assert parent_of(worker.pid) == os.getpid()


def test_servers_that_end_again_and_again_are_given_up(server: ForkServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """W-04: where none can be had, nobody tries for ever; and none is left."""
    monkeypatch.setattr(forkserver, "command_line", lambda *arguments: [sys.executable, "-c", "pass"])
    started: list[int] = []
    for _ in range(5):
        Forked(server).__exit__()
        started.append(server._lost)
    assert started == [1, 2, 3, 3, 3]
    assert server._process is None


def test_a_stopped_server_is_given_up_however_patient_we_are(
    server: ForkServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """W-04, W-06: nothing is to be waited for, and the whole engine would wait; it is ended, with what it forked."""
    monkeypatch.setattr(forkserver, "_PATIENCE", 3600.0)
    with Forked(server):
        pass
    assert server._process is not None
    pid = server._process.pid
    os.kill(pid, signal.SIGSTOP)
    found: list[Sibling | None] = [Sibling(0)]

    def fork() -> None:
        forked = Forked(server)
        found[0] = forked.worker
        forked.__exit__()

    thread = threading.Thread(target=fork, daemon=True)
    thread.start()
    thread.join(SOON)
    assert found == [None]
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_server_that_does_not_answer_is_given_up(server: ForkServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """W-04: after a while; it is ended."""
    silent = [sys.executable, "-c", "import signal; signal.pause()"]
    monkeypatch.setattr(forkserver, "command_line", lambda *arguments: silent)
    monkeypatch.setattr(forkserver, "_PATIENCE", 0.2)
    forked = Forked(server)
    assert forked.worker is None and server._lost == 1
    forked.__exit__()


@pytest.mark.parametrize("number", [errno.EINVAL, errno.EPERM, errno.ENOSYS])
def test_where_such_a_fork_is_refused_there_is_none(
    server: ForkServer, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """W-04: a sandbox may forbid it; workers are started in the other way then."""
    monkeypatch.setattr(server, "_ask", lambda *fds: -number)
    for _ in range(2):
        forked = Forked(server)
        assert forked.worker is None and server._process is None
        forked.__exit__()


@pytest.mark.parametrize("number", [errno.EAGAIN, errno.ENOMEM])
def test_no_room_for_another_process_is_an_error(
    server: ForkServer, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """W-04: it would not be there for a process that is started in the other way, either."""
    monkeypatch.setattr(server, "_ask", lambda *fds: -number)
    with pytest.raises(OSError, match=os.strerror(number)):
        Forked(server)


def test_closed_it_leaves_nothing() -> None:
    """W-05: no process and no descriptor."""
    before = set(os.listdir("/proc/self/fd"))
    made = ForkServer()
    with Forked(made):
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
    made = ForkServer(wanted=False)
    forked = Forked(made)
    assert forked.worker is None and made._process is None
    forked.__exit__()


def test_a_process_with_threads_does_not_fork_so() -> None:
    """W-10: another thread could hold a lock that the copy would wait for."""
    done = threading.Event()
    other = threading.Thread(target=done.wait)
    other.start()
    try:
        with pytest.raises(OSError, match="not implemented"):
            fork_sibling()
    finally:
        done.set()
        other.join()


_COPY = """
import ctypes, os, sys, threading
sys.path.insert(0, sys.argv[1])
from rxtasks.worker.siblings import _tid_address, fork_sibling
pid = fork_sibling()
if pid == 0:
    thread = threading.Thread(target=lambda: None)
    thread.start()
    thread.join()
    known = ctypes.c_int.from_address(_tid_address()).value == os.getpid()  # to the C library
    text = f"{os.getppid()} {known and threading.main_thread().native_id == threading.get_native_id() == os.getpid()}"
    os.write(1, text.encode())
    os._exit(7)
os.write(1, f"{pid} ".encode())
"""


def test_the_copy_is_a_whole_process() -> None:
    """W-10: threads, thread numbers and exit status of the copy are right, and its parent is the caller's."""
    root = str(Path(__file__).resolve().parents[3])
    run = subprocess.Popen([sys.executable, "-c", _COPY, root], stdout=subprocess.PIPE)
    assert run.stdout is not None
    with run.stdout:
        said = run.stdout.read().decode()
    assert run.wait() == 0
    words = sorted(said.split())
    assert "True" in words and str(os.getpid()) in words
    (copy,) = (int(word) for word in words if word not in ("True", str(os.getpid())))
    assert os.waitstatus_to_exitcode(os.waitpid(copy, 0)[1]) == 7
