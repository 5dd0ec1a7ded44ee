"""`rxtasks config show`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from rxtasks.cli.codes import DONE
from rxtasks.cli.group import CONTEXT

__all__ = ["show"]

_EPILOG = """\b
Examples:
  rxtasks config show
  rxtasks config show store workers        one setting, and all of a table
  rxtasks config show --changed            only what is not as by default
  rxtasks config show --set workers.count=2 --json
"""


def _complete(context: click.Context, parameter: click.Parameter, begun: str) -> list[str]:
    from rxtasks.configuration.loading import kinds_by_path

    paths = kinds_by_path()
    tables = {path.rpartition(".")[0] for path in paths} - {""}
    return sorted(name for name in (*paths, *tables) if name.startswith(begun))


@click.command(epilog=_EPILOG, context_settings=CONTEXT)
@click.argument("keys", nargs=-1, metavar="[KEY]...", shell_complete=_complete)
@click.option("--store", metavar="URL", help="As for other commands.")
@click.option("--config", type=click.Path(path_type=Path), metavar="FILE", help="The configuration file.")
@click.option(
    "--set", "assigned", multiple=True, metavar="KEY=VALUE", help="A setting, as a flag gives it. Repeatable."
)
@click.option("--changed", is_flag=True, help="Only settings that are not as by default.")
@click.option("--json", "as_json", is_flag=True, help="Write one JSON object to stdout.")
def show(
    keys: tuple[str, ...],
    store: str | None,
    config: Path | None,
    assigned: tuple[str, ...],
    changed: bool,
    as_json: bool,
) -> int:
    """Show each setting with its value and where that comes from.

    Flags beat the environment, that beats the file, and that beats the defaults. User information and queries in the URL
    of the store are hidden.
    """
    from rxtasks.configuration import assignments, load
    from rxtasks.configuration.showing import rows
    from rxtasks.text import shown

    configuration = load(assignments(assigned, {"store": store}), file=config)
    found = rows(configuration, keys, changed=changed)
    for warning in configuration.warnings:
        print(f"rxtasks: {shown(warning)}", file=sys.stderr)
    if as_json:
        file = None if configuration.file is None else str(configuration.file)
        settings = {row.path: {"value": row.value, "source": row.source} for row in found}
        print(json.dumps({"file": file, "warnings": list(configuration.warnings), "settings": settings}))
        return DONE
    names = max((len(row.path) for row in found), default=0)
    values = min(max((len(row.text) for row in found), default=0), 48)
    for row in found:
        print(f"{row.path:{names}} = {shown(row.text):{values}}  {shown(row.source)}")
    return DONE
