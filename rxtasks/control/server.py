"""`ControlServer`: the control API of a pool, in a thread of its own with an event loop of its own.

::

    the pool's process
    ├── core, delivery, ...                    never wait for any of this
    ├── rxtasks-control                        uvicorn: Unix socket (0600), and TCP where it is configured
    └── rxtasks-control-health-1 ... -work-8   the service's calls, so that the loop always answers

uvicorn's own loop wakes ten times a second and waits at its end for clients that go away by themselves. Here it sleeps until it
is stopped, and then cuts off whoever is still there. No signal handler is installed: that is the process's business.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import threading
import time
from typing import Any, Final

import uvicorn

from rxtasks.control.application import make_application
from rxtasks.control.desk import Desk
from rxtasks.control.directory import reachable
from rxtasks.control.door import Door
from rxtasks.control.host import Host
from rxtasks.control.hub import Hub
from rxtasks.control.kept import Kept
from rxtasks.control.lane import Lane
from rxtasks.control.mailbox import Budget
from rxtasks.control.openapi import describe
from rxtasks.control.place import Held
from rxtasks.control.protocol import HEAD_BYTES, BoundedProtocol
from rxtasks.control.shown import as_json
from rxtasks.control.sse import Streams
from rxtasks.control.table import OPERATIONS
from rxtasks.errors import RxTasksError, SettingsError
from rxtasks.forking import close_copies, no_longer, put_right
from rxtasks.service import TaskService

__all__ = ["ControlServer"]

_log: Final = logging.getLogger("rxtasks")
#: Connections that may wait to be taken in.
_BACKLOG: Final = 128
#: Threads for calls, and how many calls may wait for them.
_LANES: Final = (("health", 2, 64), ("quick", 4, 64), ("work", 8, 32))
#: Seconds that a start may take, and a stop.
_START: Final = 30.0
_STOP: Final = 5.0
#: Seconds that answers under way, and streams, have to end when it is stopped.
_GRACE: Final = 0.5


class ControlServer:
    """Serves the control API of a service.

    Args:
        service: what is controlled; it need not have been started.
        held: where the pool is found; its process holds it.
        host: the process that runs the pool.
        listen: "127.0.0.1:8080" to serve TCP as well, "[::1]:0" for any port; None = the Unix socket only.
        token: what TCP clients have to show.

    Raises:
        SettingsError: `listen` is no address, or there is no token for it.
    """

    def __init__(
        self,
        service: TaskService,
        held: Held,
        *,
        host: Host,
        listen: str | None = None,
        token: str | None = None,
    ) -> None:
        self._held = held
        self._address = None if listen is None else _address(listen)
        if listen is not None and not (token and token.strip()):
            raise SettingsError(
                f"the control server is to listen on {listen}, where anybody can reach it, and has no token; give one by a"
                " file or an environment variable"
            )
        lanes = [Lane(f"rxtasks-control-{name}", *bounds) for name, *bounds in _LANES]
        self._desk = Desk(service, host, Hub(service), Streams(), Kept(), Budget(), *lanes)
        from rxtasks import __version__

        description = as_json(describe(OPERATIONS, __version__))
        door = Door(None if listen is None or token is None else token.strip())
        self._server = _Server(
            uvicorn.Config(
                make_application(self._desk, OPERATIONS, door, description),
                loop="asyncio",
                http=BoundedProtocol,
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                date_header=False,
                backlog=_BACKLOG,
                timeout_keep_alive=5,
                h11_max_incomplete_event_size=HEAD_BYTES,
            ),
            self._desk,
        )
        self._sockets: list[socket.socket] = []
        self._thread: threading.Thread | None = None
        #: Where it listens by TCP, "127.0.0.1:8080"; None = nowhere.
        self.listens: str | None = None

    def start(self) -> None:
        """Start it, and return when it answers.

        Raises:
            SettingsError: the socket or the address cannot be had.
        """
        try:
            self._sockets.append(self._unix())
            if self._address is not None:
                self._sockets.append(_tcp(self._address))
                self.listens = _spelled(self._sockets[-1].getsockname())
                self._held.tell(listen=self.listens)
        except BaseException:
            self._close_sockets()
            raise
        put_right(self)
        self._thread = threading.Thread(target=self._run, name="rxtasks-control", daemon=True)
        self._thread.start()
        if not self._server.answers.wait(_START) or self._server.failed is not None:
            self.stop()
            raise RxTasksError(
                f"the control server could not be started: {self._server.failed or 'it does not answer'}"
            )

    def stop(self) -> None:
        """Stop it, in a moment: whoever is still connected is cut off. Idempotent."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        no_longer(self)
        with contextlib.suppress(OSError):
            os.unlink(self._held.socket)
        self._server.end()
        thread.join(_STOP)
        if thread.is_alive():
            _log.warning("the control server has not ended within %g s", _STOP)
        self._desk.kept.clear()
        for lane in (self._desk.health, self._desk.quick, self._desk.work):
            lane.close()

    def after_fork(self) -> None:
        """Nobody answers in a forked child: what connected there would wait for ever."""
        close_copies([sock.detach() for sock in self._sockets] + self._server.descriptors())
        self._sockets = []
        self._thread = None

    def _run(self) -> None:
        try:
            with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
                runner.run(self._server.serve(self._sockets))
        except BaseException as error:
            self._server.failed = error
            _log.error("the control server failed; the pool goes on, and nobody can control it", exc_info=error)
        finally:
            self._server.answers.set()
            self._close_sockets()

    def _close_sockets(self) -> None:
        for sock in self._sockets:
            sock.close()

    def _unix(self) -> socket.socket:
        path = self._held.socket
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            os.fchmod(sock.fileno(), 0o600)  # before it has a name: bind takes the mode from here
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
            with reachable(path) as name:
                sock.bind(name)
            os.chmod(path, 0o600)
            sock.listen(_BACKLOG)
        except OSError as error:
            sock.close()
            raise SettingsError(
                f"the control socket {path} cannot be made ({error}); check its directory, and that it can hold sockets"
            ) from error
        sock.setblocking(False)
        return sock


