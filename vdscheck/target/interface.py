"""What is examined, as the engine sees it."""

from typing import ClassVar, Literal, Protocol

TargetKind = Literal["host", "cluster"]


class Target(Protocol):
    """What the engine knows of whatever is examined: the rest is between it and its probes."""

    target_kind: ClassVar[TargetKind]

    @property
    def live(self) -> bool:
        """Whether it runs."""

    @property
    def root(self) -> str:
        """Where its files are."""

    @property
    def descriptors(self) -> tuple[int, ...]:
        """What a process that examines it must keep open."""
