"""What a fix could not see of the settings that its checks judge: then to find nothing to change says nothing."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from typing import Any, TypeVar

from vdscheck import held
from vdscheck.catalogue import Catalogue
from vdscheck.measurements import BootTruth, KernelOwner, NodeAgents, Sysctls
from vdscheck.model import Absent, LeftAlone, Measurements, Reason, Taken, Verdict
from vdscheck.plan import Judge

V = TypeVar("V")

_DECIDING = {
    Sysctls: "the settings of the running kernel",
    BootTruth: "what the settings will be after the next boot",
    KernelOwner: "whose kernel this is",
    NodeAgents: "whether this is a Kubernetes node, whose agents set some keys",
}
"""What decides of every key whether it is set, and to what."""
_NOT_READ = (Reason.TIMEOUT, Reason.PERMISSION, Reason.ERROR, Reason.UNREACHABLE)
"""Why a key that there is has no value. A kernel that does not have it was seen (unsupported)."""


def unseen(catalogue: Catalogue, judge: Judge, measurements: Measurements, *, live: bool) -> tuple[LeftAlone, ...]:
    """What was not measured of the settings that the selected checks judge, each with why.

    A measurement goes by the id of its probe, a single setting by its key.
    """
    consulted = _Consulted()
    judged = judge({name: consulted.watched(taken) for name, taken in measurements.items()})
    applying = {finding.id for finding in judged.findings if finding.verdict is not Verdict.NOT_APPLICABLE}
    kinds = [kind for each in sorted(applying) for kind in catalogue.checks[each].measurement_types]
    if not any(kind in held.EVERY_SETTING for kind in kinds):
        return ()
    needed = [*_DECIDING, *(kind for kind in kinds if kind in held.SETTINGS)]
    missing = [*_measurements(catalogue, needed, measurements, live=live)]
    return (*missing, *consulted.keys_not_read(live=live))


def unread(judge: Judge, measurements: Measurements, changed: Collection[str]) -> tuple[LeftAlone, ...]:
    """The judged settings that are not to be changed, and whose next value a file decides that could not be read."""
    boot = next((taken.value for taken in measurements.values() if isinstance(taken.value, BootTruth)), None)
    if boot is None or all(each.origin != "unread" for each in boot.keys.values()):
        return ()
    looked_up: dict[str, None] = {}
    watched = replace(boot, keys=_Watched(boot.keys, looked_up))
    judge({name: replace(each, value=watched) if each.value is boot else each for name, each in measurements.items()})
    found = {key: boot.keys[key] for key in sorted(looked_up) if key in boot.keys and key not in changed}
    return tuple(
        LeftAlone(key, f"what it will be after the next boot could not be seen: {each.where}")
        for key, each in found.items()
        if each.origin == "unread"
    )


def probes_of(catalogue: Catalogue, found: tuple[LeftAlone, ...]) -> set[str]:
    """The probes that may see it when they look again."""
    names = {each.key for each in found if each.key in catalogue.probes}
    return names if len(names) == len(found) else {*names, catalogue.by_type[Sysctls].probe.id}


def _measurements(
    catalogue: Catalogue, kinds: list[Any], measurements: Measurements, *, live: bool
) -> Iterator[LeftAlone]:
    for kind in dict.fromkeys(kinds):
        name = catalogue.by_type[kind].probe.id
        taken = measurements.get(name)
        absent = None if taken is None else taken.absent
        if taken is not None and (absent is None or absent.kind == "not-applicable"):
            continue
        if absent is not None and absent.reason is Reason.NOT_RUN and not live:
            continue  # an image has no running kernel, and needs none
        why = "it was not measured" if absent is None else absent.detail
        yield LeftAlone(name, f"{_DECIDING.get(kind, name)} could not be seen: {why}")


class _Consulted:
    """Notes which settings the checks look up: the settings themselves say which, so that no list has to."""

    def __init__(self) -> None:
        self._keys: dict[str, None] = {}
        self._kernel: Sysctls | None = None

    def watched(self, taken: Taken) -> Taken:
        """A measurement, with its settings under observation where it has any."""
        if not isinstance(taken.value, Sysctls):
            return taken
        self._kernel = taken.value
        return replace(taken, value=replace(taken.value, values=_Watched(taken.value.values, self._keys)))

    def keys_not_read(self, *, live: bool) -> Iterator[LeftAlone]:
        """The settings that were looked up and have no value, though the kernel has them."""
        kernel = self._kernel
        if kernel is None:
            return
        if live and not kernel.values:
            yield LeftAlone("/proc/sys", "not one kernel setting can be read there: is /proc mounted?")
            return
        for key in self._keys:
            absent: Absent | None = kernel.missing.get(key)
            if absent is not None and absent.reason in _NOT_READ:
                yield LeftAlone(key, f"it could not be seen: {absent.detail}")


class _Watched(dict[str, V]):
    """Settings that note what is looked up in them."""

    def __init__(self, values: Mapping[str, V], asked: dict[str, None]) -> None:
        super().__init__(values)
        self._asked = asked

    def __contains__(self, key: object) -> bool:
        self._note(key)
        return super().__contains__(key)

    def __getitem__(self, key: str) -> V:
        self._note(key)
        return super().__getitem__(key)

    def get(self, key: str, default: Any = None) -> Any:  # noqa: ANN401 - the signature of dict
        """The value of a key."""
        self._note(key)
        return super().get(key, default)

    def _note(self, key: object) -> None:
        if isinstance(key, str):
            self._asked[key] = None
