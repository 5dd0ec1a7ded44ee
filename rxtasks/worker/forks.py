"""A handler that forks: the child must not speak for its parent, nor go on as a worker."""

from __future__ import annotations

import os
import sys
import threading

__all__ = ["generation", "leave_child"]

_generation = 0


def _after_in_child() -> None:
    global _generation
    _generation += 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_in_child)


def generation() -> int:
    """Return a number that is another one in each forked child."""
    return _generation


def leave_child(error: BaseException | None, in_process: bool) -> None:
    """End a forked child that comes back from a handler: 0 if it returned, else 1 with the traceback on stderr.

    In the caller's own main thread (inline) nothing happens: there the child goes on with the program.
    """
    if in_process and threading.current_thread() is threading.main_thread():
        return
    code = 0
    if isinstance(error, SystemExit):
        code = error.code if isinstance(error.code, int) else (0 if error.code is None else 1)
    elif error is not None:
        code = 1
    try:
        import traceback

        if error is not None and not isinstance(error, SystemExit):
            os.write(2, "".join(traceback.format_exception(error)).encode("utf-8", "backslashreplace"))
        for stream in (sys.__stdout__, sys.__stderr__):
            if stream is not None:
                stream.flush()
    except (OSError, ValueError):
        pass
    finally:
        os._exit(code)
