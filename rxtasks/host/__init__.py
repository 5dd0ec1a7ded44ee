"""The process that runs a pool for an operator: a service, its control server, logs and metrics, signals and systemd.

::

    configuration ──> PoolHost: place held ─> log files ─> service ─> control server ─> ready
                         ^                                                               │
       signals, control ─┴──────────── asked to end: the same in reverse order <─────────┘
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rxtasks.host.pool_host import PoolHost

__all__ = ["PoolHost"]


def __getattr__(name: str) -> Any:
    # The commands import `rxtasks.host.ending` and are to start fast: what runs a pool is imported where one is run.
    if name == "PoolHost":
        from rxtasks.host.pool_host import PoolHost

        return PoolHost
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
