"""Quantities as Kubernetes writes them.

https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/
"""

import re
from decimal import ROUND_CEILING, Decimal, InvalidOperation
from functools import lru_cache

from vdscheck.measurements.cluster import Resources

_SUFFIXES = {
    "n": Decimal("1e-9"),
    "u": Decimal("1e-6"),
    "m": Decimal("1e-3"),
    "": Decimal(1),
    **{letter: Decimal(1000) ** power for power, letter in enumerate("kMGTPE", 1)},
    **{f"{letter}i": Decimal(1024) ** power for power, letter in enumerate("KMGTPE", 1)},
}
_QUANTITY = re.compile(
    r"([+-]?(?:[0-9]{1,30}(?:\.[0-9]{0,30})?|\.[0-9]{1,30}))(?:([eE][+-]?[0-9]{1,2})|([a-zA-Z]{0,2}))"
)
_MOST = Decimal(2**63 - 1)
"""An amount of the API is an int64 at most; the server caps what is more, and so it is read."""


@lru_cache(maxsize=4096)
def amount(text: str | float, per: int = 1) -> int | None:
    """A quantity in thousandths (`per=1000`) or wholes, rounded up as the scheduler does; None for what is none."""
    found = _QUANTITY.fullmatch(str(text).strip())
    if not found or (found[3] or "") not in _SUFFIXES:
        return None
    try:
        exact = Decimal(found[1] + (found[2] or "")) * _SUFFIXES[found[3] or ""] * per
    except InvalidOperation:
        return None
    return None if exact < 0 else int(min(exact, _MOST).to_integral_value(ROUND_CEILING))


def resources(written: dict[str, str | int | float] | None) -> Resources:
    """A table of quantities; what cannot be read is not stated."""
    rest = dict(written or {})
    cpu, memory, storage = (rest.pop(name, None) for name in ("cpu", "memory", "ephemeral-storage"))
    others = {name: amount(value) for name, value in rest.items() if name != "pods"}
    return Resources(
        cpu_millicores=None if cpu is None else amount(cpu, 1000),
        memory_bytes=None if memory is None else amount(memory),
        ephemeral_storage_bytes=None if storage is None else amount(storage),
        others={name: value for name, value in others.items() if value is not None},
    )


def add(total: dict[str, int], more: dict[str, int]) -> None:
    """Count amounts in; what is more than an amount can be is the largest amount."""
    for name, value in more.items():
        total[name] = min(int(_MOST), total.get(name, 0) + value)


def raise_to(total: dict[str, int], other: dict[str, int]) -> None:
    """Let each amount be the larger of both."""
    for name, value in other.items():
        total[name] = max(total.get(name, 0), value)


def from_stated(stated: dict[str, int]) -> Resources:
    """The reverse of Resources.stated."""
    rest = dict(stated)
    return Resources(
        cpu_millicores=rest.pop("cpu", None),
        memory_bytes=rest.pop("memory", None),
        ephemeral_storage_bytes=rest.pop("ephemeral-storage", None),
        others=rest,
    )
