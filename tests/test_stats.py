"""Estimates say no more than their samples bear, by brute force and by property."""

import math
import random
import statistics
from itertools import accumulate, product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vdscheck.codec import decode, encode
from vdscheck.stats import (
    Distribution,
    Estimate,
    Recorder,
    bounded_from,
    difference_of_proportions,
    exact,
    median,
    paired_difference,
    percentile,
    proportion,
)


def binomial(k: int, n: int, p: float) -> float:
    return math.comb(n, k) * p**k * (1 - p) ** (n - k)


@pytest.mark.parametrize(("quantile", "count"), [(0.5, 6), (0.9, 36), (0.95, 72), (0.99, 368)])
def test_the_samples_that_bear_a_finite_bound_are_the_known_ones(quantile: float, count: int) -> None:
    assert bounded_from(quantile) == count
    assert math.isfinite(percentile(range(count), quantile).high)
    assert percentile(range(count - 1), quantile).high == math.inf


@pytest.mark.parametrize(
    ("count", "quantile"),
    list(product((1, 2, 5, 6, 10, 35, 36, 71, 72, 100, 367, 368, 500), (0.5, 0.9, 0.95, 0.99))),
)
def test_bounds_are_the_tightest_order_statistics_that_keep_each_tail(count: int, quantile: float) -> None:
    found = percentile(range(1, count + 1), quantile)
    tail = 0.025 + 1e-12
    chances = [binomial(k, count, quantile) for k in range(count + 1)]
    lower = [r for r, below in enumerate(accumulate(chances[:-1]), start=1) if below <= tail]
    upper = [s for s, above in zip(range(count, 0, -1), accumulate(reversed(chances)), strict=False) if above <= tail]
    assert found.low == (max(lower) if lower else -math.inf)
    assert found.high == (min(upper) if upper else math.inf)
    assert found.value == max(1, math.ceil(quantile * count - 1e-9))


@pytest.mark.parametrize("count", [1_000, 5_000, 100_000])
def test_many_samples_do_not_overflow(count: int) -> None:
    found = percentile(range(count), 0.99)
    assert found.low < found.value < found.high < count


@given(st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=500), st.sampled_from([0.01, 0.5, 0.9, 0.99]))
def test_a_percentile_is_one_of_its_samples_inside_its_interval(samples: list[float], quantile: float) -> None:
    found = percentile(samples, quantile)
    assert found.value in samples
    assert found.low <= found.value <= found.high
    assert found.count == len(samples)


def test_ninety_five_of_a_hundred_intervals_hold_the_true_percentile() -> None:
    source = random.Random(20261124)
    held = 0
    for _ in range(1000):
        found = percentile([source.random() for _ in range(200)], 0.9)
        held += found.low <= 0.9 <= found.high
    assert held >= 940


