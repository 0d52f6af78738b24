"""What round trips say of distances: nothing is faster than light, and most of the way is glass."""

import math
from itertools import combinations

from vdscheck.measurements import Paths, Place

EQUATOR_KM, FLATTENING = 6378.137, 1 / 298.257223563
"""The Earth as WGS 84 has it."""
_TOO_NEAR = 1e-12
"""Where two places are the same, or lie on opposite sides, the ellipsoid's share cannot be computed so."""
VACUUM_KM_PER_MS = 299.792458
"""The speed of light: what bears a proof."""
FIBRE_KM_PER_MS = VACUUM_KM_PER_MS / 1.4682
"""In silica fibre at 1550 nm (Corning SMF-28: group index 1.4682): what is likely."""


def great_circle_km(one: Place, other: Place) -> float | None:
    """The shortest way over the globe, to some metres; None where a place has no coordinates.

    Lambert's formula (Thomas, Mathematical Models for Navigation Systems, 1965).
    """
    if one.latitude is None or one.longitude is None or other.latitude is None or other.longitude is None:
        return None
    beta1, beta2 = (_reduced(each) for each in (one.latitude, other.latitude))
    half = math.sin((beta2 - beta1) / 2) ** 2
    half += math.cos(beta1) * math.cos(beta2) * math.sin(math.radians(other.longitude - one.longitude) / 2) ** 2
    angle = 2 * math.asin(math.sqrt(max(0.0, min(1.0, half))))
    near, far = math.sin(angle / 2) ** 2, math.cos(angle / 2) ** 2
    if near < _TOO_NEAR or far < _TOO_NEAR:
        return EQUATOR_KM * angle
    middle, off = (beta1 + beta2) / 2, (beta2 - beta1) / 2
    first = (angle - math.sin(angle)) * (math.sin(middle) * math.cos(off)) ** 2 / far
    second = (angle + math.sin(angle)) * (math.cos(middle) * math.sin(off)) ** 2 / near
    return EQUATOR_KM * (angle - FLATTENING / 2 * (first + second))


def _reduced(latitude: float) -> float:
    """The angle at the centre under which a latitude of the ellipsoid is seen on the sphere around it."""
    return math.atan((1 - FLATTENING) * math.tan(math.radians(latitude)))


def farthest_km(rtt_ms: float, km_per_ms: float) -> float:
    """How far away something can be at most that answers after this time."""
    return rtt_ms / 2 * km_per_ms


def least_rtt_ms(distance_km: float, km_per_ms: float) -> float:
    """The least round trip over a distance."""
    return 2 * distance_km / km_per_ms


def contradiction(paths: Paths) -> str | None:
    """Why two places cannot both be where they are said to be; None where nothing speaks against it.

    From one place to the other by way of here is no shorter than straight on, and light needs that long.
    """
    for (one, first, one_ms), (other, second, other_ms) in combinations(paths.answering(), 2):
        apart_km = great_circle_km(first.place, second.place)
        if apart_km is None:
            continue
        needed_ms = least_rtt_ms(apart_km, VACUUM_KM_PER_MS)
        if one_ms + other_ms < needed_ms:
            return (
                f"{one} answers in {one_ms:.2f} ms and {other} in {other_ms:.2f} ms, and light "
                f"needs {needed_ms:.2f} ms for the {apart_km:,.0f} km between them: at least one of "
                f"{first.host} and {second.host} is not where it is said to be (anycast, or a proxy)"
            )
    return None
