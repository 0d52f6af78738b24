"""A kind of fix: settings that an area reads, sets, persists, foresees for the next boot, and restores.

`fix/` carries out plans of any kind: it knows no kernel setting and no file. What is a function of measurements is
pure here as well, so that a plan can be made from a saved report.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, TypeVar

from vdscheck.model.fixes import FixChange, LeftAlone, SettingFix
from vdscheck.model.records import frozen
from vdscheck.model.report import Measurements
from vdscheck.target.host import Host

T = TypeVar("T")


@frozen
class Surroundings:
    """The measurements that bear on a plan, each as it was taken."""

    measurements: Measurements
    image: bool
    """Whether there is no running system to set."""

    def of(self, kind: type[T]) -> T | None:
        """The measurement of a type; None where it is absent."""
        return next((taken.value for taken in self.measurements.values() if isinstance(taken.value, kind)), None)


@frozen
class Restored:
    """The content of a file without what was put in; None where nothing is left of the file."""

    content: bytes | None
    kept: tuple[str, ...]
    """The keys whose lines somebody changed since: they stay."""


@frozen
class AtBoot:
    """What a setting will be after the next boot, and what decides that."""

    value: str | None
    where: str


class FixKind(ABC):
    """One kind of setting, and all that a fix and an undo need to know of it."""

    name: ClassVar[str]
    """In reports and journal entries."""
    key_pattern: ClassVar[str]
    """What a key looks like, as a regular expression for all of it."""
    file: ClassVar[str]
    """The one file in which settings are persisted."""
    boot: ClassVar[type]
    """The measurement that says what the settings will be after the next boot."""
    deciding: ClassVar[Mapping[type, str]]
    """The measurements that decide of every setting whether it is set, and to what; each in words."""
    beside: ClassVar[tuple[type, ...]] = ()
    """Further measurements that a plan makes use of, where they are there."""
    whole: ClassVar[tuple[type, ...]]
    """The measurements that hold every setting and nothing else; the first holds them as they are now."""
    single: ClassVar[tuple[type, ...]] = ()
    """The measurements that hold one setting beside what a change of it cannot move."""
    page_fix: ClassVar[tuple[str, ...]]
    """How it is done by hand, for any check (`{check}`)."""
    page_undo: ClassVar[tuple[str, ...]]

    # For people

    @abstractmethod
    def summary(self, setting: SettingFix) -> str:
        """What a proposed change does."""

    @abstractmethod
    def commands(self, setting: SettingFix) -> tuple[str, ...]:
        """The same by hand."""

    @abstractmethod
    def undo(self, setting: SettingFix) -> tuple[str, ...]:
        """What takes it back by hand."""

    # A plan

    @abstractmethod
    def same(self, first: str | None, second: str | None) -> bool:
        """Whether two values are the same to the system; nothing is the same as None."""

    @abstractmethod
    def now(self, key: str, here: Surroundings) -> str | None:
        """A setting as it was measured; None where nothing runs, or it was not seen."""

    @abstractmethod
    def why_not(self, key: str, here: Surroundings) -> str | None:
        """Why a setting is not ours to set, whatever its value; None where it is."""

    @abstractmethod
    def lasts(self, key: str, wanted: str, boot: Any) -> str | None:  # noqa: ANN401 - of the type `boot`
        """Why a setting will not be what is wanted after that next boot; None where it will. `boot` None: not known."""

    @abstractmethod
    def at_boot(self, key: str, boot: Any) -> AtBoot | None:  # noqa: ANN401 - the same
        """What that next boot makes of a setting; None where it is not among those looked at."""

    @abstractmethod
    def foreseen(self, before: Any, after: Any, keys: Collection[str]) -> Any:  # noqa: ANN401 - the same
        """The next boot as foreseen for these settings, and for all others as it was."""

    @abstractmethod
    def supposed(self, here: Measurements, values: Mapping[str, str], boot: Any) -> Measurements:  # noqa: ANN401
        """The measurements as they would be with these values now, and with that next boot (None: as it is)."""

    @abstractmethod
    def moved(self, before: Measurements, after: Measurements, keys: Collection[str]) -> Measurements:
        """Earlier measurements, with what a change of these settings can have moved as it was found after it."""

    @abstractmethod
    def holds(self, measurement: type, keys: Collection[str]) -> bool:
        """Whether a measurement of that type holds one of these settings."""

    def may_restart(self, key: str, here: Surroundings) -> tuple[str, ...]:
        """Services that profit from a change of a setting only after a restart."""
        del key, here
        return ()

    # What could not be seen

    # Where a measurement is there or not as a whole, these have nothing to add.

    def watched(self, here: Measurements, now: dict[str, None], at_boot: dict[str, None]) -> Measurements:
        """The measurements, noting which settings are looked up in them: now, and after the next boot."""
        del now, at_boot
        return here

    def not_read(self, keys: Iterable[str], here: Measurements, *, live: bool) -> Iterator[LeftAlone]:
        """Of the settings that were looked up those that the system has and that could not be read."""
        del keys, here, live
        return iter(())

    def not_foreseen(self, keys: Iterable[str] | None, here: Measurements) -> Iterator[LeftAlone]:
        """Of these settings (None: of all) those that something decides at boot which could not be read."""
        del keys, here
        return iter(())

    # The file

    @abstractmethod
    def merged(self, content: bytes | None, settings: Mapping[str, str]) -> bytes:
        """The content of the file with these settings; None is no file."""

    @abstractmethod
    def restored(self, now: bytes | None, before: bytes | None, after: bytes) -> Restored:
        """What the content was before, three-way: what was added or changed since it was written (`after`) stays."""

    @abstractmethod
    def says(self, content: bytes | None, keys: Iterable[str]) -> dict[str, str]:
        """What the content sets these keys to."""

    def hidden_by(self, host: Host) -> str | None:
        """Which file the file of this kind, made anew, would keep from being applied at boot; None where none."""
        del host
        return None

    # A plan as a shell script

    @abstractmethod
    def script_checks(self, changes: Sequence[FixChange]) -> list[str]:
        """Lines of POSIX shell that end the script with 3 where something is not as it was when the plan was made."""

    @abstractmethod
    def script_sets(self, changes: Sequence[FixChange], comment: Callable[[str], list[str]]) -> list[str]:
        """Lines that set and persist them; `comment` makes a text from outside a comment."""

    @abstractmethod
    def script_undoes(self, changes: Sequence[FixChange]) -> list[str]:
        """Lines that take them back, by hand."""

    # The running system

    @abstractmethod
    def path(self, key: str) -> str:
        """Where a setting is written to."""

    @abstractmethod
    def seen(self, key: str) -> str | None:
        """A setting of the running system; None only where there is none. Raises OSError where it cannot be read."""

    @abstractmethod
    def write(self, key: str, value: str) -> None:
        """Set it. Raises OSError."""

    def moves(self, key: str, value: str) -> Mapping[str, str]:
        """What else the system changes when a setting is written: the keys, each with what it becomes.

        Raises OSError where that cannot be seen.
        """
        del key, value
        return {}

    def moved_at_boot(self, key: str, host: Host) -> str | None:
        """What the files set a key to at boot that another one moves; None where none does.

        Raises OSError where that cannot be told, with what keeps it from that.
        """
        del key, host
        return None

    def is_of_a_namespace(self, key: str) -> bool:
        """Whether each network namespace has this setting for itself."""
        del key
        return False

    def read(self, key: str) -> str | None:
        """A setting; None where there is none, or it cannot be read."""
        try:
            return self.seen(key)
        except OSError:
            return None
