"""`rxtasks completion`: the script that lets a shell complete our commands and options."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from rxtasks.cli.codes import DONE
from rxtasks.cli.group import CONTEXT

__all__ = ["completion"]

_EPILOG = """\b
To have it in every new shell:
  bash  rxtasks completion bash > ~/.local/share/bash-completion/completions/rxtasks
  zsh   rxtasks completion zsh > a directory of $fpath, as the file _rxtasks
  fish  rxtasks completion fish > ~/.config/fish/completions/rxtasks.fish
"""


@click.command(epilog=_EPILOG, context_settings=CONTEXT)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> int:
    """Print the script that lets a shell complete commands.

    \b
    For this shell alone:
      eval "$(rxtasks completion bash)"
    """
    found = get_completion_class(shell)
    assert found is not None, shell
    script = found(context.find_root().command, {}, "rxtasks", "_RXTASKS_COMPLETE")
    # Not source(): it starts the shell to learn its version, which is that of the user's own only by chance.
    click.echo(script.source_template % script.source_vars())
    return DONE
