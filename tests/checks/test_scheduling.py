"""The scheduler's rules, against what its documentation says of them."""

import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.making import amounts, inventory, node, template
from vdscheck.catalogue.catalogue import load
from vdscheck.measurements.cluster import NodeTerm, NodeUse, Requirement, Taint, Toleration

load()
SCHEDULING: ModuleType = sys.modules["vdscheck_checks.cluster.scheduling"]


def line(key: str, operator: str, *values: str) -> Requirement:
    return Requirement(key=key, operator=operator, values=values)


def term(*labels: Requirement, fields: Sequence[Requirement] = ()) -> NodeTerm:
    return NodeTerm(labels=labels, fields=tuple(fields))


@pytest.mark.parametrize(
    ("requirement", "labels", "expected"),
    [
        (line("a", "In", "1", "2"), {"a": "2"}, True),
        (line("a", "In", "1", "2"), {"a": "3"}, False),
        (line("a", "In", "1"), {}, False),
        (line("a", "NotIn", "1"), {"a": "2"}, True),
        (line("a", "NotIn", "1"), {"a": "1"}, False),
        (line("a", "NotIn", "1"), {}, True),
        (line("a", "Exists"), {"a": ""}, True),
        (line("a", "Exists"), {"b": ""}, False),
        (line("a", "DoesNotExist"), {"b": ""}, True),
        (line("a", "DoesNotExist"), {"a": ""}, False),
        (line("a", "Gt", "5"), {"a": "6"}, True),
        (line("a", "Gt", "5"), {"a": "5"}, False),
        (line("a", "Gt", "5"), {"a": "x"}, False),
        (line("a", "Gt", "x"), {"a": "5"}, False),
        (line("a", "Gt", "1", "2"), {"a": "5"}, False),
        (line("a", "Gt", "5"), {}, False),
        (line("a", "Lt", "5"), {"a": "-4"}, True),
        (line("a", "Lt", "5"), {"a": "5"}, False),
        (line("a", "Like", "5"), {"a": "5"}, False),
    ],
)
def test_an_operator_means_what_the_documentation_says(
    requirement: Requirement, labels: dict[str, str], *, expected: bool
) -> None:
    assert SCHEDULING.holds(requirement, labels) is expected


@pytest.mark.parametrize(
    ("wishes", "labels", "expected"),
    [
        ({}, {}, True),
        ({"node_selector": {"a": "1"}}, {"a": "1"}, True),
        ({"node_selector": {"a": "1", "b": "1"}}, {"a": "1"}, False),
        ({"affinity": (term(line("a", "Exists")), term(line("b", "Exists")))}, {"b": "1"}, True),
        ({"affinity": (term(line("a", "Exists"), line("b", "Exists")),)}, {"b": "1"}, False),
        ({"affinity": (term(),)}, {"a": "1"}, False),
        ({"affinity": ()}, {"a": "1"}, False),
        ({"affinity": (term(fields=[line("metadata.name", "In", "n1")]),)}, {}, True),
        ({"affinity": (term(fields=[line("metadata.name", "NotIn", "n1")]),)}, {}, False),
        ({"affinity": (term(fields=[line("metadata.name", "Exists")]),)}, {}, False),
        ({"affinity": (term(fields=[line("metadata.uid", "In", "n1")]),)}, {}, False),
        ({"node_selector": {"a": "1"}, "affinity": (term(line("b", "Exists")),)}, {"a": "1"}, False),
    ],
)
def test_selector_and_terms_select(wishes: dict[str, Any], labels: dict[str, str], *, expected: bool) -> None:
    assert SCHEDULING.selects(template(**wishes), node(labels=labels)) is expected


def bears(key: str | None, operator: str = "Equal", value: str = "", effect: str | None = None) -> Toleration:
    return Toleration(key=key, operator=operator, value=value, effect=effect)


GPU = Taint(key="gpu", value="yes", effect="NoSchedule")


@pytest.mark.parametrize(
    ("toleration", "expected"),
    [
        (bears("gpu", value="yes"), True),
        (bears("gpu", value="no"), False),
        (bears("gpu", "Exists"), True),
        (bears(None, "Exists"), True),
        (bears(None, "Equal", "yes"), False),
        (bears("gpu", "Exists", effect="NoExecute"), False),
        (bears("gpu", "Exists", effect="NoSchedule"), True),
        (bears("other", "Exists"), False),
        (bears("gpu", "Like", "yes"), False),
    ],
)
def test_a_toleration_bears_a_taint_or_not(toleration: Toleration, *, expected: bool) -> None:
    assert SCHEDULING.tolerates(toleration, GPU) is expected


@pytest.mark.parametrize(
    ("of_node", "tolerations", "barred"),
    [
        ({}, (), 0),
        ({"taints": (GPU,)}, (), 1),
        ({"taints": (GPU,)}, (bears("gpu", "Exists"),), 0),
        ({"taints": (Taint(key="a", value="", effect="PreferNoSchedule"),)}, (), 0),
        ({"taints": (Taint(key="a", value="", effect="NoExecute"),)}, (), 1),
        ({"cordoned": True}, (), 1),
        ({"cordoned": True, "taints": (SCHEDULING.UNSCHEDULABLE,)}, (), 1),
        ({"cordoned": True}, (bears("node.kubernetes.io/unschedulable", "Exists", effect="NoSchedule"),), 0),
    ],
)
def test_taints_and_cordons_bar(of_node: dict[str, Any], tolerations: tuple[Toleration, ...], barred: int) -> None:
    assert len(SCHEDULING.barring(tolerations, node(**of_node))) == barred


