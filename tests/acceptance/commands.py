"""Commands of `rxtasks` as real processes."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import attrs

ROOT = Path(__file__).parents[2]
#: Seconds that a command may take; far more than any does.
LONG = 60.0


@attrs.frozen
class Said:
    """What a command has said."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one value that it has written."""
        return json.loads(self.out)

    @property
    def lines(self) -> list[Any]:
        """The values that it has written, one a line."""
        return [json.loads(line) for line in self.out.splitlines()]


class Shell:
    """Runs commands on one store, in an environment of their own."""

    def __init__(self, folder: Path, store: str | None = None) -> None:
        self.folder = folder
        run = folder / "run"
        run.mkdir(mode=0o700, exist_ok=True)
        self.store = store or f"sqlite:///{folder / 'tasks.db'}"
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("RXTASKS_", "XDG_"))},
            "PYTHONPATH": str(ROOT),
            "RXTASKS_STORE": self.store,
            "XDG_RUNTIME_DIR": str(run),
            "XDG_STATE_HOME": str(folder / "state"),
            "PYTHONWARNINGS": "error",
        }

    def start(self, *words: str, **more: Any) -> subprocess.Popen[str]:
        """Start a command; the caller ends it."""
        return subprocess.Popen(
            [sys.executable, "-m", "rxtasks", *words],
            **{
                "stdin": subprocess.DEVNULL,
                "stdout": subprocess.PIPE,
                "stderr": subprocess.PIPE,
                "text": True,
                "cwd": self.folder,
                "env": self.environment,
                **more,
            },
        )

    def __call__(self, *words: str, code: int = 0, input: str | None = None, **environment: str) -> Said:
        """Run a command to its end, and see that its exit code is this one."""
        process = self.start(
            *words,
            stdin=subprocess.DEVNULL if input is None else subprocess.PIPE,
            env={**self.environment, **environment},
        )
        try:
            out, err = process.communicate(input, timeout=LONG)
        finally:
            process.kill()
            process.wait()
        said = Said(process.returncode, out, err)
        assert said.code == code, said
        assert "Traceback" not in said.err or "Traceback" in said.out, said.err
        return said

    def here(self, *words: str, code: int = 0) -> Said:
        """Do as a call, in this process: for what has many variants, of commands that are run as processes too."""
        from rxtasks.cli.main import main

        out, err = io.StringIO(), io.StringIO()
        environment = mock.patch.dict(os.environ, self.environment, clear=True)
        with environment, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            found = main(words)
        said = Said(found, out.getvalue(), err.getvalue())
        assert said.code == code, said
        return said

    def ids(self, *filters: str) -> list[str]:
        """Return the ids that list shows."""
        return [task["task_id"] for task in self.here("task", "list", "--json", *filters).lines]


def lines_of(process: subprocess.Popen[str]) -> Iterator[str]:
    """Yield the lines of a process's standard output as they come."""
    assert process.stdout is not None
    yield from process.stdout
