"""A worker process: `python -P -m rxtasks.worker <channel_fd> <token_fd> <parent_pid> [<passing_fd> [<lock_fd>]]`.

`python -P -m rxtasks.worker forkserver ...` is their guardian (guardian.py), from which they are forked. The parent is the
guardian, or where there can be none the caller's process. The lock is one that the caller's store holds
(rxtasks.stores.membership): kept open here, so that it is free only when this process has ended too.

::

    kernel: end with the parent ── greeting ── taps ── modules ── initializer ── resources ── Ready ── serve ── leave
                                                          └────────── what is raised ────────> StartFailed, exit 1

Hooks are called before the modules and after the resources (worker_start), and before and after the resources are closed
(worker_stop); see hooks.py.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
from typing import Any

from rxtasks.forking import put_right
from rxtasks.wire.message import PROTOCOL, Configure, Message, Ready, StartFailed
from rxtasks.worker import kernel
from rxtasks.worker.channel import Channel
from rxtasks.worker.children import end_children
from rxtasks.worker.guardwords import FORK_SERVER
from rxtasks.worker.registry import default_registry
from rxtasks.worker.runtime import Runtime

__all__ = ["main", "run"]


def main(arguments: list[str] | None = None) -> None:
    """Run a worker, or a fork server; does not return."""
    given = sys.argv[1:] if arguments is None else arguments
    if given[0] == FORK_SERVER:
        from rxtasks.worker.guardian import main as guard

        guard(given[1:], run)
    run(given)


def run(given: list[str]) -> None:
    """Run a worker with the command's arguments; does not return."""
    channel_fd, tokens, parent = int(given[0]), int(given[1]), int(given[2])
    passing_fd = int(given[3]) if len(given) > 3 else -1
    lock_fd = int(given[4]) if len(given) > 4 else -1
    # What the caller's process blocks or ignores is not for handlers, nor for the end of this one.
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    for number in (signal.SIGALRM, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    kernel.outlive_nobody()
    if os.getppid() != parent:
        os._exit(0)
    kernel.become_subreaper()
    kernel.spare_the_parent()
    for fd in (channel_fd, tokens, passing_fd, lock_fd):
        if fd >= 0:
            os.set_inheritable(fd, False)
    os.set_blocking(tokens, False)
    channel = Channel(channel_fd, passing_fd)
    configure, early = _greeting(channel)
    runtime = Runtime(channel, tokens, configure, lock_fd)
    put_right(runtime)
    for message in early:
        runtime.inbox.take(message)
    runtime.control.start()
    runtime.on_alarm()
    try:
        _set_up(configure, runtime)
        runtime.prepare()
    except BaseException as error:
        from rxtasks.worker.failure import describe

        runtime.outbox.flush()
        channel.send(StartFailed(describe(error).to_dict()))
        _leave(runtime, 1)
    names, options = default_registry.names(), default_registry.own_options()
    channel.send(Ready(os.getpid(), PROTOCOL, sys.version.split()[0], names, options))
    try:
        runtime.serve()
    except BaseException as error:
        import traceback

        os.write(2, "".join(traceback.format_exception(error)).encode("utf-8", "backslashreplace"))
        os._exit(70)
    _leave(runtime, 0)


def _greeting(channel: Channel) -> tuple[Configure, list[Message]]:
    """Return the first command, and those that came with it: at least the Defines that it announces."""
    messages: list[Message] = []
    poll = select.poll()
    poll.register(channel.fd, select.POLLIN)
    while True:
        poll.poll()
        messages += channel.read()
        if not messages:
            continue
        first = messages[0]
        if not isinstance(first, Configure) or first.protocol != PROTOCOL:
            text = f"the worker speaks protocol {PROTOCOL}; the greeting was {str(first)[:200]}"
            channel.send(StartFailed({"type": "rxtasks.errors.ProtocolError", "message": text}))
            os._exit(1)
        if len(messages) > first.defines:
            return first, messages[1:]


def _set_up(configure: Configure, runtime: Runtime) -> None:
    """Do what comes before the first task: path, taps, modules, initializer, resources."""
    wanted = [entry for entry in configure.sys_path if entry not in sys.path]
    sys.path[:0] = wanted
    runtime.tap.install()
    executor = runtime.executor
    executor.hooks.around("before_worker_start", configure.worker_id)
    if configure.modules:
        from importlib import import_module

        for name in configure.modules:
            import_module(name)
    if configure.initializer is not None:
        import pickle

        function, args = pickle.loads(configure.initializer)
        function(*args)
    executor.equipment.resources.build()
    executor.hooks.around("after_worker_start", configure.worker_id)
    for name in configure.preload:
        from importlib import import_module

        with contextlib.suppress(Exception, SystemExit):  # it fails the task that needs it, in words of its own
            import_module(name)


def _leave(runtime: Runtime, code: int) -> Any:
    """End this process: resources closed, exit functions called, children ended."""
    try:
        runtime.leave()
        import atexit

        atexit._run_exitfuncs()
        runtime.outbox.flush()
        runtime.channel.write()
        for stream in (sys.__stdout__, sys.__stderr__):
            if stream is not None:
                stream.flush()
        end_children()
    finally:
        os._exit(code)


if __name__ == "__main__":
    main()
