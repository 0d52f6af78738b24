"""Which nodes the scheduler would take for a pod: selector, required affinity, taints, cordons, room.

https://kubernetes.io/docs/concepts/scheduling-eviction/assign-pod-node/
https://kubernetes.io/docs/concepts/scheduling-eviction/taint-and-toleration/
"""

import re
from collections.abc import Iterable, Mapping

from vdscheck.measurements.cluster import (
    ClusterNodes,
    Node,
    NodeTerm,
    NodeUse,
    PodTemplate,
    Requirement,
    Taint,
    Toleration,
)
from vdscheck.plugin import counted, frozen, spoken

UNSCHEDULABLE = Taint(key="node.kubernetes.io/unschedulable", value="", effect="NoSchedule")
"""The taint that a cordon is."""
NAMED = 3
"""How many of many are named."""
USUAL_LINES = 100
"""Lines of selectors, terms and tolerations that a pod may have without being counted."""
COMPARISONS_LIMIT = 2_000_000
"""Of such lines with nodes, for all pods that have more together: some seconds, which is what a check has."""
_INTEGER = re.compile(r"[+-]?[0-9]{1,19}")


def holds(line: Requirement, labels: Mapping[str, str]) -> bool:
    """Whether one line of a term holds for some labels; what is written wrongly holds for none."""
    value = labels.get(line.key)
    match line.operator:
        case "In":
            return value is not None and value in line.values
        case "NotIn":
            return value is None or value not in line.values
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
        case "Gt" | "Lt":
            return value is not None and _beyond(value, line)
        case _:
            return False


def _beyond(value: str, line: Requirement) -> bool:
    if len(line.values) != 1 or not _INTEGER.fullmatch(value) or not _INTEGER.fullmatch(line.values[0]):
        return False
    there, limit = int(value), int(line.values[0])
    return there > limit if line.operator == "Gt" else there < limit


def _lines(template: PodTemplate) -> int:
    """How much is compared with a node, at the most."""
    terms = (line for term in template.affinity or () for line in (*term.labels, *term.fields))
    return len(template.node_selector) + len(template.tolerations) + sum(1 + len(line.values) for line in terms)


def term_matches(term: NodeTerm, node: Node) -> bool:
    """Whether all lines of a term hold; a term without lines matches no node."""
    if not term.labels and not term.fields:
        return False
    named = {"metadata.name": node.name}
    fields = all(line.operator in ("In", "NotIn") and line.key in named and holds(line, named) for line in term.fields)
    return fields and all(holds(line, node.labels) for line in term.labels)


def selects(template: PodTemplate, node: Node) -> bool:
    """Whether nodeSelector and required affinity, both, match a node."""
    if any(node.labels.get(key) != value for key, value in template.node_selector.items()):
        return False
    return template.affinity is None or any(term_matches(term, node) for term in template.affinity)


def tolerates(toleration: Toleration, taint: Taint) -> bool:
    """Whether a toleration bears a taint."""
    if toleration.effect and toleration.effect != taint.effect:
        return False
    if toleration.key and toleration.key != taint.key:
        return False
    if toleration.operator == "Exists":
        return True
    return bool(toleration.key) and toleration.operator == "Equal" and toleration.value == taint.value


def barring(tolerations: Iterable[Toleration], node: Node) -> list[Taint]:
    """The taints of a node that keep a pod off it; PreferNoSchedule does not."""
    borne = tuple(tolerations)
    taints = list(node.taints)
    if node.cordoned and all(each.key != UNSCHEDULABLE.key for each in taints):
        taints.append(UNSCHEDULABLE)
    return [
        taint
        for taint in taints
        if taint.effect in ("NoSchedule", "NoExecute") and not any(tolerates(each, taint) for each in borne)
    ]


def free(node: Node, use: NodeUse | None) -> dict[str, int]:
    """What is left of a node's allocatable, by resource, with `pods` among them."""
    used = {} if use is None else use.requests
    left = {name: amount - used.get(name, 0) for name, amount in node.allocatable.stated.items()}
    if node.most_pods is not None:
        left["pods"] = node.most_pods - (0 if use is None else use.pods)
    return left


