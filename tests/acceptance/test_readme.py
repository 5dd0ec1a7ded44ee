"""The README's code runs as it stands, and prints what it says (G-01)."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text("utf-8")


def blocks(language: str) -> Iterator[tuple[str, str]]:
    """Yield (the heading above, the block) of every fenced block of a language."""
    heading = ""
    for match in re.finditer(
        r"^#+ (?P<heading>[^\n]+)$|^```(?P<language>\w+)\n(?P<body>.*?)^```$", README, re.M | re.S
    ):
        if match["heading"]:
            heading = match["heading"]
        elif match["language"] == language:
            yield heading, match["body"]


def named(language: str) -> list[object]:
    found = list(blocks(language))
    return [pytest.param(body, id=f"{number}-{heading}") for number, (heading, body) in enumerate(found, 1)]


@pytest.mark.parametrize("code", named("python"))
def test_a_block_runs_in_a_fresh_process_and_prints_what_it_says(code: str, tmp_path: Path) -> None:
    """G-01: each ```python block is a program; lines after `# ->` are printed, in that order."""
    program = tmp_path / "program.py"
    program.write_text(code, "utf-8")
    done = subprocess.run(
        [sys.executable, str(program)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=100,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    printed = iter(done.stdout.splitlines())
    for expected in re.findall(r"# -> (.*)$", code, re.M):
        assert expected in printed, f"{expected!r} was not printed (in this order); printed: {done.stdout!r}"


def test_the_readme_has_blocks() -> None:
    """G-01: the search for blocks finds some."""
    assert len(named("python")) >= 10


def test_every_rxtasks_command_of_the_readme_has_known_options() -> None:
    """G-01: a command shown is a command that exists."""
    shown = set()
    for _, body in blocks("bash"):
        for line in body.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            names = [number for number, word in enumerate(words) if word.rpartition("/")[2] == "rxtasks"]
            if names and "run" in words[names[0] :]:
                shown |= {word for word in words[names[0] :] if word.startswith("--")}
    assert shown, "no command found"
    done = subprocess.run(
        [sys.executable, "-m", "rxtasks", "run", "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    for option in shown:
        assert option in done.stdout, option
