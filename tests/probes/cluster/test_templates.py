"""What a pod asks for and which paths it names: as the plain formulas say it, and at any size within its time."""

import string

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.making import workload
from vdscheck.codec import encode
from vdscheck.measurements.cluster import Mount, Workload
from vdscheck.probes.cluster import templates, workloads
from vdscheck.probes.cluster.objects import Pod, PodSpec
from vdscheck.probes.cluster.quantity import resources
from vdscheck.probes.cluster.templates import requested, template

NAMES = ["cpu", "memory", "example.org/a", "example.org/b"]
AMOUNTS = st.dictionaries(st.sampled_from(NAMES), st.sampled_from(["0", "1", "250m", "3", "9223372036854775807"]))


def spec(**fields: object) -> PodSpec:
    return msgspec.convert(fields, PodSpec)


def containers(sidecars: bool) -> st.SearchStrategy[list[dict[str, object]]]:  # noqa: FBT001
    asked = AMOUNTS.map(lambda requests: {"requests": requests})
    policies = st.sampled_from(["Always", None]) if sidecars else st.none()
    made = st.builds(lambda policy, resources: {"restartPolicy": policy, "resources": resources}, policies, asked)
    named = made.map(lambda each: {"name": "c", "image": "i", **{key: to for key, to in each.items() if to}})
    return st.lists(named, max_size=5)


def total(*parts: dict[str, int]) -> dict[str, int]:
    most = 2**63 - 1
    names = {name for part in parts for name in part}
    return {name: min(most, sum(part.get(name, 0) for part in parts)) for name in names}


def most_of(*parts: dict[str, int]) -> dict[str, int]:
    return {name: max(part.get(name, 0) for part in parts) for name in {name for part in parts for name in part}}


@given(containers(sidecars=True), containers(sidecars=False), AMOUNTS)
def test_a_pod_asks_for_what_the_formula_of_its_documentation_says(
    init: list[dict[str, object]], main: list[dict[str, object]], overhead: dict[str, str]
) -> None:
    """With all sums made anew at each container, as the page on sidecar containers writes them."""
    pod = spec(initContainers=init, containers=main, overhead=overhead)
    asked = [templates._requests(each).stated for each in [*(pod.init_containers or []), *(pod.containers or [])]]
    stays = [each.get("restartPolicy") == "Always" for each in init]
    own = [each for each, lasts in zip(asked, stays, strict=False) if lasts]
    peaks = [
        total(*(asked[one] for one in range(at) if stays[one]), asked[at])  # beside those that were started before it
        for at in range(len(init))
    ]
    peak = most_of(total(*own, *asked[len(init) :]), *peaks)
    assert requested(pod) == total(peak, resources(pod.overhead).stated)


@given(st.lists(st.text("/ab", max_size=6), max_size=4), st.lists(st.text("/ab =", max_size=12), max_size=4))
def test_paths_are_those_that_begin_with_a_mount(places: list[str], words: list[str]) -> None:
    mounts = tuple(Mount(volume="v", path=each, read_only=False) for each in places)
    below = [each.rstrip("/") + "/" for each in places if each]
    every = [path for word in words for path in templates._PATH.findall(word)]
    plain = list(dict.fromkeys(path for path in every if any(path.startswith(each) for each in below)))
    assert templates._paths(words, mounts) == tuple(plain[: templates.PATHS_LIMIT])


@pytest.mark.parametrize(
    ("word", "paths"),
    [
        ("--url=https://TOKEN@host/x", ()),
        ("DSN=mysql://root:/PASSWORD@h", ()),
        ("--config=/data/app.toml --url=https://me:/PASSWORD@h/", ("/data/app.toml",)),
        ("root:/PASSWORD@db", ()),
        ("/data/log.txt", ("/data/log.txt",)),
    ],
)
def test_no_path_is_part_of_a_login(word: str, paths: tuple[str, ...]) -> None:
    mounts = (Mount(volume="v", path="/", read_only=False),)
    found = templates._paths([word], mounts)
    assert not any("TOKEN" in each or "PASSWORD" in each for each in found)
    assert set(paths) <= set(found)


