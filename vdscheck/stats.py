"""Estimates: a number with the interval that its samples can bear."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

CONFIDENCE = 0.95
_NORMAL_97_5 = 1.959963984540054
"""The 97.5 % quantile of the normal distribution: importing `statistics` for it takes 7 ms."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value between `low` and `high` with 95 % confidence, from `count` samples.

    A side that the samples cannot bound is minus or plus infinity. An exact fact of its window
    (a counter, a scalar, a maximum) has low = high = value and no count.
    """

    value: float
    low: float
    high: float
    count: int | None
    bounded_from: int | None = None
    """The number of samples from which both sides are finite, where there is such a number."""

    def __post_init__(self) -> None:
        if not math.isfinite(self.value):
            message = f"an estimate of {self.value}: what was not measured is Absent"
            raise ValueError(message)
        if not self.low <= self.value <= self.high:
            message = f"{self.value} is outside its own interval [{self.low}, {self.high}]"
            raise ValueError(message)

    def samples_to_clear(self, limit: float) -> int | None:
        """About how many samples would put the interval on one side of `limit`.

        Intervals narrow with the square root of the samples. None where no number would: an
        exact fact, or a value that is the limit itself.
        """
        if self.count is None or self.value == limit:
            return None
        side = self.low if self.value > limit else self.high
        if not math.isfinite(side):
            return self.bounded_from
        return math.ceil(self.count * ((side - self.value) / (limit - self.value)) ** 2)


def exact(value: float) -> Estimate:
    """An exact fact of its window: counters, scalars, maxima and minima."""
    return Estimate(value, value, value, None)


@lru_cache(maxsize=256)
def _binomial_cdf(count: int, probability: float) -> tuple[float, ...]:
    """P(X <= k) for k = 0..count; in logarithms, since math.comb overflows a float near 1,000."""
    log_p, log_q = math.log(probability), math.log1p(-probability)
    total, cdf = 0.0, []
    for k in range(count + 1):
        total += math.exp(
            math.lgamma(count + 1) - math.lgamma(k + 1) - math.lgamma(count - k + 1) + k * log_p + (count - k) * log_q
        )
        cdf.append(min(total, 1.0))
    return tuple(cdf)


def bounded_from(quantile: float) -> int:
    """The least number of samples that bears both sides of a quantile's 95 % interval.

    A side is bounded when the chance that all samples lie beyond it is at most 2.5 %: 6 samples
    for the p50, 36 for the p90, 72 for the p95, 368 for the p99.
    """
    tail = (1 - CONFIDENCE) / 2
    extreme = max(quantile, 1 - quantile)
    return math.ceil(math.log(tail) / math.log(extreme))


def percentile(samples: Sequence[float], quantile: float) -> Estimate:
    """The nearest-rank percentile with distribution-free bounds from order statistics.

    Raises ValueError without samples, or for a quantile outside (0, 1).
    Source: Conover, Practical Nonparametric Statistics, 3rd ed., section 3.2.
    """
    if not samples or not 0 < quantile < 1:
        message = "a percentile needs samples and a quantile between 0 and 1"
        raise ValueError(message)
    ordered = sorted(samples)
    count = len(ordered)
    cdf = _binomial_cdf(count, quantile)
    tail = (1 - CONFIDENCE) / 2
    # X of the samples lie below the true quantile; the r-th of them is a lower bound when
    # P(X < r) <= tail, and the s-th is an upper one when P(X >= s) <= tail.
    lower = sum(1 for k in range(count) if cdf[k] <= tail)
    upper = next((s for s in range(1, count + 1) if 1 - cdf[s - 1] <= tail), None)
    rank = max(1, math.ceil(quantile * count - 1e-9))
    return Estimate(
        ordered[rank - 1],
        ordered[lower - 1] if lower else -math.inf,
        math.inf if upper is None else ordered[upper - 1],
        count,
        bounded_from(quantile),
    )


def proportion(successes: int, count: int) -> Estimate:
    """A share of a count with its Wilson score interval, as a number from 0 to 1.

    Raises ValueError for an empty count or an impossible share.
    Source: Wilson, J. Am. Stat. Assoc. 22 (1927), 209-212.
    """
    if not 0 <= successes <= count or count == 0:
        message = f"{successes} of {count} is not a proportion"
        raise ValueError(message)
    z = _NORMAL_97_5
    share = successes / count
    centre = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * math.sqrt(share * (1 - share) / count + (z / count / 2) ** 2)
    return Estimate(share, max(0.0, min(share, centre - half)), min(1.0, max(share, centre + half)), count)
