"""Shipped suites and strategies for those who write stores, workers or operators (with the test extra), and the simulation.

`simulate(seed)` runs the core under virtual time with every kind of fault; `check_recording(path)` replays a real run that
was recorded (setting record=).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rxtasks.testing.recorded import check_recording as check_recording
    from rxtasks.testing.runs import simulate as simulate

__all__ = ["check_recording", "simulate"]


def __getattr__(name: str) -> Any:
    """Import what is asked for: a suite need not load the others."""
    if name == "simulate":
        from rxtasks.testing.runs import simulate

        return simulate
    if name == "check_recording":
        from rxtasks.testing.recorded import check_recording

        return check_recording
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
