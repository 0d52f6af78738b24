"""Distributions as people see them: a row of percentiles, and a histogram over a logarithmic axis."""

import math
from collections.abc import Sequence

from vdscheck.stats import Distribution
from vdscheck.threshold import spoken

CLAIMED = ((0.5, "p50"), (0.9, "p90"), (0.99, "p99"), (0.999, "p99.9"))
_EIGHTHS = " ▁▂▃▄▅▆▇█"
_TENTHS = " .:-=+*#%@"
_LEAST_SPAN = 1.5
"""The axis is at least this much from end to end: a narrower one would blow up noise."""


def duration(value_us: float) -> str:
    """`92 us`, `1.31 ms`, `2.4 s`."""
    for unit, scale in (("us", 1.0), ("ms", 1e3), ("s", 1e6)):
        if value_us < 999.5 * scale or unit == "s":
            return f"{spoken(_significant(value_us / scale))} {unit}"
    raise AssertionError


def _significant(value: float) -> float:
    """Three significant digits, so that 0.0915 and 91.53 are equally long."""
    return float(f"{value:.3g}")


def percentile_cells(found: Distribution) -> tuple[str, ...]:
    """Count, minimum, the percentiles that the samples bear, and maximum; a dash for those they do not."""
    claimed = {each.percent: each.value_us for each in found.percentiles}
    middle = (claimed.get(100 * quantile) for quantile, _ in CLAIMED)
    shown = ("-" if value is None else duration(value) for value in middle)
    return (f"{found.count:,}", duration(found.min_us), *shown, duration(found.max_us))


PERCENTILE_HEADS = ("samples", "min", *(name for _, name in CLAIMED), "max")


def columns(found: Distribution, width: int) -> tuple[list[int], float, float]:
    """How many samples fall in each of so many columns of equal ratio, and the ends of the axis in us."""
    low_us = max(found.min_us, 0.001)
    high_us = max(found.max_us, low_us * _LEAST_SPAN)
    span = math.log(high_us / low_us)
    counts = [0] * width
    for least_ns, count in found.histogram_ns:
        place = math.log(min(max(least_ns / 1000, low_us), high_us) / low_us) / span
        counts[min(int(place * width), width - 1)] += count
    return counts, low_us, high_us


def bars(counts: Sequence[int], height: int, *, utf8: bool) -> list[str]:
    """The columns as lines of text, top first; by the square root, so that a tail of few is seen beside many."""
    most = max(counts, default=0)
    if most == 0:
        return [""] * height
    steps = _EIGHTHS if utf8 else _TENTHS
    fine = len(steps) - 1
    levels = [math.ceil(math.sqrt(count / most) * height * fine) for count in counts]
    return [
        "".join(steps[min(max(level - row * fine, 0), fine)] for level in levels).rstrip()
        for row in range(height - 1, -1, -1)
    ]


def axis(low_us: float, high_us: float, width: int) -> str:
    """The line below a histogram: its ends and, where there is room, the middle of its ratio."""
    left, right = duration(low_us), duration(high_us)
    middle = duration(math.sqrt(low_us * high_us))
    line = f"{left}{right:>{max(0, width - len(left))}}"
    at = width // 2 - len(middle) // 2
    if len(left) + 2 <= at and at + len(middle) + 2 <= width - len(right):
        line = line[:at] + middle + line[at + len(middle) :]
    return line
