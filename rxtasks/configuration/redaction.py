"""Secrets in settings, hidden wherever settings are shown: user information and queries of URLs."""

from __future__ import annotations

import re
from typing import Final

__all__ = ["is_secret_name", "redacted_url"]

#: Up to the last @: a password may hold anything. A path (three slashes) has none.
_USER: Final = re.compile(r"(?<=://)(?!/)[^\s'\"]*@")
_QUERY: Final = re.compile(r"(?<=[?&;])([^=&;\s'\"]+)=[^&;\s'\"]*")
_SECRET: Final = re.compile(r"password|passwd|secret|token|credential|(api|private|access)[-_]?key", re.IGNORECASE)
#: What stands for a secret.
_HIDDEN: Final = "***"


def redacted_url(text: str) -> str:
    """Return the text with the user information and the values of queries of each URL in it hidden."""
    if "://" not in text:
        return text
    return _QUERY.sub(rf"\1={_HIDDEN}", _USER.sub(f"{_HIDDEN}@", text))


def is_secret_name(name: str) -> bool:
    """Say whether a value of this name is likely to be a secret."""
    return _SECRET.search(name) is not None
