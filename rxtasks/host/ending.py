"""How the last pool of a store ended, for whoever asks later: a small file beside its logs.

A pool that was killed leaves none; that is told by its place (rxtasks.control.place.Dead).
"""

from __future__ import annotations

import contextlib
import json
import os
from datetime import UTC, datetime
from typing import Any, Final

import attrs

__all__ = ["Ending"]

#: Ids of unfinished tasks that are kept; their number always is.
_MOST: Final = 1000
_LARGEST: Final = 256 * 1024


@attrs.frozen
class Ending:
    """How a pool ended in order."""

    pid: int
    started_at: datetime
    #: In UTC.
    ended_at: datetime
    exit_code: int
    #: What asked for it: "SIGTERM", "rxtasks worker stop", "--burst", or the error that it ended of.
    why: str
    forced: bool
    #: Tasks that it cut off or kept from starting: ids, at most the first 1,000.
    unfinished: tuple[str, ...]
    unfinished_count: int
    #: The store keeps what is unfinished for the next pool.
    kept: bool

    @staticmethod
    def of(
        *,
        started_at: datetime,
        exit_code: int,
        why: str,
        forced: bool,
        unfinished: tuple[str, ...],
        kept: bool,
    ) -> Ending:
        """Return the ending of this process, now."""
        return Ending(
            pid=os.getpid(),
            started_at=started_at,
            ended_at=datetime.now(UTC),
            exit_code=exit_code,
            why=why,
            forced=forced,
            unfinished=unfinished[:_MOST],
            unfinished_count=len(unfinished),
            kept=kept,
        )

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain values."""
        return {
            **attrs.asdict(self, recurse=False),
            "started_at": self.started_at.isoformat(),
            "ended_at": self.ended_at.isoformat(),
            "unfinished": list(self.unfinished),
        }

    def write(self, directory: str, name: str) -> None:
        """Keep it in `directory` as that of the pool `name`, in the place of the one before.

        Raises:
            OSError: it cannot be written.
        """
        path = _path(directory, name)
        unseen = f"{path}.{os.getpid()}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            with os.fdopen(os.open(unseen, flags, 0o600), "w", encoding="utf-8") as file:
                json.dump(self.to_dict(), file)
            os.rename(unseen, path)
        except OSError:
            with contextlib.suppress(OSError):
                os.unlink(unseen)
            raise

    @staticmethod
    def read(directory: str | None, name: str) -> Ending | None:
        """Return the last one of the pool `name`, or None: there is none that can be read."""
        if directory is None:
            return None
        try:
            with open(_path(directory, name), encoding="utf-8") as file:
                body = json.loads(file.read(_LARGEST))
            return Ending(
                **{
                    **body,
                    "started_at": datetime.fromisoformat(body["started_at"]),
                    "ended_at": datetime.fromisoformat(body["ended_at"]),
                    "unfinished": tuple(map(str, body["unfinished"])),
                }
            )
        except (OSError, ValueError, TypeError, KeyError, RecursionError):
            return None


def _path(directory: str, name: str) -> str:
    return os.path.join(directory, f"{name}.ended.json")
