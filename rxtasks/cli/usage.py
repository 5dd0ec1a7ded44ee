"""A user's mistake: told in one sentence, exit code 2."""

from __future__ import annotations

__all__ = ["UsageMistake"]


class UsageMistake(Exception):
    """What was asked for cannot be; the message is one sentence that says what to try."""