class _Server(uvicorn.Server):
    """uvicorn without its ticking, and with an end that waits for nobody."""

    def __init__(self, config: uvicorn.Config, desk: Desk) -> None:
        super().__init__(config)
        self._desk = desk
        #: Set when it answers, or never will.
        self.answers = threading.Event()
        self.failed: BaseException | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ended = asyncio.Event()

    def end(self) -> None:
        """Let it end; any thread."""
        loop = self._loop
        if loop is not None:
            with contextlib.suppress(RuntimeError):  # it has ended
                loop.call_soon_threadsafe(self._ended.set)

    def descriptors(self) -> list[int]:
        """Return those of the connections."""
        socks = [one.transport.get_extra_info("socket") for one in list(self.server_state.connections)]
        return [sock.fileno() for sock in socks if sock is not None]

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._loop = asyncio.get_running_loop()
        self.answers.set()

    async def main_loop(self) -> None:
        await self._ended.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for server in self.servers:
            server.close()
        self._desk.streams.end()
        state = self.server_state
        for connection in list(state.connections):
            connection.shutdown()
        until = time.monotonic() + _GRACE
        while state.connections and time.monotonic() < until:
            await asyncio.sleep(0.01)
        for connection in list(state.connections):
            transport: Any = connection.transport
            transport.abort()
        tasks = list(state.tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=_GRACE)
        self._desk.hub.close()


def _address(listen: str) -> tuple[str, int]:
    host, colon, port = listen.rpartition(":")
    host = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if not colon or not host or not port.isdigit() or int(port) > 65535:
        raise SettingsError(f"listen is an address and a port, as 127.0.0.1:8080 or [::1]:8080, not {listen!r}")
    return host, int(port)


def _tcp(address: tuple[str, int]) -> socket.socket:
    try:
        family, kind, protocol, _, where = socket.getaddrinfo(
            *address, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        sock = socket.socket(family, kind, protocol)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(where)
            sock.listen(_BACKLOG)
            sock.setblocking(False)
        except BaseException:
            sock.close()
            raise
        return sock
    except OSError as error:
        raise SettingsError(
            f"the control server cannot listen on {address[0]}:{address[1]} ({error}); give an address of this machine and a"
            " free port"
        ) from error


def _spelled(address: Any) -> str:
    host, port = address[0], address[1]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
