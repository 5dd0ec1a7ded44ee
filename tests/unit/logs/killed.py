"""A program that writes a log and is killed at its n-th step with a file, for each n: run by test_rotated.

It prints, for each n, the numbers of the lines that were written before the kill, then "done" once one run was whole.
"""

from __future__ import annotations

import os
import signal
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

from rxtasks.logs import LogLine, RotatedFiles

START = datetime(2026, 11, 22, tzinfo=UTC)
_EVENTS = ("open", "os.rename", "os.remove", "os.truncate", "os.listdir")


def write(directory: Path, acknowledged: int, kill_at: int) -> None:
    steps = 0

    def hook(event: str, args: tuple[object, ...]) -> None:
        nonlocal steps
        if event in _EVENTS and str(directory) in str(args[0]):
            steps += 1
            if steps == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)

    files = RotatedFiles(directory, max_bytes=2000, backups=100, days=36_000)
    sys.addaudithook(hook)
    for number in range(30):
        files.on_next(LogLine(START + timedelta(seconds=number), "INFO", f"line {number} " + "x" * 80))
        os.write(acknowledged, b"%d\n" % number)
        files._keeper.wait(10)
    files.close()
    assert steps > 10


def main(place: Path) -> None:
    for kill_at in range(1, 1000):
        directory = place / str(kill_at)
        reading, writing = os.pipe()
        child = os.fork()
        if not child:
            os.close(reading)
            write(directory, writing, kill_at)
            os._exit(0)
        os.close(writing)
        with open(reading, "rb") as stream:
            written = stream.read().split()
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        print(kill_at, b" ".join(written).decode(), flush=True)
        if code == 0:
            print("done", flush=True)
            return
        if code != -signal.SIGKILL:
            sys.exit(f"it ended with {code}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
