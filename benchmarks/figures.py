"""Samples to figures: medians, ratios of pairs, and whether a bar is met. Pure."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

import attrs

__all__ = ["Bar", "Comparison", "at_least", "at_most", "compare", "percentile"]


@attrs.frozen
class Bar:
    """A figure that is asked for: `limit` must be met, `aim` is where we want to be."""

    limit: float
    aim: float | None
    #: True: the figure must not be below the limit; False: not above it.
    lower_bound: bool

    def met(self, figure: float) -> bool:
        """Say whether `figure` meets the limit; a figure that is no number meets none."""
        return figure >= self.limit if self.lower_bound else figure <= self.limit


def at_least(limit: float, aim: float | None = None) -> Bar:
    """Return the bar of a figure that should be high."""
    return Bar(limit, aim, lower_bound=True)


def at_most(limit: float, aim: float | None = None) -> Bar:
    """Return the bar of a figure that should be low."""
    return Bar(limit, aim, lower_bound=False)


@attrs.frozen
class Comparison:
    """Two sides measured in pairs, side by side."""

    ours: float
    peer: float
    #: Median of ours over median of the peer's.
    ratio_of_medians: float
    #: Median of ours over the peer's, pair by pair: drift of the machine cancels out. Bars are judged by this one.
    median_ratio: float
    lowest_ratio: float
    highest_ratio: float


def compare(ours: Sequence[float], peer: Sequence[float]) -> Comparison:
    """Return medians and ratios of pairs: the n-th of `ours` was measured beside the n-th of `peer`.

    Raises:
        ValueError: there is no pair, or one side has a sample without its partner.
    """
    if not ours or len(ours) != len(peer):
        raise ValueError(f"pairs are needed, not {len(ours)} samples beside {len(peer)}")
    mine, theirs = statistics.median(ours), statistics.median(peer)
    ratios = [_ratio(one, other) for one, other in zip(ours, peer, strict=True)]
    return Comparison(
        mine,
        theirs,
        _ratio(mine, theirs),
        statistics.median(ratios),
        lowest_ratio=min(ratios),
        highest_ratio=max(ratios),
    )


def _ratio(one: float, other: float) -> float:
    if other == 0:
        return math.nan if one == 0 else math.inf
    return one / other


def percentile(samples: Sequence[float], percent: float) -> float:
    """Return the smallest sample that at least `percent` of the samples do not exceed (nearest rank).

    Raises:
        ValueError: there are no samples, or `percent` is not in (0, 100].
    """
    if not samples or not 0 < percent <= 100:
        raise ValueError("a percentile needs samples and a percent in (0, 100]")
    return sorted(samples)[math.ceil(len(samples) * percent / 100) - 1]
