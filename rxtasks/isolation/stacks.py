"""The stacks of a worker process, read from outside.

::

    ShowStacks ──channel──> control thread ──StackParts──>          the common way: all is known, nothing is interrupted
    DUMP_SIGNAL ─> control thread: faulthandler ─> memory file <─   C code holds the interpreter's lock: nobody answers

The signal is sent only where it is caught, so that it ends no process that has become another program meanwhile; the
memory file is found by its name among the worker's descriptors. See rxtasks.worker.stacks.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import time
from typing import Any, Final

from rxtasks.worker.children import descendants
from rxtasks.worker.stacks import DUMP_NAME, DUMP_SIGNAL, Part, without_machinery

__all__ = ["OpenDump", "ask_for_dump", "children_in_words", "parse_dump", "state_in_words"]

#: Seconds without a new line after which a dump that does not end as expected counts as whole.
_CALM: Final = 0.25
#: Bytes of a dump that are read: a hundred threads with a hundred frames have less.
_MOST_BYTES: Final = 8 * 2**20
_MOST_CHILDREN: Final = 20
#: How the outermost frame of a worker's main thread ends, which faulthandler tells last.
_OUTERMOST: Final = (b" in <module>\n", b" in _run_module_as_main\n")
_CONTROL_THREAD: Final = "/rxtasks/worker/control.py"

_HEADER: Final = re.compile(r"^(?:Current thread|Thread) (0x[0-9a-f]+)(?: \[(.*)\])? \(most recent call first\):$")
_FRAME: Final = re.compile(r'^  File (?:"(.*)"|\?\?\?), line (\d+|\?\?\?) in (.*)$')
_ESCAPED: Final = re.compile(r"\\x([0-9a-f]{2})|\\u([0-9a-f]{4})|\\U([0-9a-f]{8})")

_STATES: Final = {
    "R": "running",
    "S": "sleeping",
    "D": "waiting in the kernel, uninterruptible (a disk, a network file system)",
    "T": "stopped by a signal (SIGSTOP)",
    "t": "stopped by a debugger",
    "Z": "ended, not collected",
    "X": "ended",
    "I": "idle",
}


class OpenDump:
    """A dump that has been asked for. Close it."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._size = -1
        self._since = 0.0

    def text(self) -> str | None:
        """Return the dump when it is whole, None before that. Ask again and again."""
        content = os.pread(self._fd, _MOST_BYTES, 0)
        now = time.monotonic()
        if len(content) != self._size:
            self._size, self._since = len(content), now
        whole = content.endswith(_OUTERMOST) or (content.endswith(b"\n") and now - self._since >= _CALM)
        return content.decode("ascii", "backslashreplace") if whole else None

    def close(self) -> None:
        """Give the memory back, and the descriptor."""
        with contextlib.suppress(OSError):
            os.ftruncate(self._fd, 0)
        os.close(self._fd)


def ask_for_dump(pid: int) -> OpenDump | str:
    """Have the process write the stacks of its threads; return where, or why that cannot be.

    Only while the process has not been reaped: afterwards the number may be another one's.
    """
    try:
        found = _memory_file(pid)
        if found is None:
            return "it has not got that far, or its descriptors were closed"
        name, thread = found
        if not _catches(pid, thread):
            return f"it does not catch signal {DUMP_SIGNAL}, or runs another program now"
        fd = os.open(f"/proc/{pid}/fd/{name}", os.O_RDWR | os.O_CLOEXEC)
    except (OSError, ValueError) as error:
        return f"/proc tells nothing of it ({error})"
    dump = OpenDump(fd)
    try:
        os.ftruncate(fd, 0)
        _signal_thread(pid, thread)
    except OSError as error:
        dump.close()
        return f"it cannot be signalled ({error.strerror})"
    return dump


