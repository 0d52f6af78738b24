"""Estimates, numbers with the interval that their samples can bear, and distributions of samples."""

import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import accumulate

from vdscheck.model.records import frozen, measurement

CONFIDENCE = 0.95
_NORMAL_97_5 = 1.959963984540054
"""The 97.5 % quantile of the normal distribution: importing `statistics` for it takes 7 ms."""


@frozen
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
def _bounds(count: int, quantile: float) -> tuple[int, int | None]:
    """The ranks of the order statistics that bound a quantile, from 1; 0 and None are unbounded.

    X of the samples lie below the true quantile; the r-th of them is a lower bound when P(X < r) is at
    most the tail, and the s-th is an upper one when P(X >= s) is. X is binomial; in logarithms, since
    math.comb overflows a float near 1,000; and only where it has any weight, since a million samples
    have a million terms.
    """
    tail = (1 - CONFIDENCE) / 2
    log_p, log_q = math.log(quantile), math.log1p(-quantile)
    spread = 12 * (math.sqrt(count * quantile * (1 - quantile)) + 1)
    first = max(0, math.floor(count * quantile - spread))
    total, lower = 0.0, first
    for k in range(first, count):
        total += math.exp(
            math.lgamma(count + 1) - math.lgamma(k + 1) - math.lgamma(count - k + 1) + k * log_p + (count - k) * log_q
        )
        if total <= tail:
            lower = k + 1
        if 1 - total <= tail:
            return lower, k + 1
    return lower, None


def _rank(count: int, quantile: float) -> int:
    """The nearest rank of a quantile, from 1."""
    return max(1, math.ceil(quantile * count - 1e-9))


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
    return _estimate(len(ordered), quantile, lambda rank: ordered[rank - 1])


def _estimate(count: int, quantile: float, ranked: Callable[[int], float]) -> Estimate:
    lower, upper = _bounds(count, quantile)
    return Estimate(
        ranked(_rank(count, quantile)),
        ranked(lower) if lower else -math.inf,
        math.inf if upper is None else ranked(upper),
        count,
        bounded_from(quantile),
    )


def _normal_quantile(comparisons: int) -> float:
    """How many standard deviations 95 % intervals reach to each side, so that so many of them hold together."""
    if comparisons == 1:
        return _NORMAL_97_5
    from statistics import NormalDist  # 7 ms, and only traces that lost packets ask

    return NormalDist().inv_cdf(1 - (1 - CONFIDENCE) / 2 / comparisons)


def proportion(successes: int, count: int, *, comparisons: int = 1) -> Estimate:
    """A share of a count with its Wilson score interval, as a number from 0 to 1.

    With `comparisons` it is one of so many that hold their true values together with 95 % confidence
    (Bonferroni, https://online.stat.psu.edu/stat505/lesson/7/7.2/7.2.4).
    Raises ValueError for an empty count or an impossible share.
    Source: Wilson, J. Am. Stat. Assoc. 22 (1927), 209-212.
    """
    if not 0 <= successes <= count or count == 0:
        message = f"{successes} of {count} is not a proportion"
        raise ValueError(message)
    z = _normal_quantile(comparisons)
    share = successes / count
    centre = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * math.sqrt(share * (1 - share) / count + (z / count / 2) ** 2)
    return Estimate(share, max(0.0, min(share, centre - half)), min(1.0, max(share, centre + half)), count)


def median(samples: Sequence[float]) -> Estimate:
    """The median, of an even number the middle of the two, with bounds from order statistics.

    Raises ValueError without samples.
    """
    bounds = percentile(samples, 0.5)
    ordered = sorted(samples)
    half = len(ordered) // 2
    value = ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2
    return replace(bounds, value=value)


def paired_difference(first: Sequence[float], second: Sequence[float]) -> Estimate:
    """By how much the first exceed the second, taken in pairs: the median of the differences, with its interval.

    The interval is that of the sign test: it asks nothing of the distribution. Raises ValueError
    without pairs, or where one is missing.
    Source: Conover, Practical Nonparametric Statistics, 3rd ed., sections 3.2 and 3.4.
    """
    return median([one - other for one, other in zip(first, second, strict=True)])


def difference_of_proportions(first: tuple[int, int], second: tuple[int, int], *, comparisons: int = 1) -> Estimate:
    """By how much one share exceeds another, each as (successes, count), with its 95 % interval.

    `comparisons` is that of `proportion`: who asks of many pairs whether any differs, is else soon told so by chance.
    Raises ValueError for an empty count or an impossible share.
    Source: Newcombe, Statistics in Medicine 17 (1998), 873-890, method 10.
    """
    one, other = (proportion(*each, comparisons=comparisons) for each in (first, second))
    value = one.value - other.value
    below = math.hypot(one.value - one.low, other.high - other.value)
    above = math.hypot(one.high - one.value, other.value - other.low)
    return Estimate(value, max(-1.0, value - below), min(1.0, value + above), first[1] + second[1])