def holds_how_many(wanted: Mapping[str, int], left: Mapping[str, int]) -> int:
    """How many pods that request this a node has room for."""
    parts = [max(0, left.get(name, 0)) // amount for name, amount in wanted.items() if amount > 0]
    return min([*parts, max(0, left.get("pods", 0))])


@frozen
class Fit:
    """What is left of the nodes, rule by rule."""

    nodes: int
    selected: tuple[Node, ...]
    """By selector and affinity."""
    allowed: tuple[Node, ...]
    """Of these, without a taint or a cordon that is not borne."""
    ready: tuple[Node, ...]
    """Of these."""

    @property
    def why_none(self) -> str:
        """Why no node is left, before room is looked at."""
        if not self.nodes:
            return "the cluster has no node"
        if not self.selected:
            return f"none of {counted(self.nodes, 'node')} matches"
        if not self.allowed:
            return f"{match(len(self.selected))}, and {_taints_in_words(self.selected)}"
        return f"{match(len(self.selected))}, and none that may be used is ready"


def some(names: Iterable[str]) -> str:
    """`a, b, c and 12 others`."""
    every = list(names)
    more = f" and {counted(len(every) - NAMED, 'other')}" if len(every) > NAMED else ""
    return f"{', '.join(every[:NAMED])}{more}"


def match(number: int, noun: str = "node") -> str:
    """`1 node matches`, `300 nodes match`."""
    return f"{counted(number, noun)} {'matches' if number == 1 else 'match'}"


def _taints_in_words(nodes: tuple[Node, ...]) -> str:
    cordoned = sum(node.cordoned for node in nodes)
    if cordoned == len(nodes):
        return "it is cordoned" if len(nodes) == 1 else "all are cordoned"
    seen = dict.fromkeys(taint.in_words for node in nodes for taint in node.taints)
    listed = ", ".join(list(seen)[:NAMED])
    return f"{'it is' if len(nodes) == 1 else 'all are'} tainted ({listed}), which the pod does not tolerate"


class Scheduler:
    """The nodes of a cluster and what is used of them; the nodes of each set of wishes are found once."""

    def __init__(self, nodes: ClusterNodes, use: Iterable[NodeUse] | None) -> None:
        self._nodes = nodes.nodes
        self.knows_use = use is not None
        """Whether what is free on the nodes is known."""
        self._use = {each.name: each for each in use or ()}
        self._found: dict[str, Fit] = {}
        self._left_to_compare = COMPARISONS_LIMIT
        self._free: dict[str, dict[str, int]] = {}

    @property
    def nodes(self) -> int:
        """How many there are."""
        return len(self._nodes)

    def fit(self, template: PodTemplate) -> Fit | None:
        """The nodes that a pod may go to; None where it has so many wishes that no time would be left for others."""
        wishes = repr((sorted(template.node_selector.items()), template.affinity, template.tolerations))
        if wishes not in self._found:
            lines = _lines(template)
            if lines > USUAL_LINES:
                self._left_to_compare -= lines * len(self._nodes)
                if self._left_to_compare < 0:
                    return None
            selected = tuple(node for node in self._nodes if selects(template, node))
            allowed = tuple(node for node in selected if not barring(template.tolerations, node))
            ready = tuple(node for node in allowed if node.ready)
            self._found[wishes] = Fit(len(self._nodes), selected, allowed, ready)
        return self._found[wishes]

    def room(self, template: PodTemplate, nodes: Iterable[Node], enough: int) -> int:
        """For how many of the pods these nodes have room; counted until there is enough."""
        wanted, total = template.requests.stated, 0
        for node in nodes:
            total += holds_how_many(wanted, self._left(node))
            if total >= enough:
                break
        return total

    def fullest_in_words(self, template: PodTemplate, nodes: Iterable[Node]) -> str:
        """The most that any of the nodes has free of each resource that a pod requests."""
        here = [self._left(node) for node in nodes]
        parts = []
        for name, amount in template.requests.stated.items():
            most = max((left.get(name, 0) for left in here), default=0)
            if amount > most:
                parts.append(f"{in_unit(name, amount)} wanted, at most {in_unit(name, max(0, most))} free")
        return "; ".join(parts) or "no node has enough of all that it requests, or may take another pod"

    def _left(self, node: Node) -> dict[str, int]:
        if node.name not in self._free:
            self._free[node.name] = free(node, self._use.get(node.name))
        return self._free[node.name]


def in_unit(name: str, amount: int) -> str:
    """An amount of a resource as people say it: `1.5 CPU`, `2 GiB`."""
    if name == "cpu":
        return f"{spoken(amount / 1000)} CPU"
    if name in ("memory", "ephemeral-storage") or name.startswith("hugepages-"):
        size, unit = float(amount), "B"
        for larger in ("KiB", "MiB", "GiB", "TiB"):
            if size < 1024:  # noqa: PLR2004 - the next unit
                break
            size, unit = size / 1024, larger
        return f"{spoken(round(size, 1))} {unit}{'' if name == 'memory' else f' {name}'}"
    return f"{spoken(amount)} {name}"