def _memory_file(pid: int) -> tuple[str, int] | None:
    """Return the number of the descriptor, and of the thread that is named in it."""
    directory = f"/proc/{pid}/fd"
    for name in os.listdir(directory):
        with contextlib.suppress(OSError):
            _, here, rest = os.readlink(f"{directory}/{name}").partition(f"memfd:{DUMP_NAME}")
            if here:
                return name, int(rest.split()[0])
    return None


def _catches(pid: int, thread: int) -> bool:
    masks = {"SigCgt": 0, "SigBlk": 0}
    with open(f"/proc/{pid}/task/{thread}/status", encoding="ascii", errors="replace") as file:
        for line in file:
            name, _, value = line.partition(":")
            if name in masks:
                masks[name] = int(value, 16)
    bit = 1 << (DUMP_SIGNAL - 1)
    return bool(masks["SigCgt"] & bit) and not masks["SigBlk"] & bit


def _signal_thread(pid: int, thread: int) -> None:
    """Send DUMP_SIGNAL to one thread of the process."""
    libc: Any = ctypes.CDLL(None, use_errno=True)
    tgkill = getattr(libc, "tgkill", None)
    if tgkill is None:  # not in every C library; then some thread of the process takes it
        os.kill(pid, DUMP_SIGNAL)
    elif tgkill(pid, thread, DUMP_SIGNAL) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def parse_dump(text: str) -> list[Part]:
    """Return what faulthandler wrote as parts: the thread that performs an attempt first, none of our own.

    A part's title is "" where the thread performs an attempt.
    """
    performing: list[Part] = []
    others: list[Part] = []
    part: Part = []
    for line in [*text.splitlines(), "Thread 0x0 (most recent call first):"]:
        header = _HEADER.match(line)
        if header is None:
            frame = _FRAME.match(line)
            if frame is not None and part:
                file, number, function = frame.groups()
                number = int(number) if number.isdigit() else 0
                part.append([_unescaped(file or "???"), number, _unescaped(function)])
            elif line.strip() == "..." and part:
                part.append("frames further out are left out")
            continue
        if len(part) > 1:
            _add(part, performing, others)
        part = [f"thread {header[2] or header[1]}"]
    return performing + others


def _add(part: Part, performing: list[Part], others: list[Part]) -> None:
    title, frames = part[0], part[:0:-1]
    told = [frame for frame in frames if isinstance(frame, list)]
    if any(frame[0].endswith(_CONTROL_THREAD) for frame in told):
        return
    remarks = [remark for remark in frames if isinstance(remark, str)]
    bodies = [at for at, frame in enumerate(told) if frame[2].endswith("_body") and _is_executor(frame[0])]
    if bodies:
        performing.append(["", *remarks, *without_machinery(told[bodies[-1] :])])
    else:
        others.append([title, *remarks, *told])


def _is_executor(file: str) -> bool:
    return file.endswith("/rxtasks/worker/executor.py")


def _unescaped(text: str) -> str:
    return _ESCAPED.sub(lambda found: chr(int(found[1] or found[2] or found[3], 16)), text)


def state_in_words(pid: int) -> str:
    """Return what the kernel says a process is doing: "stopped by a signal (SIGSTOP)"; "gone" where there is none."""
    return _STATES.get(_name_and_state(pid)[1], "gone")


def children_in_words(pid: int) -> list[str]:
    """Return what runs below a process: "123 (ffmpeg): sleeping"."""
    found = descendants(pid)
    words = [
        f"{child} ({name}): {_STATES.get(state, 'gone')}"
        for child in found[:_MOST_CHILDREN]
        for name, state in [_name_and_state(child)]
        if state
    ]
    return [*words, *([f"and {len(found) - _MOST_CHILDREN} more"] if len(found) > _MOST_CHILDREN else [])]


def _name_and_state(pid: int) -> tuple[str, str]:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            before, _, after = file.read().rpartition(b")")
        return before.partition(b"(")[2].decode("utf-8", "backslashreplace"), after.split()[0].decode()
    except (OSError, IndexError):
        return "", ""