def test_the_largest_pods_that_a_server_takes_are_read_in_their_size() -> None:
    """1.5 MB is what etcd holds of one object: the square of what is in there would take minutes."""
    letters = string.ascii_lowercase
    asking = [
        {"name": f"c{number}", "image": "i", "resources": {"requests": {f"{letters}.io/r{number}": "1"}}}
        for number in range(15_000)
    ]
    mounted = [{"name": "v", "mountPath": f"/d{number}"} for number in range(10_000)]
    large = spec(
        initContainers=[*asking[:7500], *({**each, "restartPolicy": "Always"} for each in asking[7500:])],
        containers=[{"name": "c", "image": "i", "args": [" /m1/" * 800] * 240, "volumeMounts": mounted}],
    )
    found = template(large)
    assert len(found.requests.others) == len(asking)
    assert found.containers[-1].paths == ()


def test_images_of_volumes_and_of_ephemeral_containers_of_all_pods_are_found() -> None:
    volumes = [
        {"name": "models", "image": {"reference": "models:latest", "pullPolicy": "Always"}},
        {"name": "odd", "image": {"reference": 5}},
        {"name": "none", "emptyDir": {}},
    ]
    added = [{"name": "debug", "image": "busybox"}]
    pod = spec(containers=[], volumes=volumes, ephemeralContainers=added)
    found = [(each.place, each.image) for each in template(pod).further_images]
    assert found == [("volume models", "models:latest"), ("volume odd", ""), ("ephemeral container debug", "busybox")]


def test_an_ephemeral_container_of_any_pod_is_told_of_its_workload() -> None:
    gathered = workloads.Gathered({})
    owner = {"kind": "StatefulSet", "name": "db", "controller": True}
    for number, added in enumerate(([], [{"name": "debug", "image": "busybox"}], [])):
        made = {"name": f"db-{number}", "namespace": "shop", "ownerReferences": [owner]}
        made["creationTimestamp"] = f"2026-11-2{number}T00:00:00Z"
        containers_ = [{"name": "c", "image": "i:1"}]
        gathered.take(
            msgspec.convert({"metadata": made, "spec": {"containers": containers_, "ephemeralContainers": added}}, Pod)
        )
    [group] = gathered.groups.values()
    assert [each.place for each in group.further_images] == ["ephemeral container debug"]


# What one tenant writes


def workloads_of(*specs: PodSpec) -> tuple[Workload, ...]:
    made = [workload(f"w-{number}", template(each)) for number, each in enumerate(specs)]
    return workloads._bounded(made)


SMALL = spec(containers=[{"name": "c", "image": "i"}])


def test_workloads_that_fit_are_kept_as_they_are() -> None:
    assert [each.template.unread for each in workloads_of(*[SMALL] * 50)] == [""] * 50


def test_of_too_much_together_the_largest_is_left_out_and_all_others_are_kept() -> None:
    large = spec(
        containers=[{"name": "c", "image": "i"}], nodeSelector={f"k{number}": "x" * 60 for number in range(18_000)}
    )
    found = workloads_of(SMALL, *[large] * 14, SMALL)
    left_out = [each.name for each in found if each.template.unread]
    assert 0 < len(left_out) < 14
    assert not {"w-0", "w-15"} & set(left_out)
    assert all("too large beside all others" in each.template.unread for each in found if each.template.unread)
    assert sum(len(encode(each)) for each in found) < 16 << 20


def test_the_names_of_resources_that_are_added_up_on_a_node_are_bounded() -> None:
    gathered = workloads.Gathered({})
    for first in range(0, 5000, 1000):
        gathered._used("n", 1, {"cpu": 1, **{f"x.io/r{number}": 1 for number in range(first, first + 1000)}})
    pods, sums = gathered.use["n"]
    assert (pods, sums["cpu"], len(sums)) == (5, 5, workloads.RESOURCES_LIMIT)


def test_a_value_that_no_label_can_have_is_one_that_matches_nothing() -> None:
    term = {"matchExpressions": [{"key": "a", "operator": "In", "values": ["x" * 5000, "b"]}]}
    affinity = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}}
    found = template(spec(affinity=affinity)).affinity
    assert found is not None
    assert [len(each) for each in found[0].labels[0].values] == [templates.NAME_LIMIT, 1]
