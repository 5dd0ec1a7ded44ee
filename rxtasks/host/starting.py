"""The start of a pool's process, in the foreground and detached alike."""

from __future__ import annotations

import faulthandler
import os
import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rxtasks.configuration import Configuration

__all__ = ["exit_code_of", "run", "start"]


def start(
    flags: Mapping[str, Any],
    file: Path | None,
    *,
    burst: bool,
    announce: Callable[[Mapping[str, Any]], None],
    narrate: bool,
) -> int:
    """Load the configuration and run its pool; return the exit code.

    Raises:
        RxTasksError: the configuration is wrong, or the pool could not be started.
    """
    from rxtasks.configuration import load

    return run(load(flags, file=file), burst=burst, announce=announce, narrate=narrate)


def run(
    configuration: Configuration,
    *,
    burst: bool,
    announce: Callable[[Mapping[str, Any]], None] = lambda facts: None,
    narrate: bool = True,
) -> int:
    """Run the pool of a configuration; return the exit code.

    Raises:
        RxTasksError: it could not be started.
    """
    # Before the working directory comes first on sys.path: it may hold a file of the name of a module that these need.
    _import_server()
    from rxtasks.host.serving import serve

    faulthandler.enable()  # systemd's watchdog ends with SIGABRT: then the stacks of all threads are in the log
    here = os.getcwd()
    if here not in sys.path[:1]:
        sys.path.insert(0, here)  # modules= of the pool are found there, as with `python -m`
    from rxtasks.errors import RxTasksError, WorkerStartError

    try:
        return serve(configuration, burst=burst, announce=announce, narrate=narrate)
    except WorkerStartError as error:
        raise RxTasksError(_in_one_sentence(error)) from error


def _in_one_sentence(error: Exception) -> str:
    """Return why the workers could not be started: of a traceback its last line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    if "No module named" in lines[-1]:
        return (
            f"the workers could not be started: {lines[-1]}; modules are looked for in the working directory"
            f" ({os.getcwd()}) and where Python finds them"
        )
    return f"the workers could not be started: {lines[-1]}"


def exit_code_of(error: Exception) -> int | None:
    """Return the exit code of a command that ended with an error of ours; None: it is none of ours."""
    from rxtasks.errors import RxTasksError, SettingsError

    if not isinstance(error, RxTasksError):
        return None
    from rxtasks.control.errors import PoolRuns

    if isinstance(error, PoolRuns):
        return 4
    return 2 if isinstance(error, SettingsError) else 1


def _import_server() -> None:
    try:
        import_module("rxtasks.control.server")
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("starlette", "uvicorn", "h11"):
            raise
        from rxtasks.errors import SettingsError

        raise SettingsError(
            f"a pool needs {error.name} for its control socket; install it with: pip install 'rxtasks[cli]'"
        ) from error
