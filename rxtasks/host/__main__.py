"""`python -m rxtasks.host`: the process of a detached pool (see `rxtasks.host.detached`)."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

__all__ = ["main"]


def main(arguments: Sequence[str] = ()) -> None:
    """Run the pool that stdin describes, and leave with its exit code."""
    from rxtasks.host.detached import Order
    from rxtasks.host.starting import exit_code_of, start

    ready = int(os.environ.pop("RXTASKS_READY_FD"))
    os.set_inheritable(ready, False)
    order = Order.from_json(sys.stdin.buffer.read())
    nowhere = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nowhere, 0)
    os.close(nowhere)

    def say(facts: Mapping[str, Any]) -> None:
        nonlocal ready
        if ready >= 0:
            with contextlib.suppress(BrokenPipeError):  # the command was ended meanwhile
                os.write(ready, json.dumps(facts).encode() + b"\n")
            os.close(ready)
            ready = -1

    try:
        file = None if order.file is None else Path(order.file)
        code = start(order.flags, file, burst=order.burst, announce=say, narrate=False)
    except Exception as error:
        known = exit_code_of(error)
        if ready < 0 or known is None:
            raise  # for the file: its traceback
        say({"error": str(error) or type(error).__name__, "exit_code": known})
        code = known
    if ready >= 0:
        say({"error": "the pool was ended before it was ready", "exit_code": code or 1})
    sys.stdout.flush()
    sys.exit(code)


if __name__ == "__main__":
    main(sys.argv[1:])
