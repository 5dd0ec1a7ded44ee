"""A real terminal for tests: a window of tmux of its own, whose screen is read as a person would."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import subprocess
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.acceptance.pools import LONG, wait_for

__all__ = ["Terminal", "needs_tmux", "terminal"]


def needs_tmux() -> None:
    """Skip the test where there is no tmux; fail it in CI, which is to have it."""
    if shutil.which("tmux") is None:
        if os.environ.get("RXTASKS_CI"):
            pytest.fail("tmux is missing; .ci/run installs it")
        pytest.skip("tmux is not installed")


class Terminal:
    """One window, with a shell in it."""

    def __init__(self, directory: Path, environ: Mapping[str, str], width: int, height: int) -> None:
        self._name = f"rxtasks-{uuid.uuid4().hex[:12]}"
        self._environ = {name: value for name, value in environ.items() if name not in ("TMUX", "COLUMNS", "LINES")}
        shell = "PS1='$ ' bash --norc --noprofile -i"
        self._tmux(
            "-f", "/dev/null", "new-session", "-d", "-x", str(width), "-y", str(height), "-s", "t", shell, cwd=directory
        )
        self.wait(r"\$")

    def _tmux(self, *words: str, cwd: Path | None = None) -> str:
        done = subprocess.run(
            ["tmux", "-L", self._name, *words],
            env={**self._environ, "TERM": "xterm-256color"},
            cwd=cwd,
            capture_output=True,
            text=True,
            timeout=LONG,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def type(self, *keys: str) -> None:
        """Press keys, by tmux's names of them."""
        self._tmux("send-keys", "-t", "t", *keys)

    def run(self, *words: str) -> None:
        """Type a command and Enter."""
        self._tmux("send-keys", "-t", "t", "-l", shlex.join(words))
        self.type("Enter")

    def line(self, text: str) -> None:
        """Type a line of shell and Enter."""
        self._tmux("send-keys", "-t", "t", "-l", text)
        self.type("Enter")

    def resize(self, width: int, height: int) -> None:
        self._tmux("resize-window", "-t", "t", "-x", str(width), "-y", str(height))

    @property
    def screen(self) -> str:
        """What is to be seen."""
        return self._tmux("capture-pane", "-p", "-t", "t")

    @property
    def alternate(self) -> bool:
        """Whether a program has the screen for itself."""
        return self._tmux("display-message", "-p", "-t", "t", "#{alternate_on}").strip() == "1"

    def wait(self, pattern: str) -> re.Match[str]:
        """Return the match of a pattern in what is to be seen, as soon as there is one."""

        def find() -> re.Match[str] | None:
            return re.search(pattern, self.screen, re.MULTILINE)

        try:
            found: re.Match[str] = wait_for(find, f"{pattern!r} on the screen")
        except AssertionError as error:
            raise AssertionError(f"{error}; on the screen:\n{self.screen}") from None
        return found

    def close(self) -> None:
        with contextlib.suppress(AssertionError):
            self._tmux("kill-server")


@contextlib.contextmanager
def terminal(directory: Path, environ: Mapping[str, str], width: int = 160, height: int = 40) -> Iterator[Terminal]:
    """Give a terminal with a shell that runs in the directory."""
    made = Terminal(directory, environ, width, height)
    try:
        yield made
    finally:
        made.close()
