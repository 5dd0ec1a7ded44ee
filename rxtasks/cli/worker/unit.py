"""`rxtasks worker unit`."""

from __future__ import annotations

import os
import shutil
import sys
from importlib.resources import files
from pathlib import Path

import click

from rxtasks.cli.codes import DONE
from rxtasks.cli.group import CONTEXT
from rxtasks.cli.place import store_options
from rxtasks.cli.usage import UsageMistake

__all__ = ["unit"]

_EPILOG = """\b
Example:
  rxtasks worker unit --module shop.tasks > /etc/systemd/system/rxtasks.service
"""


@click.command(epilog=_EPILOG, context_settings=CONTEXT)
@click.option("--module", "modules", multiple=True, metavar="MODULE", help="A module with tasks. Repeatable.")
@store_options
def unit(modules: tuple[str, ...], store: str | None, config: Path | None) -> int:
    """Print a systemd unit for the pool.

    It starts this very program with these options; edit the rest to what your machine needs.
    """
    words = [*_program(), "worker", "start"]
    for module in modules:
        words += ["--module", module]
    if store is not None:
        words += ["--store", store]
    if config is not None:
        words += ["--config", str(config.absolute())]
    text = (files("rxtasks.host") / "rxtasks.service").read_text(encoding="utf-8")
    sys.stdout.write(text.replace("@START@", " ".join(map(_quoted, words))))
    return DONE


def _program() -> list[str]:
    """Return the command of this program, with its whole path: systemd searches no user's PATH."""
    name = sys.argv[0]
    script = os.path.abspath(name) if os.path.basename(name) == "rxtasks" else shutil.which("rxtasks")
    if script is not None and os.access(script, os.X_OK):
        return [script]
    return [sys.executable, "-m", "rxtasks"]


def _quoted(word: str) -> str:
    """Return a word of a command line as systemd.service(5) reads it: % and $ are doubled, and quoted where it must be."""
    if not word.isprintable():
        raise UsageMistake(f"{word!r} cannot stand in a unit: it has control characters")
    word = word.replace("%", "%%").replace("$", "$$")
    if word and not any(char in word for char in " \t\"'\\;"):
        return word
    return '"' + word.replace("\\", "\\\\").replace('"', '\\"') + '"'
