"""`rxtasks config path`."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import click

from rxtasks.cli.codes import DONE, NOT_FOUND
from rxtasks.cli.group import CONTEXT

__all__ = ["path"]

_EPILOG = """\b
Exit codes: 0 there is one; 2 it is named and cannot be read; 3 there is none.
"""


@click.command(epilog=_EPILOG, context_settings=CONTEXT)
@click.option("--all", "everywhere", is_flag=True, help="Show every place that is looked at, in order.")
@click.option("--json", "as_json", is_flag=True, help="Write one JSON object to stdout.")
def path(everywhere: bool, as_json: bool) -> int:
    """Show which configuration file is read.

    It is the one that RXTASKS_CONFIG names, else the first of rxtasks.toml, pyproject.toml with [tool.rxtasks],
    rxtasks.yaml and rxtasks.yml here, in a directory above, in $XDG_CONFIG_HOME/rxtasks, or in /etc/rxtasks.
    """
    from rxtasks.configuration.files import searched
    from rxtasks.configuration.loading import file_in_use
    from rxtasks.text import shown

    found = file_in_use()
    places = [str(place) for place in searched(Path.cwd(), os.environ)]
    file = None if found is None else str(found.path)
    if as_json:
        print(json.dumps({"file": file, "searched": places}))
    elif everywhere:
        for place in places:
            print(f"{'->' if place == file else '  '} {shown(place)}")
        if file is not None and file not in places:
            print(f"-> {shown(file)} (RXTASKS_CONFIG)")
    elif file is not None:
        print(shown(file))
    if file is None and not as_json:
        print(
            "rxtasks: there is no configuration file; see where one may be with: rxtasks config path --all",
            file=sys.stderr,
        )
    return NOT_FOUND if file is None else DONE
