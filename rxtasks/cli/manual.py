"""`rxtasks manual`: the pages of the manual, as they lie in the package."""

from __future__ import annotations

import sys
from importlib.resources import files
from importlib.resources.abc import Traversable

import click

from rxtasks.cli.codes import DONE
from rxtasks.cli.group import CONTEXT
from rxtasks.cli.usage import UsageMistake

__all__ = ["manual"]

_EPILOG = """\b
Examples:
  rxtasks manual
  rxtasks manual runbook | less
"""


def _pages() -> dict[str, Traversable]:
    entries = files("rxtasks.manual").iterdir()
    return {entry.name.removesuffix(".md"): entry for entry in entries if entry.name.endswith(".md")}


def _complete(context: click.Context, parameter: click.Parameter, begun: str) -> list[str]:
    return sorted(name for name in _pages() if name.startswith(begun))


@click.command(epilog=_EPILOG, context_settings=CONTEXT)
@click.argument("page", required=False, shell_complete=_complete)
def manual(page: str | None) -> int:
    """Show a page of the manual; without PAGE, which pages there are."""
    pages = _pages()
    if page is None:
        for name in sorted(pages):
            title = pages[name].read_text("utf-8").partition("\n")[0].removeprefix("# ")
            print(f"{name:12}  {title}")
        return DONE
    if page not in pages:
        raise UsageMistake(f"the manual has no page {page!r}; its pages are {', '.join(sorted(pages))}")
    # As it lies there: the terminal may not be able to show every character of it.
    sys.stdout.buffer.write(pages[page].read_bytes())
    return DONE
