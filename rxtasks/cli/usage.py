"""What a command cannot do: told in one sentence that says what to try, with the exit code that goes with it."""

from __future__ import annotations

from rxtasks.cli.codes import FAILED, USAGE

__all__ = ["CommandFailed", "UsageMistake"]


class CommandFailed(Exception):
    """The command cannot do what was asked for.

    Args:
        message: One sentence, or more; what comes from elsewhere in it is escaped where it is shown.
        code: The exit code.
    """

    def __init__(self, message: str, code: int = FAILED) -> None:
        super().__init__(message)
        self.code = code


class UsageMistake(CommandFailed):
    """What was asked for cannot be: a user's mistake, exit code 2."""

    def __init__(self, message: str) -> None:
        super().__init__(message, USAGE)
