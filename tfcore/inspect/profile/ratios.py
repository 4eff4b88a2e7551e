"""Times that were measured in turns, and how many times one of two is the other."""

import statistics
from collections.abc import Sequence


def spread(values: Sequence[float]) -> tuple[float, float, float]:
    """Return median, lower and upper quartile."""
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return median, low, high


def ratios(theirs: Sequence[float], ours: Sequence[float]) -> tuple[float, float, float]:
    """Return median and quartiles of theirs / ours turn by turn: what slows both sides at once cancels."""
    return spread([their / our for their, our in zip(theirs, ours, strict=True)])
