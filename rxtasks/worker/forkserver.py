"""The process from which workers are forked: `python -P -m rxtasks.worker forkserver <control_fd> <parent_pid> [<lock_fd>]`.

::

    parent ── environment, descriptors ──> fork server ── fork ──> worker, a child of the parent
           <───────── its pid ────────────

It has loaded what a worker needs, nothing of users, and has one thread. So a worker is there after some milliseconds
instead of a tenth of a second, and its pages are shared with the others. It ends when the parent does, or closes its end.
"""

from __future__ import annotations

import contextlib
import gc
import os
import select
import sys
from _socket import CMSG_SPACE, SCM_RIGHTS, SOL_SOCKET
from _socket import socket as Socket  # what socket.socket is made of, without 4 ms of imports
from array import array
from collections.abc import Callable
from typing import Any, Final, NoReturn

from rxtasks.worker import kernel
from rxtasks.worker.forkrequest import FDS, SAME_ENVIRONMENT, unpack_environment
from rxtasks.worker.siblings import fork_sibling

__all__ = ["serve"]

_MOST_BYTES: Final = 1 << 20
#: Seconds without a request after which there is time to load what the first workers did not wait for.
_CALM: Final = 0.1


def serve(control: int, parent: int, run: Callable[[list[str]], Any], lock: int = -1) -> NoReturn:
    """Fork a worker for each request; `run` is what it does there, with its arguments.

    Args:
        control: descriptor of a Unix socket that keeps messages apart.
        parent: pid of the process that this one, and each worker, is a child of.
        lock: descriptor that each worker inherits, -1 = none.
    """
    kernel.outlive_nobody()
    if os.getppid() != parent:
        os._exit(0)
    kernel.spare_the_parent()  # and so the workers
    for fd in (control, lock):
        if fd >= 0:
            os.set_inheritable(fd, False)
    sock = Socket(fileno=control)
    gc.freeze()  # a collection in a worker does not look at all this, nor copy its pages
    loaded = False
    while True:
        if not (loaded or select.select([sock], [], [], _CALM)[0]):
            loaded = True
            _load()
            gc.collect()
            gc.freeze()
        data, fds = _receive(sock)
        if not data:
            os._exit(0)
        try:
            pid = fork_sibling()
        except OSError as error:
            answer = -(error.errno or 1)
        else:
            if pid == 0:
                sock.close()
                _become_worker(data, fds, parent, run, lock)
            answer = pid
        for fd in fds:
            os.close(fd)
        try:
            sock.send(b"%d" % answer)
        except OSError:
            os._exit(0)


def _load() -> None:
    """Import what a worker imports with its first tasks."""
    import concurrent.futures
    import logging
    import pickle
    import traceback

    import cloudpickle

    from rxtasks.worker import failure, runtime

    del concurrent, logging, pickle, traceback, cloudpickle, failure, runtime


def _receive(sock: Socket) -> tuple[bytes, list[int]]:
    """Wait for a request; nothing when the parent has gone."""
    size = array("i").itemsize
    try:
        data, ancillary, _, _ = sock.recvmsg(_MOST_BYTES, CMSG_SPACE(FDS * size))
    except OSError:
        return b"", []
    fds = array("i")
    for level, kind, content in ancillary:
        if level == SOL_SOCKET and kind == SCM_RIGHTS:
            fds.frombytes(content[: len(content) - len(content) % size])
    return data, list(fds)


def _become_worker(data: bytes, fds: list[int], parent: int, run: Callable[[list[str]], Any], lock: int) -> NoReturn:
    """Be what a worker is that was started by itself: session, descriptors, directory, environment."""
    try:
        os.setsid()
        channel, tokens, passing, out, err, directory = fds
        for fd, standard in ((out, 1), (err, 2)):
            os.dup2(fd, standard)
            os.close(fd)
        os.fchdir(directory)
        os.close(directory)
        if data != SAME_ENVIRONMENT:
            _take_environment(data)
        sys.argv[1:] = arguments = [str(channel), str(tokens), str(parent), str(passing), str(lock)]
        run(arguments)
    except BaseException:
        with contextlib.suppress(BaseException):
            sys.excepthook(*sys.exc_info())
            sys.stderr.flush()
    finally:
        os._exit(70)


def _take_environment(packed: bytes) -> None:
    wanted = unpack_environment(packed)
    for name in list(os.environb):
        if name not in wanted:
            del os.environb[name]
    for name, value in wanted.items():
        if os.environb.get(name) != value:
            os.environb[name] = value