def test_only_a_ready_node_counts_and_why_none_does_is_said() -> None:
    wanted = template(node_selector={"disk": "nvme"})
    nvme = {"disk": "nvme"}
    cases = [
        ([], "the cluster has no node"),
        ([node()], "none of 1 node matches"),
        ([node(labels=nvme, cordoned=True)], "1 node matches, and it is cordoned"),
        (
            [node(labels=nvme, taints=(GPU,)), node("n2", labels=nvme, taints=(GPU,))],
            "2 nodes match, and all are tainted (gpu=yes:NoSchedule), which the pod does not tolerate",
        ),
        (
            [node(labels=nvme, ready=False), node("n2", labels=nvme, ready=None)],
            "2 nodes match, and none that may be used is ready",
        ),
    ]
    for nodes, said in cases:
        fit = SCHEDULING.Scheduler(inventory(*nodes), ()).fit(wanted)
        assert (fit.ready, fit.why_none) == ((), said)


def test_a_pod_with_thousands_of_wishes_takes_no_time_from_the_others() -> None:
    """It is the one that is not compared: all that has as many wishes as people write is, however many there are."""
    nodes = [node(f"n{number}") for number in range(300)]
    scheduler = SCHEDULING.Scheduler(inventory(*nodes), ())
    assert scheduler.fit(template(affinity=(term(line("a", "Exists")),) * 25_000)) is None
    for number in range(30):
        wanted = template(node_selector={f"k{each}": f"{number}" for each in range(90)})
        assert scheduler.fit(wanted) is not None


@pytest.mark.parametrize(
    ("requests", "of_node", "use", "room"),
    [
        (amounts(1000), {}, None, 4),
        (amounts(1000), {}, NodeUse(name="n1", pods=1, requests={"cpu": 500}), 3),
        (amounts(1000), {}, NodeUse(name="n1", pods=1, requests={"cpu": 5000}), 0),
        (amounts(0), {}, None, 110),
        (amounts(), {"most_pods": 1}, NodeUse(name="n1", pods=1, requests={}), 0),
        (amounts(gpu=1), {}, None, 0),
        (amounts(gpu=1), {"allocatable": amounts(1, 1, gpu=2)}, None, 2),
        (amounts(), {"most_pods": None}, None, 0),
        (amounts(1), {"allocatable": amounts(), "most_pods": None}, None, 0),
    ],
)
def test_room_is_what_is_left_of_allocatable(
    requests: Any, of_node: dict[str, Any], use: NodeUse | None, room: int
) -> None:
    one = node(**of_node)
    scheduler = SCHEDULING.Scheduler(inventory(one), [use] if use else [])
    assert scheduler.room(template(requests=requests), [one], 1000) == room


labels = st.dictionaries(st.sampled_from("abc"), st.sampled_from(["", "1", "2", "-3", "x"]), max_size=3)
requirements = st.builds(
    Requirement,
    key=st.sampled_from("abc"),
    operator=st.sampled_from(["In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"]),
    values=st.lists(st.sampled_from(["1", "2", "x"]), max_size=2).map(tuple),
)


@given(requirements, labels)
def test_each_operator_has_its_opposite(requirement: Requirement, found: dict[str, str]) -> None:
    opposite = {"In": "NotIn", "Exists": "DoesNotExist"}.get(requirement.operator)
    if opposite is not None:
        other = Requirement(key=requirement.key, operator=opposite, values=requirement.values)
        assert SCHEDULING.holds(requirement, found) is not SCHEDULING.holds(other, found)


@given(st.lists(requirements, min_size=1, max_size=3), requirements, labels)
def test_one_more_line_never_selects_more(lines: list[Requirement], more: Requirement, found: dict[str, str]) -> None:
    one = node(labels=found)
    assert SCHEDULING.term_matches(term(*lines), one) or not SCHEDULING.term_matches(term(*lines, more), one)


@given(
    st.lists(
        st.builds(
            Taint, key=st.sampled_from("ab"), value=st.sampled_from("12"), effect=st.sampled_from(["NoSchedule", "x"])
        ),
        max_size=3,
    ),
    st.lists(
        st.builds(
            Toleration,
            key=st.none() | st.sampled_from("ab"),
            operator=st.sampled_from(["Equal", "Exists"]),
            value=st.sampled_from("12"),
            effect=st.none() | st.just("NoSchedule"),
        ),
        max_size=3,
    ),
)
def test_one_more_toleration_never_bars_more(taints: list[Taint], tolerations: list[Toleration]) -> None:
    one = node(taints=tuple(taints))
    counts = [len(SCHEDULING.barring(tolerations[:number], one)) for number in range(len(tolerations) + 1)]
    assert counts == sorted(counts, reverse=True)


@pytest.mark.parametrize(
    ("count", "said"),
    [(1, "n0"), (3, "n0, n1, n2"), (4, "n0, n1, n2 and 1 other"), (1003, "n0, n1, n2 and 1,000 others")],
)
def test_of_many_names_three_are_said_and_the_others_counted(count: int, said: str) -> None:
    assert SCHEDULING.some(f"n{number}" for number in range(count)) == said