@pytest.mark.parametrize(
    ("successes", "count", "low", "high"),
    # Wilson's interval as tabulated by Newcombe, Statistics in Medicine 17 (1998), 857-872, table I.
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_a_proportion_has_the_published_interval(successes: int, count: int, low: float, high: float) -> None:
    found = proportion(successes, count)
    assert (round(found.low, 4), round(found.high, 4)) == (low, high)


@given(st.integers(1, 10_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_a_proportion_is_inside_its_interval_and_inside_zero_to_one(share: tuple[int, int]) -> None:
    found = proportion(*share)
    assert 0 <= found.low <= found.value <= found.high <= 1


@pytest.mark.parametrize(
    "make",
    [
        lambda: percentile([], 0.5),
        lambda: percentile([1], 0),
        lambda: percentile([1], 1),
        lambda: proportion(1, 0),
        lambda: proportion(3, 2),
        lambda: proportion(-1, 2),
        lambda: median([]),
        lambda: paired_difference([], []),
        lambda: paired_difference([1], [1, 2]),
        lambda: difference_of_proportions((1, 0), (0, 1)),
        lambda: exact(math.nan),
        lambda: exact(math.inf),
        lambda: Estimate(1, 2, 3, 4),
    ],
)
def test_what_cannot_be_estimated_is_refused(make: object) -> None:
    with pytest.raises(ValueError, match=r"."):
        make()  # type: ignore[operator]


def test_zero_is_an_exact_fact() -> None:
    assert exact(0) == Estimate(0, 0, 0, None)


@pytest.mark.parametrize(
    ("estimate", "limit", "samples"),
    [
        (Estimate(8, 6, 12, 100), 10, 400),
        (Estimate(8, 7, 9, 100), 10, 25),
        (Estimate(8, 6, math.inf, 100, 368), 10, 368),
        (Estimate(10, 6, 12, 100), 10, None),
        (exact(8), 10, None),
    ],
)
def test_the_samples_that_would_decide_are_named(estimate: Estimate, limit: float, samples: int | None) -> None:
    assert estimate.samples_to_clear(limit) == samples


def recorded(*batches: list[int]) -> Distribution:
    recorder = Recorder()
    for batch in batches:
        recorder.add(batch)
    found = recorder.distribution()
    assert found is not None
    return found


DURATIONS_NS = st.integers(0, 10**12)


@given(st.lists(DURATIONS_NS, min_size=1, max_size=400), st.sampled_from([0.01, 0.5, 0.9, 0.99, 0.999]))
def test_a_distribution_gives_the_percentiles_of_its_samples_within_a_thousandth(
    samples: list[int], quantile: float
) -> None:
    found, true = recorded(samples).percentile_us(quantile), percentile(samples, quantile)
    for mine, exactly in ((found.value, true.value), (found.low, true.low), (found.high, true.high)):
        assert mine == exactly / 1000 or math.isclose(mine, exactly / 1000, rel_tol=1 / 1024)
    assert (found.count, found.bounded_from) == (true.count, true.bounded_from)


@given(st.lists(DURATIONS_NS, min_size=1, max_size=200))
def test_what_a_distribution_says_of_all_samples_is_exact(samples: list[int]) -> None:
    found = recorded(samples)
    mean = sum(samples) / len(samples)
    assert (found.count, found.min_us, found.max_us) == (len(samples), min(samples) / 1000, max(samples) / 1000)
    assert math.isclose(found.mean_us, mean / 1000)
    spread = math.sqrt(sum((sample - mean) ** 2 for sample in samples) / len(samples))
    assert math.isclose(found.stddev_us, spread / 1000, rel_tol=1e-6, abs_tol=mean * 1e-9)
    assert sum(count for _, count in found.histogram_ns) == len(samples)


@given(st.lists(st.lists(DURATIONS_NS, max_size=50), min_size=1, max_size=8).filter(any))
def test_samples_may_come_in_any_batches(batches: list[list[int]]) -> None:
    assert recorded(*batches) == recorded([sample for batch in batches for sample in batch])


@pytest.mark.parametrize(
    ("count", "claimed"),
    [(1, []), (5, []), (6, [50]), (36, [50, 90]), (72, [50, 90, 95]), (368, [50, 90, 95, 99])],
)
def test_a_percentile_is_claimed_only_with_samples_enough_to_bear_it(count: int, claimed: list[float]) -> None:
    assert [each.percent for each in recorded(list(range(count))).percentiles] == claimed


def test_without_samples_there_is_no_distribution() -> None:
    recorder = Recorder()
    recorder.add([])
    assert recorder.distribution() is None
    assert len(recorder) == 0


def test_a_duration_cannot_be_negative() -> None:
    with pytest.raises(ValueError, match="monotonic"):
        Recorder().add([5, -1])


@pytest.mark.parametrize("quantile", [0, 1, -0.5, 2])
def test_a_distribution_has_no_percentile_outside_its_samples(quantile: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        recorded([1]).percentile_us(quantile)


@given(st.lists(DURATIONS_NS, min_size=1, max_size=100))
def test_a_distribution_survives_its_encoding(samples: list[int]) -> None:
    found = recorded(samples)
    assert decode(encode(found), Distribution) == found


def test_milliseconds_are_the_same_percentile() -> None:
    found = recorded([1_000_000] * 400)
    assert found.percentile_ms(0.99) == Estimate(1.0, 1.0, 1.0, 400, 368)


def test_a_million_samples_take_no_million_terms() -> None:
    recorder = Recorder()
    recorder.add(range(1_000_000))
    found = recorder.distribution()
    assert found is not None
    estimate = found.percentile_us(0.999)
    assert 998 < estimate.low <= estimate.value <= estimate.high < 1000
    assert len(found.histogram_ns) < 20_000


def brute_median_bounds(ordered: list[float]) -> tuple[float, float]:
    """The widest pair of order statistics that the sign test leaves out on each side at 2.5 % or less."""
    count = len(ordered)
    tails = [sum(math.comb(count, k) for k in range(rank)) / 2**count for rank in range(count + 1)]
    below = max((rank for rank in range(count + 1) if tails[rank] <= 0.025), default=0)
    return (
        ordered[below - 1] if below else -math.inf,
        ordered[count - below] if below else math.inf,
    )


@given(st.lists(st.tuples(st.integers(-1000, 1000), st.integers(-1000, 1000)), min_size=1, max_size=60))
def test_the_difference_of_pairs_has_the_sign_test_s_interval(pairs: list[tuple[int, int]]) -> None:
    found = paired_difference([one for one, _ in pairs], [other for _, other in pairs])
    ordered = sorted(float(one - other) for one, other in pairs)
    assert found.value == statistics.median(ordered)
    assert (found.low, found.high) == brute_median_bounds(ordered)


def test_ten_pairs_bear_an_interval_from_the_second_to_the_ninth() -> None:
    found = paired_difference(range(10), [0] * 10)
    assert (found.value, found.low, found.high, found.count) == (4.5, 1, 8, 10)


@pytest.mark.parametrize(
    ("first", "second", "low", "high"),
    # Newcombe, Statistics in Medicine 17 (1998), 873-890, table II, method 10.
    [
        ((56, 70), (48, 80), 0.0524, 0.3339),
        ((9, 10), (3, 10), 0.1705, 0.8090),
        ((6, 7), (2, 7), 0.0582, 0.8062),
        ((5, 56), (0, 29), -0.0381, 0.1926),
        ((0, 10), (0, 20), -0.1611, 0.2775),
        ((10, 10), (0, 20), 0.6791, 1.0),
    ],
)
def test_the_difference_of_shares_has_the_published_interval(
    first: tuple[int, int], second: tuple[int, int], low: float, high: float
) -> None:
    found = difference_of_proportions(first, second)
    assert (round(found.low, 4), round(found.high, 4)) == (low, high)
