"""Profiles, overrides and selections make one ruleset, or one clear refusal."""

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vdscheck.catalogue.catalogue import Catalogue
from vdscheck.ruleset.profile import RulesetError, read_profile
from vdscheck.ruleset.ruleset import build
from vdscheck.ruleset.selection import Ruleset, matches
from vdscheck.threshold import AtLeast, AtMost, Conflict, OneOf
from vdscheck.units import UnitError, amount


def ruleset(catalogue: Catalogue, *profiles: str, **overrides: Any) -> Ruleset:
    return build(catalogue, profiles or ("web",), overrides, "0")


def waiver(check: str) -> dict[str, str]:
    return {"check": check, "reason": "known", "expires": "2099-01-01"}


@pytest.mark.parametrize(
    ("pattern", "check_id", "subject", "meant"),
    [
        ("disk.space", "disk.space", None, True),
        ("disk.space", "disk.space", "/var", True),
        ("disk.*", "disk.space", "/var", True),
        ("disk.space[/var]", "disk.space", "/var", True),
        ("disk.space[/v*]", "disk.space", "/var", True),
        ("disk.space[/var]", "disk.space", "/", False),
        ("disk.space[/var]", "disk.space", None, False),
        ("disk", "disk.space", None, False),
        ("*.space", "disk.space", None, True),
        ("Disk.space", "disk.space", None, False),
        ("a.b[x[1]]", "a.b", "x[1]", True),
    ],
)
def test_a_pattern_means_ids_and_subjects(pattern: str, check_id: str, subject: str | None, *, meant: bool) -> None:
    assert matches(pattern, check_id, subject) == meant


@given(st.text(max_size=20), st.text(max_size=20))
def test_any_finding_is_meant_by_its_own_name(check_id: str, subject: str) -> None:
    if not set(check_id + subject) & set("[]*?"):
        assert matches(f"{check_id}[{subject}]", check_id, subject)


def test_of_two_profiles_the_stricter_limit_counts(catalogue: Catalogue) -> None:
    one, other = (ruleset(catalogue, name) for name in ("web", "kubernetes-node"))
    both = ruleset(catalogue, "web", "kubernetes-node")
    compared = 0
    for check_id, named in both.limits.items():
        for name, limit in named.items():
            pair = [each.limits.get(check_id, {}).get(name) for each in (one, other)]
            known = [each for each in pair if isinstance(each, AtLeast | AtMost)]
            if len(known) == 2 and isinstance(limit, AtLeast | AtMost):
                strictest = max if isinstance(limit, AtLeast) else min
                assert limit.pass_limit == strictest(each.pass_limit for each in known)
                compared += 1
    assert compared > 5


def test_the_order_of_profiles_does_not_change_the_limits(catalogue: Catalogue) -> None:
    def limits(*names: str) -> dict[tuple[str, str], Any]:
        found = ruleset(catalogue, *names).limits
        return {
            (check, name): limit.expected() | {"source": ""}
            for check, named in found.items()
            for name, limit in named.items()
            if isinstance(limit, AtLeast | AtMost)
        }

    assert limits("web", "redis", "latency") == limits("latency", "redis", "web")


def test_profiles_that_cannot_both_hold_are_a_named_conflict(catalogue: Catalogue) -> None:
    both = ruleset(catalogue, "redis", "postgres")
    conflicts = [limit for named in both.limits.values() for limit in named.values() if isinstance(limit, Conflict)]
    assert conflicts
    assert all("profile redis" in each.detail and "profile postgres" in each.detail for each in conflicts)


def test_a_profile_that_extends_another_has_its_limits(catalogue: Catalogue) -> None:
    assert (
        read_profile("web", catalogue).limits["cpu.pressure"] == read_profile("base", catalogue).limits["cpu.pressure"]
    )


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (
            {"only": ["sysctl.somaxcon"]},
            "no check is called sysctl.somaxcon: did you mean sysctl.somaxconn?",
        ),
        ({"skip": ["nothing.*"]}, "--skip: no check is called"),
        ({"limits": {"sysctl.nothing": {"x": "1"}}}, "there is no check sysctl.nothing"),
        ({"limits": {"sysctl.somaxconn": {"x": "1"}}}, "has no limit x; it has backlog"),
        (
            {"limits": {"sysctl.somaxconn": {"backlog": 2048}}},
            'a limit without its unit: write "2048 connections"',
        ),
        ({"limits": {"sysctl.somaxconn": {"backlog": "2048"}}}, 'has no unit: write "2048 connections"'),
        ({"limits": {"sysctl.somaxconn": {"backlog": "2048 ms"}}}, "'ms' is not a unit for this"),
        ({"limits": {"sysctl.somaxconn": {"backlog": "many"}}}, "is not an amount"),
        ({"limits": {"sysctl.somaxconn": {"backlog": {"fail": "1"}}}}, "[limits."),
        (
            {"limits": {"cpu.pressure": {"some_avg60": {"pass": "20 %", "fail": "10 %"}}}},
            "would be met before",
        ),
        ({"severity": {"cpu.pressure": "huge"}}, "it is one of critical, high"),
        ({"severity": {"cpu.nothing": "high"}}, "there is no check cpu.nothing"),
        (
            {"waivers": [{"check": "cpu.nothing", "reason": "x", "expires": "2027-01-01"}]},
            "no check is called",
        ),
        ({"waivers": [waiver("*")]}, "* is a pattern, and a waiver names one check: write one waiver for each"),
        ({"waivers": [waiver("sysctl.so*")]}, "accept; it matched sysctl.socket-buffers, sysctl.somaxconn"),
        ({"waivers": [waiver("sysctl.somaxcon?")]}, "for each that you accept; it matched sysctl.somaxconn"),
        ({"waivers": [waiver("*.space[/]")]}, "for each that you accept, with its subject; it matched disk.space"),
        ({"waivers": [waiver("disk.space[/v*]")]}, "disk.space for all its subjects, or a waiver for each subject"),
        ({"waivers": [waiver("disk.space[?]")]}, "disk.space for all its subjects, or a waiver for each subject"),
        ({"waivers": [waiver("nothing.*")]}, "[[waivers]]: no check is called nothing.*"),
        ({"offer": {"cpus": 0}}, "[offer] cpus: more than nothing was bought"),
        ({"offer": {"cpus": -4}}, "[offer] cpus: more than nothing was bought"),
        ({"offer": {"memory": "-8 GiB"}}, "[offer] memory: more than nothing was bought"),
        ({"offer": {"memory": "8"}}, 'has no unit: write "8 GiB"'),
    ],
)
def test_what_cannot_be_followed_is_refused_in_one_line(
    catalogue: Catalogue, overrides: dict[str, Any], said: str
) -> None:
    with pytest.raises(RulesetError) as refused:
        ruleset(catalogue, **overrides)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_waiver_names_a_check_or_one_subject_of_it(catalogue: Catalogue) -> None:
    named = ["disk.space", "disk.space[/var]", "redis.latency[[::1]:6379]"]
    made = ruleset(catalogue, waivers=[waiver(each) for each in named])
    assert [each.check for each in made.waivers] == named


