"""`rxtasks config check`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from rxtasks.cli.codes import DONE, USAGE
from rxtasks.cli.group import CONTEXT

__all__ = ["check"]

_EPILOG = """\b
Examples:
  rxtasks config check                     what the other commands would read
  rxtasks config check deploy/rxtasks.yaml that file alone, without the environment

\b
Exit codes: 0 in order; 2 something is wrong; 141 the reader of the output left.
"""


@click.command(epilog=_EPILOG, context_settings=CONTEXT)
@click.argument("file", type=click.Path(path_type=Path), required=False)
@click.option("--json", "as_json", is_flag=True, help="Write one JSON object to stdout.")
def check(file: Path | None, as_json: bool) -> int:
    """Say what is wrong with the configuration, or with FILE.

    Every key and value is checked, and all mistakes are told, each with its place. Nothing is started.
    """
    from rxtasks.configuration import ConfigurationError, load
    from rxtasks.errors import SettingsError
    from rxtasks.text import shown

    mistakes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    read = file
    try:
        configuration = load(environ=None if file is None else {}, file=file)
        warnings, read = configuration.warnings, configuration.file
    except ConfigurationError as error:
        mistakes = error.mistakes
    except SettingsError as error:
        mistakes = (str(error),)
    if as_json:
        name = None if read is None else str(read)
        print(json.dumps({"ok": not mistakes, "file": name, "mistakes": mistakes, "warnings": warnings}))
    else:
        for text in (*mistakes, *warnings):
            print(f"rxtasks: {shown(text)}", file=sys.stderr)
        if not mistakes:
            print(f"{shown(str(read))} is in order" if read is not None else "no configuration file; all is in order")
    return USAGE if mistakes else DONE
