"""The pool under systemd: notifications over a real datagram socket, the watchdog, the unit."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from rxtasks.host.notify import Notifier
from tests.acceptance.pools import LONG, Home, home


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Home]:
    with home(tmp_path) as made:
        yield made


class Manager:
    """What systemd is to a service: a socket that takes its messages."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind("\0" + address[1:] if address.startswith("@") else address)
        self._socket.settimeout(LONG)

    def next(self) -> dict[str, str]:
        """Return the next message."""
        lines = self._socket.recv(65536).decode().splitlines()
        return dict(line.split("=", 1) for line in lines)

    def until(self, key: str) -> dict[str, str]:
        """Return the next message that has this key."""
        end = time.monotonic() + LONG
        while time.monotonic() < end:
            if key in (found := self.next()):
                return found
        raise AssertionError(f"no {key} within {LONG:g} s")

    def close(self) -> None:
        self._socket.close()


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Manager]:
    made = Manager(str(tmp_path / "n") if request.param == "path" else f"@rxtasks-{uuid.uuid4().hex}")
    yield made
    made.close()


def test_it_says_when_it_is_ready_that_it_is_alive_and_that_it_stops(own: Home, manager: Manager) -> None:
    """sd_notify(3): READY=1, STATUS=, WATCHDOG=1, STOPPING=1; its workers are told nothing of the socket."""
    environ = {"NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": "300000"}
    pool = own.begin("worker", "start", "--count", "1", environ=environ)
    ready = manager.until("READY")
    assert ("1", str(pool.pid)) == (ready["READY"], ready["MAINPID"])
    assert "1 process worker on sqlite:///" in ready["STATUS"]
    assert "1" == manager.until("WATCHDOG")["WATCHDOG"]
    assert "1 worker, 0 busy, 0 tasks pending, 0 running" == manager.until("STATUS")["STATUS"]
    below = psutil.Process(pool.pid).children(recursive=True)
    assert below
    for process in below:
        assert "NOTIFY_SOCKET" not in process.environ() and "WATCHDOG_USEC" not in process.environ()
    pool.send_signal(signal.SIGTERM)
    assert int(manager.until("EXTEND_TIMEOUT_USEC")["EXTEND_TIMEOUT_USEC"]) > 60e6
    assert "SIGTERM: drains" == manager.until("STOPPING")["STATUS"]
    assert 0 == pool.wait(LONG)


def test_a_detached_pool_is_the_main_process(own: Home, tmp_path: Path) -> None:
    """MAINPID= names the process that goes on; the command itself says so too, as systemd listens to nobody else until then."""
    manager = Manager(str(tmp_path / "n"))
    try:
        client = own.start(
            "--count", "1", environ={"NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": "300000", "WATCHDOG_PID": "1"}
        )
        pid = str(client.get("/v1/status")["pid"])
        assert [pid, pid] == [manager.until("READY")["MAINPID"] for _ in range(2)]
        assert "1" == manager.until("WATCHDOG")["WATCHDOG"]
    finally:
        manager.close()
    own.run("worker", "stop")


def test_nobody_who_listens_is_no_error(tmp_path: Path) -> None:
    """A socket that is gone, is none, or takes nothing more; an address that is no address."""
    gone = str(tmp_path / "gone")
    for address in (gone, str(tmp_path), "@nobody-listens", "relative", "", "@", "vsock:2:3", "/" + "x" * 300):
        notifier = Notifier.from_environment({"NOTIFY_SOCKET": address})
        notifier.ready("well\nREADY=0")
    full = Manager(gone)
    for _ in range(2000):
        Notifier(gone).status("more than it takes")
    full.close()


def test_the_watchdog_is_that_of_this_process_only() -> None:
    """sd_watchdog_enabled(3): another's WATCHDOG_PID, or no number, means none; the variables are taken out."""
    for words, seconds in (
        ({"WATCHDOG_USEC": "30000000"}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "-5"}, None),
        ({"WATCHDOG_USEC": "much"}, None),
        ({}, None),
    ):
        environ = dict(words)
        assert seconds == Notifier.from_environment(environ).watchdog
        assert {} == environ


def test_the_unit_is_one_that_systemd_understands(own: Home, tmp_path: Path) -> None:
    """`rxtasks worker unit`: with the command's options, quoted as systemd reads them."""
    done = own.run("worker", "unit", "--module", "shop.tasks", "--store", "sqlite:////var/lib/r x/100%$.db")
    assert 0 == done.returncode
    [start] = [line for line in done.stdout.splitlines() if line.startswith("ExecStart=")]
    assert start.endswith('worker start --module shop.tasks --store "sqlite:////var/lib/r x/100%%$$.db"')
    assert os.path.isabs(start.removeprefix("ExecStart=").split()[0])
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    path = tmp_path / "rxtasks.service"
    path.write_text(done.stdout)
    checked = subprocess.run(
        ["systemd-analyze", "verify", str(path)], capture_output=True, text=True, timeout=LONG, check=False
    )
    assert (0, "") == (checked.returncode, "\n".join(line for line in checked.stderr.splitlines() if "rxtasks" in line))