def test_a_pattern_in_a_saved_report_counts_as_it_did(catalogue: Catalogue) -> None:
    made = build(catalogue, ["web"], {"waivers": [waiver("sysctl.*")]}, "0", saved=True)
    assert [each.check for each in made.waivers] == ["sysctl.*"]


def test_an_unknown_profile_is_refused_with_the_nearest(catalogue: Catalogue) -> None:
    with pytest.raises(RulesetError, match="there is no profile wbe: did you mean web"):
        ruleset(catalogue, "wbe")


def test_an_override_changes_the_number_and_nothing_else(catalogue: Catalogue) -> None:
    limit = ruleset(catalogue, limits={"sysctl.somaxconn": {"backlog": "2048 connections"}}).limits
    changed = limit["sysctl.somaxconn"]["backlog"]
    assert isinstance(changed, AtLeast)
    assert (changed.pass_limit, changed.unit) == (2048, "connections")
    assert changed.source.startswith("house: ")


def test_an_override_of_a_list_of_values_is_a_list_of_values(catalogue: Catalogue) -> None:
    found = ruleset(catalogue, limits={"virt.clocksource": {"sources": ["tsc"]}}).limits["virt.clocksource"]["sources"]
    assert isinstance(found, OneOf)
    assert found.values == ("tsc",)


def test_the_offer_becomes_the_limit_of_the_contracts(catalogue: Catalogue) -> None:
    limits = ruleset(catalogue, offer={"cpus": 4, "memory": "8192 MiB", "disk": "0.08 TB"}).limits
    sold = {check: named["sold"] for check, named in limits.items() if check.endswith(".contract")}
    assert {check: limit.pass_limit for check, limit in sold.items() if isinstance(limit, AtLeast)} == {
        "cpu.contract": 4,
        "memory.contract": 8,
        "disk.contract": 80,
    }


def test_the_id_is_that_of_the_rules_and_of_the_selection(catalogue: Catalogue) -> None:
    base = ruleset(catalogue).note.id
    assert base == ruleset(catalogue).note.id
    assert base.startswith("web@0 ")
    others = {
        ruleset(catalogue, "redis").note.id,
        ruleset(catalogue, only=["sysctl.*"]).note.id,
        ruleset(catalogue, skip=["sysctl.*"]).note.id,
        ruleset(catalogue, offer={"cpus": 4}).note.id,
        build(catalogue, ["web"], {}, "1").note.id,
    }
    assert base not in others
    assert len(others) == 5


def test_a_selection_leaves_the_others_out(catalogue: Catalogue) -> None:
    chosen = ruleset(catalogue, only=["sysctl.s*", "cpu.pressure"], skip=["sysctl.swappiness"]).selected
    ids = [entry.check.id for entry in chosen]
    assert "cpu.pressure" in ids
    assert "sysctl.somaxconn" in ids
    assert "sysctl.swappiness" not in ids
    assert all(check_id.startswith(("sysctl.s", "cpu.pressure")) for check_id in ids)


@pytest.mark.parametrize(
    ("text", "unit", "number"),
    [
        ("10 %", "%", 10),
        ("10%", "%", 10),
        (" 0.5 ms ", "us", 500),
        ("1 s", "ms", 1000),
        ("8 GiB", "GiB", 8),
        ("8192MiB", "GiB", 8),
        ("80 GB", "GB", 80),
        ("1 TiB", "GB", 1099.511627776),
        ("1 connection", "connections", 1),
        ("-3 x", "x", -3),
        ("7", "", 7),
    ],
)
def test_amounts_are_read_in_the_unit_of_the_limit(text: str, unit: str, number: float) -> None:
    assert amount(text, unit) == pytest.approx(number)


@given(st.text(max_size=40), st.sampled_from(["ms", "GiB", "%", "connections", ""]))
def test_any_text_is_an_amount_or_refused(text: str, unit: str) -> None:
    with suppress(UnitError):
        assert isinstance(amount(text, unit), float)


@pytest.mark.parametrize("text", ["", "10", "1e999 ms", "nan ms", "10 parsecs", "9" * 400 + " ms", "0x10 ms", "1_0 ms"])
def test_what_is_not_an_amount_is_refused(text: str) -> None:
    with pytest.raises(UnitError):
        amount(text, "ms")
