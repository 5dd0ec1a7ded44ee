"""The manual's blocks are run as they stand, in order, against real pools (G-01).

A block of the language `console` is what an operator types and sees: `$` before a command, `>` before what belongs to it, and
what it prints. `...` stands for anything: as a line for any lines, in a line for any text.
"""

from __future__ import annotations

import os
import re
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest

from rxtasks.cli.commands import COMMANDS

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "rxtasks" / "manual").glob("*.md"))
#: Seconds that a command may take; and in which one that only looks comes to show what it is to.
LONG = 60.0
PATIENCE = 30.0
#: What changes nothing may be asked again until it says what the page says.
LOOKS = re.compile(
    r"rxtasks (worker (status|list|logs)|task (list|show|history|logs|events|stack)|store (info|check)|explain)\b"
)


@attrs.frozen
class Step:
    """A command and what it prints."""

    line: int
    command: str
    shown: tuple[str, ...]

    def fits(self, printed: str) -> bool:
        """Say whether that is what the page shows; every line of it counts."""
        pattern = "".join(
            r"(.*\n)*?" if line == "..." else r"\s+".join(map(_literal, line.split())) + r"[ \t]*\n"
            for line in self.shown
        )
        return re.fullmatch(pattern, "".join(f"{line.strip()}\n" for line in printed.splitlines())) is not None


def _literal(word: str) -> str:
    return ".*".join(map(re.escape, word.split("...")))


def steps(page: str) -> list[Step]:
    """Return the commands of a page's console blocks."""
    found: list[Step] = []
    inside = False
    for number, line in enumerate(page.splitlines(), 1):
        if line.startswith("```"):
            inside = line == "```console"
        elif inside and line.startswith("$ "):
            found.append(Step(number, line[2:], ()))
        elif inside and (line.startswith("> ") or line == ">"):
            last = found.pop()
            found.append(attrs.evolve(last, command=f"{last.command}\n{line[2:]}"))
        elif inside:
            last = found.pop()
            found.append(attrs.evolve(last, shown=(*last.shown, line)))
    return found


class Terminal:
    """A shell in a directory of its own, with `rxtasks` on its path."""

    def __init__(self, folder: Path) -> None:
        for name in ("bin", "home", "run", "work"):
            (folder / name).mkdir(mode=0o700)
        command = folder / "bin" / "rxtasks"
        command.write_text(f'#!/bin/sh\nPYTHONPATH="{ROOT}" exec "{sys.executable}" -m rxtasks "$@"\n')
        command.chmod(0o755)
        (folder / "bin" / "python3").symlink_to(sys.executable)
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("RXTASKS_", "XDG_"))}
        self._environ = {
            **clean,
            "HOME": str(folder / "home"),
            "XDG_RUNTIME_DIR": str(folder / "run"),
            "PATH": f"{folder / 'bin'}:{os.environ['PATH']}",
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        self._folder = folder / "work"
        self._shell = subprocess.Popen(
            ["bash", "--norc"],
            cwd=self._folder,
            env=self._environ,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def run(self, command: str) -> tuple[str, int]:
        """Return what a command prints, on both streams, and its exit code."""
        assert self._shell.stdin is not None and self._shell.stdout is not None
        mark = "--the-command-has-ended--"
        self._shell.stdin.write(f"{command}\necho {mark} $?\n".encode())
        self._shell.stdin.flush()
        read = b""
        end = time.monotonic() + LONG
        with selectors.DefaultSelector() as selector:
            selector.register(self._shell.stdout, selectors.EVENT_READ)
            while (found := re.search(rb"%s (\d+)\n" % mark.encode(), read)) is None:
                if not selector.select(max(0.0, end - time.monotonic())):
                    pytest.fail(f"{command!r} has not ended within {LONG:g} s; it has printed: {read.decode()}")
                more = os.read(self._shell.stdout.fileno(), 65536)
                if not more:
                    pytest.fail(f"the shell has ended at {command!r}; it has printed: {read.decode()}")
                read += more
        return read[: found.start()].decode(), int(found[1])

    def close(self) -> None:
        """End the shell and every pool that it has started, whatever state they are in."""
        self._shell.kill()
        self._shell.communicate()
        mark = f"XDG_RUNTIME_DIR={self._environ['XDG_RUNTIME_DIR']}\0".encode()
        for process in Path("/proc").glob("[0-9]*"):
            try:
                ours = mark in (process / "environ").read_bytes()
            except OSError:
                continue
            if ours:
                os.kill(int(process.name), signal.SIGKILL)


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    made = Terminal(tmp_path)
    try:
        yield made
    finally:
        made.close()


def follow(terminal: Terminal, step: Step) -> None:
    """Run a step; what only looks may look again."""
    end = time.monotonic() + PATIENCE
    while True:
        printed, code = terminal.run(step.command)
        if code == 0 and step.fits(printed):
            return
        if LOOKS.match(step.command) is None or time.monotonic() > end:
            break
    shown = "\n".join(step.shown)
    pytest.fail(f"line {step.line}: {step.command}\nexit code {code}, printed:\n{printed}\nand the page says:\n{shown}")


@pytest.mark.timeout(300)
@pytest.mark.parametrize("page", [page for page in PAGES if steps(page.read_text("utf-8"))], ids=lambda page: page.stem)
def test_the_console_blocks_of_a_page_do_what_it_shows(page: Path, terminal: Terminal) -> None:
    """G-01: from the first to the last, in one directory."""
    for step in steps(page.read_text("utf-8")):
        follow(terminal, step)


def test_every_command_that_a_page_names_is_there() -> None:
    """G-01: also in its sentences."""
    for page in PAGES:
        for name in re.findall(r"rxtasks ([a-z]+)", re.sub(r"\s+", " ", " ".join(_code(page)))):
            assert name in COMMANDS, f"{page.name}: rxtasks {name}"


def _code(page: Path) -> list[str]:
    return re.findall(r"`(?:rxtasks [^`]*)`", page.read_text("utf-8"))


@pytest.mark.parametrize(
    ("shown", "printed", "fits"),
    [
        (("32",), "32\n", True),
        (("32",), "33\n", False),
        ((), "32\n", False),
        (("...", "32"), "a\nb\n32\n", True),
        (("...", "32"), "32\n", True),
        (("...", "32"), "32\na\n", False),
        (("a ... c", "..."), "a b c\n", True),
        (("a ... c",), "a b d\n", False),
        (("  time.sleep(0.1)",), "    time.sleep(0.1)\n", True),
    ],
)
def test_what_is_printed_is_compared_with_what_is_shown(shown: tuple[str, ...], printed: str, fits: bool) -> None:
    """G-01: the comparison itself can fail."""
    assert fits == Step(1, "x", shown).fits(printed)
