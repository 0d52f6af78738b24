"""The shipped profiles: each number has its source, and every profile judges the whole machine."""

import itertools
import re
import tomllib
from importlib.resources import files
from typing import Any

import pytest

from tests.checks.test_sysctl import OURS, boot, kernel
from tests.support.fix_hosts import DEFAULTS
from vdscheck import testing
from vdscheck.catalogue.catalogue import Catalogue
from vdscheck.measurements import HugePages
from vdscheck.model.fixes import SettingFix
from vdscheck.ruleset.profile import read_profile
from vdscheck.ruleset.ruleset import build
from vdscheck.threshold import AtLeast, AtMost, Conflict, OneOf, Threshold
from vdscheck.units import amount

OF_HOSTS = ("base", "kubernetes-node", "latency", "postgres", "redis", "web")
NAMES = (*OF_HOSTS, "cluster")
ONLY_THE_USER_KNOWS = ("sold", "wanted", "regions")
WITHOUT_URL = ("house", "origin")
MACHINE: dict[str, dict[str, type]] = {
    "virt.virtio": {"emulated": AtMost},
    "virt.multiqueue": {"queues": AtLeast},
    "virt.clocksource": {"sources": OneOf},
    "virt.cpu-features": {"level": AtLeast},
    "virt.balloon": {"taken": AtMost},
    "cpu.pressure": {"some_avg60": AtMost},
    "memory.available": {"available": AtLeast},
    "memory.swap": {"pages_in": AtMost},
    "disk.nvme": {"not_nvme_fdatasync": AtMost, "not_nvme_read": AtMost},
    "disk.read-latency": {"p99": AtMost},
    "disk.fsync-latency": {"p99": AtMost},
    "disk.iops": {"depth_32": AtLeast},
    "disk.iowait": {"iowait": AtMost},
    "disk.scheduler": {"scheduler": OneOf},
    "disk.space": {"free": AtLeast, "free_bytes": AtLeast, "inodes": AtLeast},
}
"""What any profile judges of the machine itself."""


def written(name: str) -> dict[str, Any]:
    return tomllib.loads(files("vdscheck.profiles").joinpath(f"{name}.toml").read_text("utf-8"))


LIMITS = [
    pytest.param(limit, id=f"{name} {check_id}.{key}")
    for name in NAMES
    for check_id, limits in written(name)["limits"].items()
    for key, limit in limits.items()
]


def test_these_profiles_are_shipped(catalogue: Catalogue) -> None:
    shipped = {name for name, file in catalogue.profiles.items() if file.package == "vdscheck.profiles"}
    assert shipped == set(NAMES)
    on_disk = {file.name for file in files("vdscheck.profiles").iterdir() if file.name.endswith(".toml")}
    assert on_disk == {f"{name}.toml" for name in NAMES} | {"places.toml"}


@pytest.mark.parametrize("limit", LIMITS)
def test_every_limit_says_who_says_so_and_where(limit: dict[str, Any]) -> None:
    label, colon, rest = limit["source"].partition(":")
    assert colon
    assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9 -]{1,20}", label)
    assert len(rest.strip()) > 20
    assert label in WITHOUT_URL or re.match(r" https://[a-z0-9.-]+\.[a-z]{2,}/\S+( \(.+\))?$", rest)
    assert "why" not in limit or re.fullmatch(r"[A-Z][^.]+\.", limit["why"])


@pytest.mark.parametrize("limit", LIMITS)
def test_a_limit_can_be_changed_in_its_own_unit(limit: dict[str, Any]) -> None:
    number = limit.get("at_least", limit.get("at_most"))
    if number is not None and limit["unit"]:
        assert amount(f"{number} {limit['unit']}", limit["unit"]) == number
    if "one_of" in limit:
        assert limit["unit"] == ""
        assert len(set(limit["one_of"])) == len(limit["one_of"])


@pytest.mark.parametrize("name", NAMES)
def test_a_profile_says_what_it_is_for_and_where_its_numbers_come_from(catalogue: Catalogue, name: str) -> None:
    profile = read_profile(name, catalogue)
    for text in (profile.summary, profile.sources):
        assert 15 < len(text) < 160
        assert "\n" not in text
    assert name in ("base", "cluster") or written(name)["extends"] in NAMES


@pytest.mark.parametrize("name", OF_HOSTS)
def test_every_profile_judges_the_whole_machine(catalogue: Catalogue, name: str) -> None:
    limits = read_profile(name, catalogue).limits
    for check_id, named in MACHINE.items():
        assert {key: type(limits[check_id][key]) for key in named} == named
    selected = {entry.check.id for entry in build(catalogue, [name], {}, "0").selected}
    assert set(MACHINE) | {"virt.hypervisor", "time.sync", "sysctl.persistence", "sysctl.file-handles"} <= selected


@pytest.mark.parametrize("name", NAMES)
def test_a_profile_leaves_no_check_half_limited(catalogue: Catalogue, name: str) -> None:
    limits = read_profile(name, catalogue).limits
    for check_id in limits:
        assert set(catalogue.checks[check_id].required_thresholds) <= set(limits[check_id]), check_id


def test_every_limit_that_a_check_takes_is_set_by_some_profile(catalogue: Catalogue) -> None:
    every = [read_profile(name, catalogue).limits for name in NAMES]
    for check_id, entry in catalogue.checks.items():
        for need in entry.needs:
            if need.kind == "threshold" and need.name not in ONLY_THE_USER_KNOWS:
                assert any(need.name in limits.get(check_id, {}) for limits in every), f"{check_id}.{need.name}"


@pytest.mark.parametrize("name", OF_HOSTS)
def test_no_profile_makes_a_modern_kernel_worse(catalogue: Catalogue, name: str) -> None:
    judged = 0
    limits = read_profile(name, catalogue).limits
    for check_id in (each for each in limits if each.startswith("sysctl.")):
        pages = HugePages(enabled="madvise", defrag=None)
        for each in testing.judged_each(check_id, OURS, kernel(), boot({}), pages, profile=name).values():
            fix = each.fix
            judged += 1
            if isinstance(fix, SettingFix):
                assert each.verdict.value in ("warn", "fail")
                if fix.key not in DEFAULTS:
                    assert (fix.key, pages.enabled, fix.value) == ("transparent_hugepage.enabled", "madvise", "never")
                    continue
                limit = _limit_of(limits[check_id], each.expected)
                before, after = int(DEFAULTS[fix.key].split()[0]), int(fix.value.split()[0])
                assert not isinstance(limit, AtLeast) or after > before
                assert not isinstance(limit, AtMost) or after < before
    assert judged


def _limit_of(limits: Any, expected: Any) -> Threshold:
    (found,) = [limit for limit in limits.values() if limit.expected() == expected]
    assert isinstance(found, AtLeast | AtMost | OneOf)
    return found


@pytest.mark.parametrize("pair", list(itertools.combinations(OF_HOSTS, 2)), ids=" ".join)
def test_two_profiles_agree_but_where_their_authorities_do_not(catalogue: Catalogue, pair: tuple[str, str]) -> None:
    limits = build(catalogue, pair, {}, "0").limits
    conflicts = {f"{check}.{key}" for check, each in limits.items() for key, x in each.items() if type(x) is Conflict}
    overcommit = set(pair) in ({"redis", "postgres"}, {"kubernetes-node", "postgres"})
    assert conflicts == ({"sysctl.overcommit.mode"} if overcommit else set())
