"""Fixes: what a finding proposes, and what was done."""

from typing import Literal

from vdscheck.model.records import frozen, named


@frozen
class SettingFix:
    """A proposed change that the tool can make itself: a setting of some kind, now and at every boot."""

    kind: str
    """The name of the kind of fix that sets it."""
    key: str
    value: str
    before: str | None
    """The value that it replaces; None where the key could not be read."""
    at_boot: bool = True
    """False where the next boot gives this value already, so that only the running system lacks it."""


@frozen
class ByHand:
    """A proposed change that only a person can make, with the commands for it, if there are any."""

    summary: str
    commands: tuple[str, ...] = ()
    undo: tuple[str, ...] = ()
    setting: SettingFix | None = None
    """What is to be set: its own commands follow these."""


@frozen
class FixNote:
    """A fix as the report tells it: what would be done by hand, and how to take it back."""

    id: str
    safe: bool
    """Whether the tool itself may do it."""
    summary: str
    commands: tuple[str, ...]
    undo: tuple[str, ...]


@frozen
class FixChange:
    """One setting that `--fix` sets, or would set."""

    kind: str
    """What it is a setting of, such as `sysctl`."""
    key: str
    file: str | None
    """The file that sets it at every boot; None where the next boot gives the wanted value already."""
    before: str | None
    """None where no running system is examined."""
    at_boot: str | None
    """What the next boot gave before the change; None where that is not known."""
    wanted: str
    after: str | None
    """What was read in the end; None where nothing was set."""
    outcome: Literal["planned", "applied", "given-back", "left"]
    """`left`: somebody else changed it meanwhile, so it was not given back."""
    why: str
    """The findings that want it, and on whose authority."""
    may_restart: tuple[str, ...]
    """Services that may profit from a restart, as they keep what they got when they began to listen."""


@frozen
class LeftAlone:
    """A setting that `--fix` does not set although a finding asks for it."""

    key: str
    why: str


@named
class FixRecord:
    """What `--fix` did, or would do."""

    id: str | None
    """The journal entry; None where nothing was written."""
    outcome: Literal["applied", "planned", "nothing-to-do", "undecided", "declined", "refused", "given-back"]
    """`undecided`: not all settings could be seen, so nothing was changed; `left_alone` names them."""
    detail: str
    """Why it came so, where that is not plain; else empty."""
    score_before: int | None
    score_promised: int | None
    """The score that the plan leads to if nothing else changes."""
    changes: tuple[FixChange, ...]
    left_alone: tuple[LeftAlone, ...]
