"""What limits of the session took from the measurements."""

from collections import Counter

from vdscheck.model.report import Measurements
from vdscheck.units import counted


def limit_warnings(measurements: Measurements) -> tuple[str, ...]:
    """What each limit of the session took from the measurements: a score without them is provisional."""
    absences = (taken.absent for taken in measurements.values())
    lost = Counter(absent.limit for absent in absences if absent is not None and absent.limit is not None)
    return tuple(
        f"{limit} stopped {count} of {counted(len(measurements), 'measurement')}: the score is provisional; "
        "run again without this limit"
        for limit, count in lost.most_common()
    )
