"""What missing answers of a hop mean: pure, over counts."""

from collections.abc import Sequence
from typing import NamedTuple

from vdscheck.measurements.path import LossKind
from vdscheck.plugin import difference_of_proportions, proportion

_PLAIN = 0.05
"""House: before the first hop there is nothing to compare with, so only loss that is at least this is called so."""


class Count(NamedTuple):
    """So many of so many were answered."""

    sent: int
    received: int

    @property
    def lost(self) -> int:
        """Those that were not."""
        return self.sent - self.received


def _more(first: Count, second: Count, *, comparisons: int = 1) -> bool:
    """Whether the first lost a larger share, by more than chance where so many pairs are asked about."""
    if not first.sent or not second.sent:
        return False
    pair = (first.lost, first.sent), (second.lost, second.sent)
    return difference_of_proportions(*pair, comparisons=comparisons).low > 0


def _together(counts: Sequence[Count]) -> Count:
    return Count(sum(each.sent for each in counts), sum(each.received for each in counts))


def classified(hops: Sequence[Count], destination: Count | None) -> list[LossKind | None]:
    """What the loss at each hop is; `destination` is what the target itself was asked, where it answers at all.

    A packet that is lost on the way to a hop is lost to all hops behind it. So where a hop behind, or the
    destination, answers more, by more than chance, the hop only limits its own answers. Where it does not,
    the loss is on the way here only if the hops before lose less, by more than chance. A long way has many
    pairs of hops, so chance is that of all of them together.
    """
    found: list[LossKind | None] = []
    clean: list[Count] = []
    behind = [_answering((*hops[number + 1 :], destination)) for number in range(len(hops))]
    pairs = sum(len(others) for hop, others in zip(hops, behind, strict=True) if hop.lost and hop.received)
    for hop, others in zip(hops, behind, strict=True):
        kind = _kind(hop, clean, others, destination, pairs)
        found.append(kind)
        if kind in (None, "undecided") and hop.sent:
            clean.append(hop)
    return found


def _answering(counts: Sequence[Count | None]) -> list[Count]:
    return [each for each in counts if each is not None and each.received]


def _kind(
    hop: Count, before: Sequence[Count], behind: Sequence[Count], destination: Count | None, pairs: int
) -> LossKind | None:
    if not hop.sent or not hop.lost:
        return None
    if not hop.received:
        return "silent"
    if any(_more(hop, each, comparisons=pairs) for each in behind):
        return "control-plane"
    if destination is None or not destination.received or not destination.lost:
        return "undecided"
    return "path" if _is_on_the_way(hop, _together(before), destination) else "undecided"


def _is_on_the_way(hop: Count, before: Count, destination: Count) -> bool:
    """Whether what is lost at a hop is what the destination loses, and is not lost before already."""
    share = proportion(destination.lost, destination.sent)
    if proportion(hop.lost, hop.sent).low > share.value:
        return False
    if not before.sent:
        return share.low > _PLAIN
    return _more(destination, before) and _more(hop, before)
