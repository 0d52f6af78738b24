"""Which kernel settings a measurement holds: what it would be after a change, and what a change can have moved."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import Any

from vdscheck.measurements import BootTruth, Conntrack, FileHandles, Sysctls, TcpBuffers
from vdscheck.plugin import Measurements, Taken, frozen


@frozen
class Held:
    """A kernel setting that stands in one field of a measurement, beside what the change of it cannot move."""

    key: str
    field: str
    take: Callable[[str], int | None]
    """The number in the field, from the text of the setting; None where the text holds none."""


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdecimal() else None


def _largest(text: str) -> int | None:
    """The last of the three sizes of a TCP buffer: least, default, largest."""
    words = text.split()
    return _number(words[2]) if len(words) == 3 else None  # noqa: PLR2004


EVERY_SETTING = (Sysctls, BootTruth)
"""The measurements that hold every setting, now and after the next boot, and nothing else."""
SETTINGS: Mapping[type, tuple[Held, ...]] = {
    Conntrack: (Held("net.netfilter.nf_conntrack_max", "maximum", _number),),
    FileHandles: (Held("fs.file-max", "maximum", _number),),
    TcpBuffers: (
        Held("net.ipv4.tcp_rmem", "receive_max_bytes", _largest),
        Held("net.ipv4.tcp_wmem", "send_max_bytes", _largest),
    ),
}
"""The measurements that hold single settings. Any other type holds none: a load, a counter, a list of sockets, each
of which keeps the backlog that it got when its service began to listen."""


def holds(kind: type, keys: Collection[str]) -> bool:
    """Whether a measurement of that type holds one of these settings."""
    return kind in EVERY_SETTING or any(each.key in keys for each in SETTINGS.get(kind, ()))


def supposed(measurements: Measurements, values: Mapping[str, str], boot: BootTruth | None) -> Measurements:
    """The measurements as they would be with these settings of the running kernel, and with that next boot."""
    return {name: _supposed(taken, values, boot) for name, taken in measurements.items()}


def _supposed(taken: Taken, values: Mapping[str, str], boot: BootTruth | None) -> Taken:
    value = taken.value
    if isinstance(value, Sysctls):
        now = {key: values.get(key, said) for key, said in value.values.items()}
        return replace(taken, value=replace(value, values=now))
    if isinstance(value, BootTruth):
        return taken if boot is None else replace(taken, value=boot)
    fields: dict[str, Any] = {}
    for each in SETTINGS.get(type(value), ()):
        number = each.take(values.get(each.key, ""))
        if number is not None:
            fields[each.field] = number
    return replace(taken, value=replace(value, **fields)) if fields else taken


def moved(before: Measurements, after: Measurements, keys: Collection[str]) -> Measurements:
    """What a change of these settings can have moved as it is after it; all else as it was before."""
    return {name: _moved(before.get(name), taken, keys) for name, taken in after.items()}


def _moved(before: Taken | None, after: Taken, keys: Collection[str]) -> Taken:
    if before is None or before.value is None:
        return after if type(after.value) in EVERY_SETTING or before is None else before
    kind = type(before.value)
    if not holds(kind, keys):
        return before
    if kind in EVERY_SETTING or after.value is None:
        return after
    fields = {each.field: getattr(after.value, each.field) for each in SETTINGS[kind] if each.key in keys}
    return replace(before, value=replace(before.value, **fields))
