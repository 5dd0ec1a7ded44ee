"""Clients of the control API that are slow, dead or hostile harm nobody: neither the pool's work nor other clients."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from rxtasks.control.client import ControlClient, ControlError
from rxtasks.control.place import Dead, Place, Running
from rxtasks.control.protocol import CONNECTIONS
from tests.chaos.support import LONG, ROOT


class PoolProcess:
    """The pool of control_pool.py, as a process."""

    def __init__(self, directory: Path, store: str = "memory", *bounds: str) -> None:
        command = [sys.executable, "-m", "tests.chaos.control_pool", str(directory), store, *bounds]
        self.process = subprocess.Popen(
            command,
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": ROOT},
        )
        assert self.process.stdout is not None
        word, _, self.socket = self.process.stdout.readline().strip().partition(" ")
        assert word == "ready"
        self.client = ControlClient(self.socket, timeout=LONG)

    def connect(self) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(LONG)
        sock.connect(self.socket)
        return sock

    def still_works(self) -> None:
        """Push a task, and see it end well."""
        pushed = self.client.post("/v1/tasks", {"task": "pool.add", "args": [20, 22]})
        last = [event for event in self.client.stream(f"/v1/tasks/{pushed['task_id']}/events")][-1]
        assert ("succeeded", 42) == (last.data["status"], last.data["result"])
        assert self.client.get("/health")["ok"] is True

    def descriptors(self) -> int:
        return psutil.Process(self.process.pid).num_fds()

    def memory(self) -> int:
        return int(psutil.Process(self.process.pid).memory_info().rss)

    def end(self) -> None:
        """End it in order, and see that it does."""
        out, _ = self.process.communicate(timeout=LONG)
        assert "ended\n" == out
        assert 0 == self.process.returncode

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(LONG)


@contextlib.contextmanager
def running(directory: Path, store: str = "memory", *bounds: str) -> Iterator[PoolProcess]:
    made = PoolProcess(directory, store, *bounds)
    try:
        yield made
        made.end()
    finally:
        made.kill()


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PoolProcess]:
    # Quick to lose its patience, so that a test can wait for that.
    with running(tmp_path_factory.mktemp("run"), "memory", "1.0", "2.0") as made:
        made.still_works()
        yield made


def wait_until(found: Any, what: str) -> None:
    until = time.monotonic() + LONG
    while not found():
        assert time.monotonic() < until, what
        threading.Event().wait(0.02)


def rest_of(sock: socket.socket) -> bytes:
    """Return what comes until the other end closes."""
    found = b""
    with contextlib.suppress(ConnectionResetError):
        while part := sock.recv(65536):
            found += part
    return found


def send(sock: socket.socket, data: bytes) -> bytes:
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        sock.sendall(data)
    return rest_of(sock)


def test_a_thousand_connections_take_nobodys_place(pool: PoolProcess) -> None:
    """C-09: neither descriptors that the pool needs, nor the place of a client that asks something."""
    before = pool.descriptors()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096) if hard != resource.RLIM_INFINITY else 4096, hard))
    opened: list[socket.socket] = []
    try:
        for number in range(1000):
            sock = socket.socket(socket.AF_UNIX)
            sock.settimeout(LONG)
            while sock.connect_ex(pool.socket) == errno.EAGAIN:
                threading.Event().wait(0.005)  # as many wait to be taken in as may
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                sock.sendall(b"GET /health HTTP/1.1\r\nX: " if number % 2 else b"")
            opened.append(sock)
            if number % 100 == 99:
                assert pool.client.get("/health")["ok"] is True
        assert pool.descriptors() <= before + CONNECTIONS + 150
        pool.still_works()
    finally:
        for sock in opened:
            sock.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    wait_until(lambda: pool.descriptors() <= before + 5, "the connections are let go of")


def test_a_request_that_never_ends_is_cut_off(pool: PoolProcess) -> None:
    """Slowloris: a byte now and then; and one that never says anything."""
    slow, silent, second = pool.connect(), pool.connect(), pool.connect()
    second.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
    assert second.recv(65536).startswith(b"HTTP/1.1 200")
    second.sendall(b"GET /health HTTP/1.1\r\nHost:")  # the next one on the same connection
    over = threading.Event()

    def drip() -> None:
        with contextlib.suppress(OSError):
            slow.sendall(b"GET /health HTTP/1.1\r\n")
            while not over.wait(0.05):
                slow.sendall(b"X-a: b\r\n")

    dripping = threading.Thread(target=drip)
    dripping.start()
    try:
        for sock in (slow, silent, second):
            found = rest_of(sock)
            assert found == b"" or b'"TIMEOUT"' in found or found.startswith(b'{"ok":true')
    finally:
        over.set()
        dripping.join(LONG)
    pool.still_works()


def test_a_body_that_never_comes_is_cut_off(pool: PoolProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    """A body too large is refused at once; one that stays away in its time."""
    with pool.connect() as sock:
        found = send(sock, b"POST /v1/tasks HTTP/1.1\r\nHost: x\r\nContent-Length: 10000000\r\n\r\n")
    assert found.startswith(b"HTTP/1.1 413"), found
    with pytest.raises(ControlError) as caught:
        pool.client.post("/v1/tasks", {"task": "pool.add", "args": ["x" * 10_000_000]})
    assert (413, "TOO_LARGE") == (caught.value.status, caught.value.code)
    chunks = (
        b"POST /v1/tasks HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        + b"10000\r\n%s\r\n" % (b"x" * 65536) * 40
    )
    with pool.connect() as sock:
        assert send(sock, chunks).startswith(b"HTTP/1.1 413")
    with pool.connect() as sock:
        found = send(sock, b"POST /v1/tasks HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n{")
        assert found.startswith(b"HTTP/1.1 408"), found
    pool.still_works()


HEAD = b"GET /health HTTP/1.1\r\nHost: x\r\n"
POST = b"POST /v1/tasks HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\n"


def post(body: bytes) -> bytes:
    return POST + b"Content-Length: %d\r\n\r\n" % len(body) + body


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"\x00\xff\xfe garbage \r\n\r\n", b"400"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 50 + b"\r\n\r\n", b"400"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"4"),
        (b"GET /health HTTP/1.1\r\n\r\n", b"400"),  # without a Host
        (HEAD + b"Host: y\r\n\r\n", b"400"),
        (HEAD + b"X: " + b"y" * 1_000_000 + b"\r\n\r\n", b"400"),
        (b"GET /" + b"y" * 100_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", b"431"),
        (HEAD + b"".join(b"X%d: y\r\n" % n for n in range(5000)) + b"\r\n", b"431"),
        (HEAD + b"Content-Length: -1\r\n\r\n", b"400"),
        (HEAD + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n", b"400"),
        (POST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", b"400"),
        (HEAD + b"Connection: close, upgrade\r\nUpgrade: websocket\r\n\r\n", b"200"),
        (b"GET http://evil/health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", b"404"),
        (b"GET /v1/tasks/..%2f..%2fetc%2fpasswd HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", b"404"),
        (b"GET /../../etc/passwd HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", b"404"),
        (b"GET //health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", b"404"),
        (b"GET /health/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", b"404"),
        (b"GET /v1/tasks/%00%ff%fe HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", b"404"),
        (b"GET /v1/tasks/%ed%a0%80 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", b"404"),
        (b"GET /v1/tasks/" + b"a" * 5000 + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", b"404"),
        (b"GET /v1/tasks?name=%ff%fe HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", b"200"),
        (b"GET /v1/tasks?name=%00 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", b"200"),
        (b"GET /v1/tasks?%ff HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", b"422"),
        (b"GET /v1/tasks?limit=1&limit=2 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", b"422"),
        (b"GET /v1/tasks?limit=%D9%A1 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", b"422"),  # a digit of Arabic
        (b"TRACE /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", b"405"),
        (b"CONNECT x:1 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", b"404"),
        (post(b"{"), b"400"),
        (post(b'{"task": NaN}'), b"400"),
        (post(b'{"task": "pool.add", "args": [Infinity]}'), b"400"),
        (post(b'{"task": "\xff"}'), b"400"),
        (post(b'{"task": "\\ud800"}'), b"400"),
        (post(b'\xef\xbb\xbf{"task": "pool.add"}'), b"400"),
        (post('{"task": "pool.add"}'.encode("utf-16")), b"400"),
        (post(b'{"task": "pool.add", "args": ' + b"[" * 300 + b"]" * 300 + b"}"), b"422"),
        (post(b"[" * 500_000), b"400"),
        (post(b'{"a":' * 100_000), b"400"),
        (post(b"9" * 900_000), b"400"),
        (post(b'{"task": "pool.add", "args": [1' + b"0" * 5000 + b"]}"), b"4"),
        (post(b"null"), b"422"),
        (post(b"[]"), b"422"),
        (post(b""), b"400"),
        (POST.replace(b"application/json", b"text/plain") + b"Content-Length: 2\r\n\r\n{}", b"415"),
    ],
)
def test_what_is_no_request_is_refused(pool: PoolProcess, request_: bytes, status: bytes) -> None:
    with pool.connect() as sock:
        found = send(sock, request_)
    assert found[9:12].startswith(status), found[:300]
    assert b"Traceback" not in found


def test_the_pool_works_on_after_all_that(pool: PoolProcess) -> None:
    pool.still_works()


def test_requests_in_a_row_without_waiting_are_answered_in_order(pool: PoolProcess) -> None:
    """Pipelining; and a client that goes away in the middle of it."""
    with pool.connect() as sock:
        found = send(sock, (HEAD + b"\r\n") * 5 + HEAD + b"Connection: close\r\n\r\n")
        assert 6 == found.count(b"HTTP/1.1 200"), found
    for _ in range(20):
        with pool.connect() as sock:
            sock.sendall((HEAD + b"\r\n") * 50)
    pool.still_works()


def test_a_client_that_never_reads_its_stream_slows_nobody_down(pool: PoolProcess) -> None:
    """C-09: another one gets every event meanwhile; the first is cut off."""
    pool.still_works()
    before = pool.descriptors()
    deaf = [pool.connect() for _ in range(6)]
    for sock in deaf[:3]:
        sock.sendall(b"GET /v1/events HTTP/1.1\r\nHost: x\r\n\r\n")
        assert sock.recv(9) == b"HTTP/1.1 "  # it is open: it gets all that follows
    pushed = pool.client.post("/v1/tasks", {"task": "pool.lines", "args": [12_000, 100]})
    path = f"/v1/tasks/{pushed['task_id']}/events"
    for sock in deaf[3:]:
        sock.sendall(b"GET " + path.encode() + b" HTTP/1.1\r\nHost: x\r\n\r\n")
    began = time.monotonic()
    seqs: list[int] = []
    for event in pool.client.stream(path):
        assert event.id is not None, event
        seqs.append(int(event.id))
    took = time.monotonic() - began
    assert list(range(1, 12_003)) == seqs
    assert took < LONG
    # The server gives them up by itself: its end of the connection is closed while they still hold theirs.
    wait_until(lambda: pool.descriptors() <= before + 1, "those who take nothing are cut off")
    assert pool.client.get("/health")["delivery_behind"] is False
    for sock in deaf:
        found = rest_of(sock)
        assert b"event: " in found
        sock.close()
    pool.still_works()
    assert pool.memory() < 400 * 2**20


def test_a_quick_client_of_all_events_gets_all_beside_deaf_ones(pool: PoolProcess) -> None:
    deaf = [pool.connect() for _ in range(3)]
    for sock in deaf:
        sock.sendall(b"GET /v1/events HTTP/1.1\r\nHost: x\r\n\r\n")
        assert sock.recv(9) == b"HTTP/1.1 "
    stream = pool.client.stream("/v1/events")
    task_id = pool.client.post("/v1/tasks", {"task": "pool.lines", "args": [6000, 50]})["task_id"]
    seqs: list[int] = []
    for event in stream:
        assert event.id is not None, event  # nothing about the stream itself: no gap, no overflow
        if event.data["task_id"] == task_id:
            seqs.append(event.data["seq"])
            if event.data.get("status") == "succeeded":
                break
    stream.close()  # type: ignore[attr-defined]
    assert list(range(1, 6003)) == seqs
    for sock in deaf:
        sock.close()


def test_a_client_that_stands_still_or_is_killed_in_its_stream_harms_nobody(pool: PoolProcess) -> None:
    code = (
        "import sys; from rxtasks.control.client import ControlClient\n"
        "stream = ControlClient(sys.argv[1]).stream('/v1/events')\n"
        "print('open', flush=True)\n"
        "for event in stream: pass\n"
    )
    before = pool.descriptors()
    others = [
        subprocess.Popen([sys.executable, "-c", code, pool.socket], cwd=ROOT, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    try:
        for other in others:
            assert other.stdout is not None
            assert "open\n" == other.stdout.readline()
        os.kill(others[0].pid, signal.SIGSTOP)
        others[1].kill()
        pool.still_works()
        pushed = pool.client.post("/v1/tasks", {"task": "pool.lines", "args": [5000, 500]})
        assert [event for event in pool.client.stream(f"/v1/tasks/{pushed['task_id']}/events")][-1].data[
            "result"
        ] == 5000
        wait_until(lambda: pool.descriptors() <= before + 2, "both are let go of")
    finally:
        for other in others:
            other.kill()
            other.wait(LONG)


def test_more_streams_than_may_be_are_refused_and_their_places_come_back(pool: PoolProcess) -> None:
    opened = []
    with pytest.raises(ControlError) as caught:
        for _ in range(200):
            opened.append(pool.client.stream("/v1/events"))
    assert (503, "BUSY") == (caught.value.status, caught.value.code)
    assert 128 == len(opened)
    assert pool.client.get("/health")["ok"] is True
    for stream in opened:
        stream.close()  # type: ignore[attr-defined]
    opened.clear()
    wait_until(lambda: _opens(pool), "a place is free again")


def _opens(pool: PoolProcess) -> bool:
    try:
        pool.client.stream("/v1/events").close()  # type: ignore[attr-defined]
    except ControlError:
        return False
    return True


def test_of_a_pool_that_is_killed_a_client_is_told(tmp_path: Path) -> None:
    """kill -9 in the middle of a stream, and between two commands."""
    made = PoolProcess(tmp_path, f"sqlite:///{tmp_path}/tasks.db")
    try:
        place = Place.of(f"sqlite:///{tmp_path}/tasks.db", {"XDG_RUNTIME_DIR": str(tmp_path)})
        assert isinstance(place.find(), Running)
        stream = made.client.stream("/v1/events")
        made.process.kill()
        made.process.wait(LONG)
        with pytest.raises(ControlError) as caught:
            list(stream)
        assert (0, "BROKEN") == (caught.value.status, caught.value.code)
        found = place.find()
        assert isinstance(found, Dead)
        assert made.process.pid == found.info.pid
        with pytest.raises(ControlError) as caught:
            made.client.get("/health")
        assert (0, "NO_POOL") == (caught.value.status, caught.value.code)
        with running(tmp_path, f"sqlite:///{tmp_path}/tasks.db") as again:
            again.still_works()
    finally:
        made.kill()


def test_a_pool_that_stands_still_does_not_hold_a_command_for_ever(tmp_path: Path) -> None:
    made = PoolProcess(tmp_path)
    try:
        os.kill(made.process.pid, signal.SIGSTOP)
        with pytest.raises(ControlError) as caught:
            ControlClient(made.socket, timeout=0.2).get("/health")
        assert (0, "TIMEOUT") == (caught.value.status, caught.value.code)
        os.kill(made.process.pid, signal.SIGCONT)
        assert made.client.get("/health")["ok"] is True
    finally:
        made.kill()


def test_health_answers_while_workers_are_busy_and_the_slow_calls_are_taken(pool: PoolProcess) -> None:
    """C-07: whatever hangs in the pool's slow answers."""
    for _ in range(2):
        pool.client.post("/v1/tasks", {"task": "pool.spin", "args": [2.0]})
    busy = [pool.connect() for _ in range(60)]
    for sock in busy:
        sock.sendall(b"GET /v1/explain HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert pool.client.get("/health")["ok"] is True
    answers = [rest_of(sock)[9:12] for sock in busy]
    assert {b"200"} <= set(answers) <= {b"200", b"503"}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_another_user_is_not_let_in(tmp_path: Path) -> None:
    """Rule 4: peer credentials, also where the file's mode would let him."""
    code = (
        "import os, socket, sys\n"
        "s = socket.socket(socket.AF_UNIX); s.settimeout(20)\n"
        "os.setuid(65534)\n"
        "s.connect(sys.argv[1])\n"
        "try:\n"
        "    s.sendall(b'GET /health HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n')\n"
        "    print(s.recv(100))\n"
        "except OSError as error:\n"
        "    print(type(error).__name__)\n"
    )
    open_to_all = Path("/tmp") / f"rxtasks-test-{os.getpid()}"
    open_to_all.mkdir(mode=0o700)
    try:
        with running(open_to_all) as made:
            for path in (open_to_all, Path(made.socket).parent, Path(made.socket)):
                path.chmod(0o777)
            found = subprocess.run(
                [sys.executable, "-c", code, made.socket], capture_output=True, text=True, timeout=LONG, check=False
            )
            assert found.stdout.strip() in ("b''", "BrokenPipeError", "ConnectionResetError"), found
            Path(made.socket).parent.chmod(0o700)
            made.still_works()
    finally:
        import shutil

        shutil.rmtree(open_to_all)


FORKS = """
import os, sys
from tests.chaos import control_pool
from rxtasks.control.server import ControlServer

start = ControlServer.start

def start_and_fork(self):
    start(self)
    from rxtasks.control.client import ControlClient
    stream = ControlClient(self._held.socket).stream("/v1/events")
    child = os.fork()
    if child == 0:
        import time
        time.sleep(600)
        os._exit(0)
    print("child", child, flush=True)

ControlServer.start = start_and_fork
control_pool.main(*sys.argv[1:])
"""


def test_a_forked_child_that_outlives_the_pool_keeps_no_client_waiting(tmp_path: Path) -> None:
    """Rule 4: neither the lock, nor the socket, nor a connection is the child's."""
    command = [sys.executable, "-c", FORKS, str(tmp_path), "sqlite:////" + str(tmp_path) + "/tasks.db"]
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": ROOT},
    )
    child = 0
    try:
        assert process.stdout is not None
        child = int(process.stdout.readline().split()[1])
        path = process.stdout.readline().split()[1]
        client = ControlClient(path, timeout=LONG)
        assert client.get("/health")["ok"] is True
        process.kill()
        process.wait(LONG)
        os.kill(child, 0)  # it lives
        with pytest.raises(ControlError) as caught:
            client.get("/health")
        assert (0, "NO_POOL") == (caught.value.status, caught.value.code)
        found = Place.of(f"sqlite:////{tmp_path}/tasks.db", {"XDG_RUNTIME_DIR": str(tmp_path)}).find()
        assert isinstance(found, Dead)
        # No descriptor of the child leads to a socket that is named like the pool's, or connected to it.
        inodes = {line.split()[6] for line in Path("/proc/net/unix").read_text().splitlines() if line.endswith(path)}
        links = [
            os.readlink(entry) for entry in Path(f"/proc/{child}/fd").iterdir() if entry.exists() or entry.is_symlink()
        ]
        assert not [link for link in links if any(f"[{inode}]" in link for inode in inodes)]
    finally:
        process.kill()
        if child:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
