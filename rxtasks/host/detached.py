"""`--detach`: a pool's process of its own, in a session of its own; the command returns when the pool is ready.

::

    command ──stdin: what to run, JSON──> python -m rxtasks.host ──setsid, stdout and stderr: a file──> the pool
       └──────<── pipe: one line of JSON: ready, or the error and its exit code ──<──┘

The command ends right after, so the pool's process becomes a child of init, which collects it at its end.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import attrs

from rxtasks.host.directories import log_name, logs_directory, make_logs_directory
from rxtasks.host.notify import Notifier

if TYPE_CHECKING:
    from rxtasks.configuration import Configuration

__all__ = ["Failed", "Order", "Ready", "start_detached"]

#: End of the name of the file, beside the logs, for what the process writes to stdout and stderr.
_OUTPUT: Final = ".out"
#: Bytes above which that file is put aside at the next start.
_LARGE: Final = 2**20
_TAIL: Final = 2000


@attrs.frozen
class Order:
    """What a detached process is to run."""

    #: Settings by dotted path, as rxtasks.configuration.load takes them.
    flags: Mapping[str, Any]
    #: The configuration file that was named.
    file: str | None
    burst: bool

    def to_json(self) -> bytes:
        """Return it as one JSON object."""
        return json.dumps({"flags": dict(self.flags), "file": self.file, "burst": self.burst}).encode()

    @staticmethod
    def from_json(data: bytes) -> Order:
        """Return what `to_json` wrote."""
        body = json.loads(data)
        return Order(body["flags"], body["file"], body["burst"])


@attrs.frozen
class Ready:
    """The pool runs."""

    facts: Mapping[str, Any]


@attrs.frozen
class Failed:
    """The pool could not be started."""

    message: str
    exit_code: int


def start_detached(configuration: Configuration, order: Order) -> Ready | Failed:
    """Start a process that runs the pool, and return when it is ready or has failed.

    Raises:
        SettingsError: there is no directory for what it writes.
    """
    from rxtasks.isolation.command import command_line

    read, write = os.pipe()
    # A process id there would be that of this process, which is not the one to be watched.
    environ = {name: value for name, value in os.environ.items() if name != "WATCHDOG_PID"}
    environ["RXTASKS_READY_FD"] = str(write)
    with _output(configuration) as output:
        process = subprocess.Popen(
            command_line(module="rxtasks.host.__main__"),
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            pass_fds=(write,),
            env=environ,
            start_new_session=True,
        )
    os.close(write)
    try:
        assert process.stdin is not None
        with contextlib.suppress(BrokenPipeError), process.stdin:
            process.stdin.write(order.to_json())
        with os.fdopen(read, "rb") as answers:
            said = answers.readline()
    except BaseException:  # Ctrl-C: nobody waits for it any more
        process.terminate()
        process.wait()
        raise
    return _understood(said, process, configuration)


def _understood(said: bytes, process: subprocess.Popen[bytes], configuration: Configuration) -> Ready | Failed:
    try:
        body = json.loads(said)
    except ValueError:
        code = process.wait()
        ended = f"by signal {-code}" if code < 0 else f"with exit code {code}"
        return Failed(f"the pool's process ended {ended} before it was ready: {_last_words(configuration)}", 1)
    if "error" in body:
        process.wait()
        return Failed(str(body["error"]), int(body["exit_code"]))
    # systemd listens to this process only, until it is told which one is the pool's.
    Notifier.from_environment(dict(os.environ)).ready("ready", pid=process.pid)
    # It is to outlive this process, whose end is not to warn of it.
    process.returncode = 0
    return Ready(body)


def _output(configuration: Configuration) -> Any:
    directory = make_logs_directory(configuration)
    if directory is None:
        return open(os.devnull, "ab")
    path = os.path.join(directory, log_name(configuration) + _OUTPUT)
    with contextlib.suppress(OSError):
        if os.stat(path).st_size > _LARGE:
            os.replace(path, f"{path}.1")
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        return os.fdopen(os.open(path, flags, 0o600), "ab")
    except OSError as error:
        from rxtasks.errors import SettingsError

        raise SettingsError(
            f"{path}, for what the detached pool writes, cannot be opened: {error.strerror}; name another directory with"
            " --log-directory"
        ) from error


def _last_words(configuration: Configuration) -> str:
    directory = logs_directory(configuration)
    if directory is None:
        return "it has said nothing"
    path = os.path.join(directory, log_name(configuration) + _OUTPUT)
    with contextlib.suppress(OSError), open(path, "rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - _TAIL))
        lines = file.read().decode("utf-8", "replace").splitlines()
        if lines:
            return f"{lines[-1].strip()} (see {path})"
    return f"see {path}"
