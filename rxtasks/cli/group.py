"""Groups of commands that know their commands by name, and import one when it runs or its own help is asked for.

`rxtasks --help` then costs what click costs, however many commands there are.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

import attrs
import click

__all__ = ["CONTEXT", "Lazy", "LazyGroup", "lazy_group"]

#: What every command and group of ours is made with.
CONTEXT: dict[str, Any] = {"help_option_names": ["-h", "--help"]}


@attrs.frozen
class Lazy:
    """A command by the place where it stands.

    Args:
        place: "module:attribute" of the click command.
        summary: The line that the group's help shows; the first sentence of the command's own help.
    """

    place: str
    summary: str

    def load(self) -> click.Command:
        module, _, attribute = self.place.partition(":")
        command = getattr(import_module(module), attribute)
        assert isinstance(command, click.Command), self.place
        return command


class LazyGroup(click.Group):
    """A group whose commands are imported when they are needed."""

    def __init__(self, *args: Any, lazy: Mapping[str, Lazy], **more: Any) -> None:
        super().__init__(*args, **more)
        self.lazy = dict(lazy)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.lazy)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        lazy = self.lazy.get(cmd_name)
        return None if lazy is None else lazy.load()

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            from difflib import get_close_matches

            near = get_close_matches(args[0], self.lazy, n=2)
            if not near:
                raise
            raise click.UsageError(f"{error.message} Did you mean {' or '.join(near)}?", ctx) from None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, lazy.summary) for name, lazy in self.lazy.items()])


def lazy_group(name: str, commands: Mapping[str, Lazy], help: str, epilog: str | None = None) -> LazyGroup:
    """Return a group of `commands`, which are shown in this order."""
    return LazyGroup(
        name,
        lazy=commands,
        help=help,
        epilog=epilog,
        context_settings=CONTEXT,
        no_args_is_help=True,
        options_metavar="",
    )
