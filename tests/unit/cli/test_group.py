"""The tree of commands: named in tables, imported one by one."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from rxtasks.cli.commands import root
from rxtasks.cli.group import Lazy, LazyGroup
from rxtasks.cli.main import main

ROOT = Path(__file__).parents[3]


def _entries(group: LazyGroup, path: str) -> Iterator[tuple[str, Lazy]]:
    for name, lazy in group.lazy.items():
        yield f"{path} {name}", lazy
        command = lazy.load()
        if isinstance(command, LazyGroup):
            yield from _entries(command, f"{path} {name}")


def test_every_command_is_where_the_tables_say_and_says_what_it_does() -> None:
    """C-01: the line in a group's help and the command's own help begin with the same word."""
    for path, lazy in _entries(root(), "rxtasks"):
        command = lazy.load()
        assert path.rsplit(" ", 1)[1] == command.name
        assert (command.help or "").split()[:1] == lazy.summary.split()[:1], path
        assert lazy.summary.endswith(".") and "\n" not in lazy.summary, path


def test_every_command_answers_to_help(capsys: pytest.CaptureFixture[str]) -> None:
    """C-01: by -h too, with exit code 0."""
    for path, _ in _entries(root(), "rxtasks"):
        assert (0, path) == (main([*path.split()[1:], "-h"]), path)
        assert f"Usage: {path}" in capsys.readouterr().out


def test_the_help_of_a_group_imports_none_of_its_commands() -> None:
    """C-01: `rxtasks --help` costs what click costs."""
    code = (
        "import sys; from rxtasks.cli.main import main; main(['--help']); import rxtasks.cli.commands as c;"
        "print(sorted(x.place for x in c.COMMANDS.values() if x.place.split(':')[0] in sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout.endswith("\n[]\n"), done.stderr


def test_a_command_that_is_nearly_right_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    """C-01: errors say what to try."""
    assert 2 == main(["complete"])
    assert "No such command 'complete'. Did you mean completion?" in capsys.readouterr().err


def test_bash_completes_commands_with_the_script(tmp_path: Path) -> None:
    """C-01: the script works in a real shell."""
    program = tmp_path / "rxtasks"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m rxtasks "$@"\n')
    program.chmod(0o755)
    code = (
        'eval "$(rxtasks completion bash)"; COMP_WORDS=(rxtasks comp); COMP_CWORD=1; '
        '_rxtasks_completion rxtasks; echo "${COMPREPLY[@]}"'
    )
    done = subprocess.run(
        ["bash", "-c", code],
        env={**os.environ, "PYTHONPATH": str(ROOT), "PATH": f"{tmp_path}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.stdout, done.stderr) == ("completion\n", "")


def test_every_shell_has_its_script(capsys: pytest.CaptureFixture[str]) -> None:
    """C-01: bash, zsh and fish."""
    for shell, word in (("bash", "complete -o"), ("zsh", "#compdef rxtasks"), ("fish", "complete --no-files")):
        assert 0 == main(["completion", shell])
        assert word in capsys.readouterr().out


def test_what_asks_a_pool_loads_nothing_that_runs_one(tmp_path: Path) -> None:
    """C-01: `rxtasks worker status` is as quick as its imports."""
    code = (
        "import sys; from rxtasks.cli.main import main; code = main(['worker', 'status', '--store', 'sqlite:////tmp/none.db']);"
        "print(code, [m for m in ('reactivex', 'rich', 'loguru', 'uvicorn', 'textual', 'rxtasks.service',"
        " 'rxtasks.lifecycle.events') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "HOME": str(tmp_path), "XDG_STATE_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "3 []\n" == done.stdout, done.stderr