CLAIMED_PERCENT = (50.0, 90.0, 95.0, 99.0, 99.9)
"""The percentiles that a distribution names, where it has samples enough for both their bounds."""

_DIGITS_BITS = 11
"""Buckets keep 11 bits of a number: they are at most 1/1024 of it wide, three significant digits."""


@measurement
class Percentile:
    """A percentile with the bounds that hold the true one with 95 % confidence."""

    percent: float
    value_us: float
    low_us: float
    high_us: float


@measurement
class Distribution:
    """Durations of many repetitions: what was seen, and a histogram that all percentiles come from.

    A High Dynamic Range histogram: buckets of equal relative width, here at most 1/1024 of a value, so
    that a percentile is off by at most half of that. Minimum, maximum, mean and standard deviation
    are of the samples themselves. Source of the method: https://hdrhistogram.github.io/HdrHistogram/
    """

    count: int
    min_us: float
    max_us: float
    mean_us: float
    stddev_us: float
    percentiles: tuple[Percentile, ...]
    """Only those whose interval the number of samples bears on both sides."""
    histogram_ns: tuple[tuple[int, int], ...]
    """Least value of a bucket and how many samples are in it, for those that are not empty."""

    def percentile_us(self, quantile: float) -> Estimate:
        """A percentile with its interval, from the histogram. Raises ValueError for a quantile outside (0, 1)."""
        if not 0 < quantile < 1:
            message = f"{quantile} is not between 0 and 1"
            raise ValueError(message)
        totals = list(accumulate(count for _, count in self.histogram_ns))

        def ranked(rank: int) -> float:
            least_ns, _ = self.histogram_ns[bisect_left(totals, rank)]
            middle_us = (least_ns + (_width_ns(least_ns) - 1) / 2) / 1000
            return min(max(middle_us, self.min_us), self.max_us)

        return _estimate(self.count, quantile, ranked)

    def percentile_ms(self, quantile: float) -> Estimate:
        """The same in milliseconds."""
        found = self.percentile_us(quantile)
        return Estimate(found.value / 1000, found.low / 1000, found.high / 1000, found.count, found.bounded_from)


class Recorder:
    """Gathers durations into a distribution; to add is cheap, and may be done between two measurements."""

    def __init__(self) -> None:
        self._buckets: Counter[int] = Counter()
        self._count = 0
        self._least_ns = self._most_ns = 0
        self._sum_ns = 0
        self._squares_ns = 0

    def __len__(self) -> int:
        return self._count

    def add(self, samples_ns: Iterable[int]) -> None:
        """Add durations in nanoseconds. Raises ValueError for a negative one."""
        samples = list(samples_ns)
        if not samples:
            return
        least, most = min(samples), max(samples)
        if least < 0:
            message = f"a duration of {least} ns: the clock is not monotonic"
            raise ValueError(message)
        self._least_ns = least if self._count == 0 else min(least, self._least_ns)
        self._most_ns = max(most, self._most_ns)
        self._count += len(samples)
        self._sum_ns += sum(samples)
        self._squares_ns += sum(sample * sample for sample in samples)
        self._buckets.update(map(_bucket_ns, samples))

    def distribution(self) -> Distribution | None:
        """What has been gathered; None without samples, of which nothing can be said."""
        if self._count == 0:
            return None
        mean_ns = self._sum_ns / self._count
        variance = (self._squares_ns * self._count - self._sum_ns**2) / self._count**2
        bare = Distribution(
            count=self._count,
            min_us=self._least_ns / 1000,
            max_us=self._most_ns / 1000,
            mean_us=mean_ns / 1000,
            stddev_us=math.sqrt(variance) / 1000,
            percentiles=(),
            histogram_ns=tuple(sorted(self._buckets.items())),
        )
        return replace(bare, percentiles=tuple(_claimed(bare)))


def _claimed(found: Distribution) -> Iterable[Percentile]:
    for percent in CLAIMED_PERCENT:
        quantile = percent / 100
        if found.count >= bounded_from(quantile):
            estimate = found.percentile_us(quantile)
            yield Percentile(percent=percent, value_us=estimate.value, low_us=estimate.low, high_us=estimate.high)


def _bucket_ns(sample_ns: int) -> int:
    """The least value that shares the bucket of a sample."""
    shift = max(0, sample_ns.bit_length() - _DIGITS_BITS)
    return sample_ns >> shift << shift


def _width_ns(least_ns: int) -> int:
    return 1 << max(0, least_ns.bit_length() - _DIGITS_BITS)
