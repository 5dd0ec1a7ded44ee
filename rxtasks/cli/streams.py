"""The standard streams, as the command found them and as it needs them."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import BinaryIO, TextIO

__all__ = ["apart", "close_quietly", "complete"]


def complete() -> None:
    """Let standard streams that were closed before the start (`>&-`) lead nowhere.

    Else the next file or socket that is opened would get the number of a standard stream, and its lines. Standard
    input stays None in `sys`: a run that is to read it can say that it is closed.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free: this one
    if sys.stdout is None:
        sys.stdout = _nowhere()
    if sys.stderr is None:
        sys.stderr = _nowhere()


def _nowhere() -> TextIO:
    return open(os.devnull, "w", encoding="utf-8")


@contextlib.contextmanager
def apart() -> Iterator[BinaryIO]:
    """Keep standard output for the caller: what anything else writes to it in this block goes to standard error.

    That holds for a module that prints as it is imported, and for what a task in this process writes to descriptor 1
    behind Python's back.
    """
    sys.stdout.flush()
    kept = os.dup(1)
    own = os.fdopen(kept, "wb")
    os.dup2(2, 1)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield own
    finally:
        os.dup2(kept, 1)
        with contextlib.suppress(OSError):  # whoever wrote has been told
            own.close()


def close_quietly() -> None:
    """Let standard output lead nowhere, so that the interpreter's last flush does not complain of a reader gone."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 1)
    finally:
        os.close(nowhere)
