"""The sysctl checks: each verdict of each check, what it proposes, and what it must never do."""

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.fix_hosts import DEFAULTS
from vdscheck import testing
from vdscheck.catalogue.catalogue import Catalogue
from vdscheck.fixes.sysctl import kernel_settings
from vdscheck.measurements import (
    KERNEL_KEYS,
    NOT_LOOKED_AT,
    BootTruth,
    Conntrack,
    FileHandles,
    HugePages,
    HugePagesAtBoot,
    InotifyUse,
    KernelOwner,
    KeyAtBoot,
    LateWriter,
    Listener,
    Listeners,
    SwapSpace,
    Sysctls,
    TcpCounters,
)
from vdscheck.model.absence import Absent, Reason, not_applicable, unmeasured
from vdscheck.model.fixes import ByHand, SettingFix
from vdscheck.model.judgement import Confidence, Verdict
from vdscheck.plugin import Judgement, Limits
from vdscheck.threshold import AtLeast, AtMost, Conflict, OneOf, absent_judgement

PASS, WARN, FAIL, UNKNOWN = Verdict.PASS, Verdict.WARN, Verdict.FAIL, Verdict.UNKNOWN
NOT_APPLICABLE = Verdict.NOT_APPLICABLE

OURS = KernelOwner(ours=True, writable=True, clues=())
CONTAINER = KernelOwner(ours=False, writable=False, clues=())
PRIVILEGED = KernelOwner(ours=False, writable=True, clues=())
NOT_RUN = unmeasured(Reason.NOT_RUN, "only a running kernel knows")


def kernel(changed: Mapping[str, str | Absent] | None = None) -> Sysctls:
    """The settings of a modern kernel, some of them changed or missing."""
    found: dict[str, str | Absent] = {**DEFAULTS, **(changed or {})}
    return Sysctls(
        values={key: value for key, value in found.items() if isinstance(value, str)},
        missing={key: value for key, value in found.items() if isinstance(value, Absent)},
    )


NO_KERNEL = Sysctls(values={}, missing=dict.fromkeys(KERNEL_KEYS, NOT_RUN))
"""An image that is not running."""


def at_boot(value: str | None, where: str = "/etc/sysctl.d/50-x.conf:3", *overridden: str) -> KeyAtBoot:
    origin: Any = "unknown" if value is None else "file" if where.startswith("/") else "default"
    return KeyAtBoot(
        value=value, origin=origin, where=where, overridden=overridden, procps_value=None, needs_module=None
    )


def boot(keys: Mapping[str, KeyAtBoot | str], *writers: LateWriter, init: str = "systemd-sysctl") -> BootTruth:
    """What comes after the next boot: as DEFAULTS, but for these keys."""
    usual = {key: at_boot(value, "the kernel's default") for key, value in DEFAULTS.items()}
    changed = {key: at_boot(each) if isinstance(each, str) else each for key, each in keys.items()}
    return BootTruth(init=init, keys=usual | changed, late_writers=writers, problems=())


def tcp(**changed: int) -> TcpCounters:
    names = (
        *("listen_overflows", "listen_drops", "req_q_full_do_cookies", "req_q_full_drop"),
        *("syncookies_sent", "syncookies_failed", "time_wait", "active_opens"),
    )
    return TcpCounters(**{**dict.fromkeys(names, 0), **changed})


def handles(**changed: Any) -> FileHandles:
    found: dict[str, Any] = {
        "allocated": 617,
        "maximum": 2466170,
        "lowest_service_limit": 1024,
        "lowest_service": "sshd",
        "fullest_service": "nginx",
        "fullest_service_open": 100,
        "fullest_service_limit": 1024,
    }
    return FileHandles(**{**found, **changed})


class Case(NamedTuple):
    """One value of one key, and what a check says of it."""

    check_id: str
    profile: str
    key: str
    value: str
    verdict: Verdict
    wanted: str | None
    """What the fix sets."""
    words: str


SINGLE = [
    Case("sysctl.somaxconn", "web", "net.core.somaxconn", "4096", PASS, None, "is 4,096 connections"),
    Case("sysctl.somaxconn", "web", "net.core.somaxconn", "1024", PASS, None, "at least 1,024 connections"),
    Case(
        "sysctl.somaxconn",
        "web",
        "net.core.somaxconn",
        "1023",
        FAIL,
        "1024",
        "at least 1,024 connections wanted (origin)",
    ),
    Case("sysctl.somaxconn", "web", "net.core.somaxconn", "0", FAIL, "1024", "is 0 connections"),
    Case("sysctl.somaxconn", "redis", "net.core.somaxconn", "128", FAIL, "511", "(Redis)"),
    Case("sysctl.tcp-tw-reuse", "web", "net.ipv4.tcp_tw_reuse", "1", PASS, None, "is 1 (on), 1 wanted"),
    Case(
        "sysctl.tcp-tw-reuse",
        "web",
        "net.ipv4.tcp_tw_reuse",
        "2",
        FAIL,
        "1",
        "is 2 (for loopback only), 1 wanted (origin)",
    ),
    Case("sysctl.tcp-tw-reuse", "web", "net.ipv4.tcp_tw_reuse", "0", FAIL, "1", "is 0 (off)"),
    Case("sysctl.port-range", "web", "net.ipv4.ip_local_port_range", "32768 60999", PASS, None, "holds 28,232 ports"),
    Case("sysctl.port-range", "web", "net.ipv4.ip_local_port_range", "1024 65535", PASS, None, "holds 64,512 ports"),
    Case(
        "sysctl.port-range",
        "web",
        "net.ipv4.ip_local_port_range",
        "49152 65535",
        FAIL,
        "32768 60999",
        "holds 16,384 ports",
    ),
    Case(
        "sysctl.port-range", "web", "net.ipv4.ip_local_port_range", "60999 32768", FAIL, "32768 60999", "holds 0 ports"
    ),
    Case("sysctl.slow-start-idle", "web", "net.ipv4.tcp_slow_start_after_idle", "0", PASS, None, "is 0 (off)"),
    Case("sysctl.slow-start-idle", "web", "net.ipv4.tcp_slow_start_after_idle", "1", WARN, "0", "0 wanted (tuned)"),
    Case("sysctl.slow-start-idle", "latency", "net.ipv4.tcp_slow_start_after_idle", "1", FAIL, "0", "0 wanted"),
    Case("sysctl.swappiness", "web", "vm.swappiness", "60", PASS, None, "at most 60"),
    Case("sysctl.swappiness", "web", "vm.swappiness", "100", WARN, "60", "is 100, at most 60 wanted (kernel)"),
    Case("sysctl.swappiness", "latency", "vm.swappiness", "60", FAIL, "10", "at most 10 wanted (tuned)"),
    Case("sysctl.swappiness", "latency", "vm.swappiness", "0", PASS, None, "is 0,"),
    Case("sysctl.overcommit", "redis", "vm.overcommit_memory", "1", PASS, None, "is 1 (always)"),
    Case("sysctl.overcommit", "redis", "vm.overcommit_memory", "0", FAIL, "1", "is 0 (heuristic), 1 wanted (Redis)"),
    Case("sysctl.overcommit", "postgres", "vm.overcommit_memory", "2", PASS, None, "is 2 (never)"),
    Case("sysctl.max-map-count", "web", "vm.max_map_count", "65530", PASS, None, "is 65,530 maps"),
    Case(
        "sysctl.max-map-count", "web", "vm.max_map_count", "1000", FAIL, "65530", "at least 65,530 maps wanted (kernel)"
    ),
    Case("sysctl.max-map-count", "kubernetes-node", "vm.max_map_count", "65530", WARN, "262144", "wanted (tuned)"),
    Case("sysctl.ip-forward", "kubernetes-node", "net.ipv4.ip_forward", "1", PASS, None, "is 1 (on)"),
    Case("sysctl.ip-forward", "kubernetes-node", "net.ipv4.ip_forward", "0", FAIL, "1", "is 0 (off), 1 wanted"),
    Case("sysctl.rp-filter", "web", "net.ipv4.conf.all.rp_filter", "1", PASS, None, "is 1 (strict)"),
    Case("sysctl.rp-filter", "web", "net.ipv4.conf.all.rp_filter", "2", PASS, None, "is 2 (loose)"),
    Case(
        "sysctl.rp-filter", "web", "net.ipv4.conf.all.rp_filter", "0", WARN, "2", "is 0 (off), 2 or 1 wanted (kernel)"
    ),
    Case("sysctl.rp-filter", "kubernetes-node", "net.ipv4.conf.all.rp_filter", "1", WARN, "2", "2 or 0 wanted"),
    Case("sysctl.rp-filter", "kubernetes-node", "net.ipv4.conf.all.rp_filter", "0", PASS, None, "is 0 (off)"),
]
CHECK_OF_KEY = {case.key: (case.check_id, case.profile) for case in SINGLE}


@pytest.mark.parametrize("case", SINGLE, ids=lambda case: f"{case.profile} {case.key}={case.value}")
def test_a_setting_is_judged_against_the_limit_of_its_profile(case: Case) -> None:
    state, truth = kernel({case.key: case.value}), boot({case.key: case.value})
    found = testing.judged(case.check_id, OURS, state, truth, profile=case.profile)
    assert found.verdict is case.verdict
    assert case.words in found.summary
    assert case.key in found.summary
    assert "\n" not in found.summary
    assert found.fix == (None if case.wanted is None else SettingFix("sysctl", case.key, case.wanted, case.value))


@pytest.mark.parametrize("case", SINGLE, ids=lambda case: f"{case.profile} {case.key}={case.value}")
def test_without_a_running_kernel_the_value_after_the_next_boot_is_judged_and_said_to_be_that(case: Case) -> None:
    found = testing.judged(case.check_id, NOT_RUN, NO_KERNEL, boot({case.key: case.value}), profile=case.profile)
    assert found.verdict is case.verdict
    assert found.summary.startswith(f"after the next boot, {case.key} ")
    assert case.words in found.summary
    assert found.fix == (None if case.wanted is None else SettingFix("sysctl", case.key, case.wanted, None))
    assert found.evidence[0].value == "/etc/sysctl.d/50-x.conf:3"


@pytest.mark.parametrize("key", CHECK_OF_KEY)
def test_without_a_running_kernel_an_unknown_default_is_unknown(key: str) -> None:
    check_id, profile = CHECK_OF_KEY[key]
    for truth in (boot({key: at_boot(None, "nobody sets it")}), NOT_RUN):
        found = testing.judged(check_id, NOT_RUN, NO_KERNEL, truth, profile=profile)
        assert (found.verdict, found.reason) == (UNKNOWN, Reason.NOT_RUN)


@pytest.mark.parametrize("key", CHECK_OF_KEY)
@pytest.mark.parametrize(
    ("absent", "verdict"),
    [
        (not_applicable("the module nf_conntrack is not loaded"), NOT_APPLICABLE),
        (unmeasured(Reason.UNSUPPORTED, "this kernel was built without it"), UNKNOWN),
        (unmeasured(Reason.PERMISSION, "permission denied"), UNKNOWN),
        (unmeasured(Reason.ERROR, "Input/output error"), UNKNOWN),
    ],
)
def test_a_key_that_cannot_be_read_is_never_a_failure(key: str, absent: Absent, verdict: Verdict) -> None:
    check_id, profile = CHECK_OF_KEY[key]
    found = testing.judged(check_id, OURS, kernel({key: absent}), boot({key: "0"}), profile=profile)
    assert (found.verdict, found.reason, found.summary) == (verdict, absent.reason, absent.detail)
    assert found.fix is None


@pytest.mark.parametrize("key", CHECK_OF_KEY)
def test_in_a_container_what_is_the_host_s_is_not_applicable(key: str) -> None:
    check_id, profile = CHECK_OF_KEY[key]
    found = testing.judged(check_id, CONTAINER, kernel({key: "0"}), boot({}), profile=profile)
    assert found.verdict is NOT_APPLICABLE
    assert "ask who runs the host" in found.summary
    assert found.fix is None


@pytest.mark.parametrize("key", CHECK_OF_KEY)
def test_where_a_container_may_write_its_own_network_settings_they_are_judged(key: str) -> None:
    check_id, profile = CHECK_OF_KEY[key]
    found = testing.judged(check_id, PRIVILEGED, kernel(), boot({}), profile=profile)
    assert (found.verdict is NOT_APPLICABLE) is not key.startswith("net.")


@pytest.mark.parametrize("key", CHECK_OF_KEY)
def test_where_nobody_can_tell_whose_kernel_it_is_nothing_is_judged(catalogue: Catalogue, key: str) -> None:
    check_id, profile = CHECK_OF_KEY[key]
    hidden = unmeasured(Reason.UNSUPPORTED, "nothing tells whose kernel this is")
    entry = catalogue.checks[check_id]
    owner = next(need for need in entry.needs if need.type is KernelOwner)
    assert owner.bears_absence
    others = [boot({}), tcp(), handles()]
    found = testing.judged(check_id, kernel({key: "0"}), *others, owner=hidden, profile=profile)
    assert found == absent_judgement(hidden)


@given(text=st.text(max_size=30), key=st.sampled_from(sorted(CHECK_OF_KEY)))
def test_what_is_no_number_is_unknown_and_never_a_crash(catalogue: Catalogue, text: str, key: str) -> None:
    check_id, profile = CHECK_OF_KEY[key]
    found = testing.judged(check_id, OURS, kernel({key: text}), boot({key: text}), profile=profile)
    words = [word for word in text.split() if re.fullmatch("-?[0-9]+", word, re.ASCII)]
    if len(words) != len(text.split()) or not words:
        assert (found.verdict, found.reason) == (UNKNOWN, Reason.ERROR)
    elif found.verdict is FAIL:
        assert found.fix is not None


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("9223372036854775807", PASS),
        ("9223372036854775808", UNKNOWN),
        ("9" * 19, UNKNOWN),
        ("9" * 5000, UNKNOWN),
        ("-5", FAIL),
        ("-" + "9" * 19, UNKNOWN),
        ("--5", UNKNOWN),
        ("-", UNKNOWN),
        ("٣", UNKNOWN),
        ("4096 4096", UNKNOWN),
    ],
)
def test_a_number_that_no_kernel_holds_is_none(text: str, verdict: Verdict) -> None:
    assert testing.judged("sysctl.somaxconn", OURS, kernel({"net.core.somaxconn": text}), boot({})).verdict is verdict


COUNTS = st.integers(0, 2**31)


@given(now=COUNTS, later=COUNTS, limit=COUNTS)
def test_no_fix_lowers_what_is_better_than_the_limit(catalogue: Catalogue, now: int, later: int, limit: int) -> None:
    wanted = AtLeast(pass_limit=limit, unit="connections", source="house: a test")
    state = kernel({"net.core.somaxconn": str(now)})
    truth = boot({"net.core.somaxconn": str(later)})
    found = testing.judged("sysctl.somaxconn", OURS, state, truth, backlog=wanted)
    if now >= limit:
        assert found.fix is None
    else:
        assert isinstance(found.fix, SettingFix)
        assert int(found.fix.value) == max(limit, later)


@given(now=COUNTS, later=COUNTS, limit=COUNTS)
def test_no_fix_raises_what_is_better_than_an_upper_limit(
    catalogue: Catalogue, now: int, later: int, limit: int
) -> None:
    wanted = AtMost(pass_limit=limit, unit="", source="house: a test")
    state, truth = kernel({"vm.swappiness": str(now)}), boot({"vm.swappiness": str(later)})
    found = testing.judged("sysctl.swappiness", OURS, state, truth, swappiness=wanted)
    fix = found.fix
    assert fix is None if now <= limit else isinstance(fix, SettingFix) and int(fix.value) == min(limit, later)


@given(count=st.integers(1, 70_000))
def test_a_port_range_that_is_proposed_holds_the_ports_that_are_wanted(catalogue: Catalogue, count: int) -> None:
    wanted = AtLeast(pass_limit=count, unit="ports", source="house: a test")
    state, truth = kernel({"net.ipv4.ip_local_port_range": "5 4"}), NOT_RUN
    fix = testing.judged("sysctl.port-range", OURS, state, truth, ports=wanted).fix
    if count > 65535 - 1024 + 1:
        assert fix is None
        return
    assert isinstance(fix, SettingFix)
    first, last = map(int, fix.value.split())
    assert 1024 <= first < last <= 65535
    assert last - first + 1 >= count


# What makes a setting matter here


@pytest.mark.parametrize(
    ("check_id", "profile", "changed", "beside", "words"),
    [
        (
            "sysctl.somaxconn",
            "web",
            {"net.core.somaxconn": "128"},
            tcp(listen_overflows=1234),
            "1,234 connections found an accept queue full since boot",
        ),
        ("sysctl.tcp-tw-reuse", "web", {}, tcp(time_wait=9214), "9,214 of 28,232 local ports in TIME_WAIT now"),
        (
            "sysctl.port-range",
            "web",
            {"net.ipv4.ip_local_port_range": "60000 60999"},
            Listeners(sockets=(), local_ports_in_use=900),
            "900 ports in use now",
        ),
        (
            "sysctl.syn-backlog",
            "web",
            {"net.ipv4.tcp_syncookies": "0"},
            tcp(req_q_full_drop=7),
            "7 connections lost to a full SYN queue since boot",
        ),
        (
            "sysctl.swappiness",
            "latency",
            {},
            SwapSpace(total_bytes=1 << 30, used_bytes=5, pages_in_since_boot=81, pages_out_since_boot=90),
            "81 pages came back from swap since boot",
        ),
    ],
)
def test_the_sentence_says_why_it_matters_on_this_host(
    check_id: str, profile: str, changed: dict[str, str], beside: Any, words: str
) -> None:
    found = testing.judged(check_id, OURS, kernel(changed), boot({}), beside, profile=profile)
    assert found.verdict in (WARN, FAIL)
    assert found.summary.endswith(words)


def test_services_that_may_profit_from_a_restart_are_named() -> None:
    sockets = (
        Listener(address="0.0.0.0", port=80, backlog=511, waiting=3, owner="nginx"),
        Listener(address="::", port=22, backlog=128, waiting=0, owner=None),
        Listener(address="::", port=9, backlog=8192, waiting=0, owner="before"),
    )
    found = testing.judged(
        "sysctl.somaxconn", OURS, kernel(), boot({}), Listeners(sockets=sockets, local_ports_in_use=3)
    )
    said = {each.name: each.value for each in found.evidence}
    assert said == {
        "listening_sockets": 3,
        "limited_to_somaxconn_or_less": 2,
        "longest_accept_queue": 3,
        "may_profit_from_a_restart": "nginx (511)",
    }


@pytest.mark.parametrize(
    ("reuse", "stamps", "verdict", "fix"),
    [
        ("1", "1", PASS, None),
        ("1", "2", PASS, None),
        ("1", "0", WARN, SettingFix("sysctl", "net.ipv4.tcp_timestamps", "1", "0")),
        ("2", "0", FAIL, SettingFix("sysctl", "net.ipv4.tcp_tw_reuse", "1", "2")),
    ],
)
def test_time_wait_reuse_needs_tcp_timestamps(
    reuse: str, stamps: str, verdict: Verdict, fix: SettingFix | None
) -> None:
    state = kernel({"net.ipv4.tcp_tw_reuse": reuse, "net.ipv4.tcp_timestamps": stamps})
    found = testing.judged("sysctl.tcp-tw-reuse", OURS, state, boot({}))
    assert (found.verdict, found.fix) == (verdict, fix)
    assert ("without net.ipv4.tcp_timestamps it has no effect" in found.summary) is (stamps == "0")


@pytest.mark.parametrize(
    ("cookies", "queue", "verdict", "key", "value"),
    [
        ("1", "1", PASS, None, None),
        ("2", "1", PASS, None, None),
        ("0", "1024", WARN, "net.ipv4.tcp_syncookies", "1"),
        ("0", "1023", FAIL, "net.ipv4.tcp_max_syn_backlog", "1024"),
        ("0", None, WARN, "net.ipv4.tcp_syncookies", "1"),
    ],
)
def test_the_syn_queue_counts_only_without_cookies(
    cookies: str, queue: str | None, verdict: Verdict, key: str | None, value: str | None
) -> None:
    hidden = unmeasured(Reason.UNSUPPORTED, "this kernel was built without it")
    state = kernel({"net.ipv4.tcp_syncookies": cookies, "net.ipv4.tcp_max_syn_backlog": queue or hidden})
    truth = boot({"net.ipv4.tcp_syncookies": "0", "net.ipv4.tcp_max_syn_backlog": "256"})
    found = testing.judged("sysctl.syn-backlog", OURS, state, truth, tcp())
    assert found.verdict is verdict
    assert (found.fix.key, found.fix.value) == (key, value) if isinstance(found.fix, SettingFix) else key is None
    assert {"req_q_full_do_cookies", "req_q_full_drop", "syncookies_sent", "syncookies_failed"} <= {
        each.name for each in found.evidence
    }


@pytest.mark.parametrize(
    ("every", "new", "profile", "verdict", "key", "fix"),
    [
        ("0", "2", "kubernetes-node", PASS, "default", None),
        ("0", "1", "kubernetes-node", WARN, "default", "2"),
        ("2", "1", "kubernetes-node", PASS, "all", None),
        ("1", "0", "kubernetes-node", WARN, "all", "2"),
        ("0", "1", "web", PASS, "default", None),
        ("0", "x", "web", WARN, "all", "2"),
    ],
)
def test_of_two_reverse_path_filters_the_larger_one_counts(
    every: str, new: str, profile: str, verdict: Verdict, key: str, fix: str | None
) -> None:
    state = kernel({"net.ipv4.conf.all.rp_filter": every, "net.ipv4.conf.default.rp_filter": new})
    found = testing.judged("sysctl.rp-filter", OURS, state, NOT_RUN, profile=profile)
    assert found.verdict is verdict
    assert f"net.ipv4.conf.{key}.rp_filter is " in found.summary
    assert found.fix == (None if fix is None else SettingFix("sysctl", "net.ipv4.conf.all.rp_filter", fix, every))


def test_strict_overcommit_is_left_to_a_person() -> None:
    found = testing.judged("sysctl.overcommit", OURS, kernel(), boot({}), profile="postgres")
    assert found.verdict is WARN
    assert isinstance(found.fix, ByHand)
    assert found.fix.commands[0].startswith("grep -e CommitLimit")


def test_without_swap_swappiness_decides_nothing() -> None:
    none = SwapSpace(total_bytes=0, used_bytes=0, pages_in_since_boot=0, pages_out_since_boot=0)
    assert testing.judged("sysctl.swappiness", OURS, kernel(), boot({}), none).verdict is NOT_APPLICABLE


@pytest.mark.parametrize(
    ("mode", "profile", "verdict"),
    [
        ("never", "latency", PASS),
        ("madvise", "latency", FAIL),
        ("always", "latency", FAIL),
        ("madvise", "redis", PASS),
        ("always", "redis", FAIL),
        ("always", "postgres", WARN),
    ],
)
def test_the_mode_of_huge_pages_is_judged(mode: str, profile: str, verdict: Verdict) -> None:
    found = testing.judged("sysctl.thp", OURS, HugePages(enabled=mode, defrag="madvise"), profile=profile)
    assert found.verdict is verdict
    assert (found.fix is None) is (verdict is PASS)
    if found.fix is not None:
        wanted = found.fix.value if isinstance(found.fix, SettingFix) else None
        assert found.fix == SettingFix("huge-pages", "transparent_hugepage.enabled", wanted or "", mode)
        assert wanted in ("never", "madvise")


def pages_at_boot(value: str | None, *writers: LateWriter) -> HugePagesAtBoot:
    return HugePagesAtBoot(
        value=value, where="somewhere", applied=True, not_applied=None, overridden=(), late_writers=writers
    )


def sets_pages(value: str | None, *, enabled: bool = True) -> LateWriter:
    key = "transparent_hugepage.enabled"
    return LateWriter(
        name="a unit", file="/a", keys=(key,), values={} if value is None else {key: value}, enabled=enabled
    )


@pytest.mark.parametrize(
    ("at_boot", "verdict", "sure"),
    [
        (pages_at_boot("never"), PASS, True),
        (pages_at_boot("madvise"), PASS, True),
        (pages_at_boot("always"), FAIL, True),
        (pages_at_boot(None), WARN, False),
        (pages_at_boot("always", sets_pages("never")), PASS, True),
        (pages_at_boot("never", sets_pages("always")), FAIL, True),
        (pages_at_boot("never", sets_pages("always", enabled=False)), PASS, True),
        (pages_at_boot("never", sets_pages(None)), WARN, False),
        (pages_at_boot("never", sets_pages(None), sets_pages("never")), WARN, False),
        (pages_at_boot("never", sets_pages("always"), sets_pages("never")), WARN, False),
    ],
)
def test_the_mode_of_huge_pages_is_judged_as_the_next_boot_brings_it_too(
    at_boot: HugePagesAtBoot, verdict: Verdict, *, sure: bool
) -> None:
    now = HugePages(enabled="never", defrag="madvise")
    found = testing.judged("sysctl.thp", OURS, now, at_boot, profile="redis")
    assert (found.verdict, found.confidence is Confidence.HIGH) == (verdict, sure), found
    kept = SettingFix("huge-pages", "transparent_hugepage.enabled", "never", "never")
    assert found.fix == (None if verdict is PASS else kept)
    assert ("not known" in found.summary) is (not sure)


def test_the_huge_pages_of_a_container_are_the_host_s() -> None:
    found = testing.judged("sysctl.thp", CONTAINER, HugePages(enabled="always", defrag=None), profile="redis")
    assert found.verdict is NOT_APPLICABLE
    assert "ask who runs the host" in found.summary


# Tables that can be full


@pytest.mark.parametrize(
    ("found", "changed", "verdict", "words"),
    [
        (handles(), {}, PASS, "use of all file handles"),
        (handles(allocated=80, maximum=100), {}, PASS, "is 80 %"),
        (handles(allocated=81, maximum=100), {}, FAIL, "is 81 %, at most 80 % wanted (house)"),
        (handles(allocated=0), {}, PASS, "is 0 %"),
        (handles(maximum=9223372036854775807), {}, PASS, "is 0 %"),
        (handles(maximum=0), {}, UNKNOWN, "fs.file-max is 0"),
        (handles(fullest_service_open=1000), {}, FAIL, "use by nginx of its own limit of open files is 97.7 %"),
        (handles(fullest_service=None, fullest_service_open=None, fullest_service_limit=None), {}, PASS, "all file"),
        (handles(), {"fs.nr_open": "65536"}, WARN, "fs.nr_open is 65,536 files, at least 1,048,576 files wanted"),
        (handles(allocated=99, maximum=100), {"fs.nr_open": "65536"}, FAIL, "is 99 %"),
        (handles(), {"fs.nr_open": unmeasured(Reason.PERMISSION, "permission denied")}, UNKNOWN, "permission denied"),
    ],
)
def test_file_handles_are_judged_by_the_tightest_of_three_limits(
    found: FileHandles, changed: dict[str, Any], verdict: Verdict, words: str
) -> None:
    judged = testing.judged("sysctl.file-handles", OURS, kernel(changed), boot({}), found)
    assert judged.verdict is verdict
    assert words in judged.summary
    assert (judged.fix is not None) is (verdict in (WARN, FAIL))


def test_file_handles_of_an_image_are_judged_by_what_will_be_set() -> None:
    judged = testing.judged("sysctl.file-handles", NOT_RUN, NO_KERNEL, boot({"fs.nr_open": "1024"}))
    assert judged.verdict is WARN
    assert judged.summary.startswith("after the next boot, fs.nr_open is 1,024 files")


@pytest.mark.parametrize("owner", [CONTAINER, PRIVILEGED])
def test_the_file_handles_of_a_container_are_the_host_s(owner: KernelOwner) -> None:
    judged = testing.judged("sysctl.file-handles", owner, kernel(), boot({}), handles(allocated=99, maximum=100))
    assert judged.verdict is NOT_APPLICABLE
    assert "ask who runs the host" in judged.summary


@pytest.mark.parametrize(
    ("count", "maximum", "profile", "verdict", "words"),
    [
        (0, 262144, "web", PASS, "is 0 %"),
        (80, 100, "web", PASS, "is 80 %"),
        (90, 100, "web", FAIL, "use of the table of tracked connections is 90 %"),
        (0, 262144, "kubernetes-node", PASS, "%"),
        (0, 65536, "kubernetes-node", WARN, "is 65,536 connections, at least 131,072 connections wanted (Kubernetes)"),
        (65000, 65536, "kubernetes-node", FAIL, "is 99.2 %"),
    ],
)
def test_the_connection_tracking_table_has_room(
    count: int, maximum: int, profile: str, verdict: Verdict, words: str
) -> None:
    state = kernel({"net.netfilter.nf_conntrack_max": str(maximum)})
    found = testing.judged(
        "sysctl.conntrack", OURS, state, boot({}), Conntrack(count=count, maximum=maximum), profile=profile
    )
    assert found.verdict is verdict
    assert words in found.summary
    assert (found.fix is not None) is (verdict in (WARN, FAIL))


def test_without_the_conntrack_module_its_table_is_not_applicable() -> None:
    absent = not_applicable("the module nf_conntrack is not loaded")
    state = kernel({"net.netfilter.nf_conntrack_max": absent})
    assert testing.judged("sysctl.conntrack", OURS, state, boot({})) == absent_judgement(absent)


def test_inotify_has_a_finding_and_a_fix_for_each_of_its_settings() -> None:
    use = InotifyUse(instances=12, watches=900, most_watches_of_a_user=800, processes_unseen=3)
    state = kernel({"fs.inotify.max_user_watches": "524288"})
    found = testing.judged_each("sysctl.inotify", OURS, state, boot({}), use, profile="kubernetes-node")
    watches, instances = found["fs.inotify.max_user_watches"], found["fs.inotify.max_user_instances"]
    assert (watches.verdict, watches.fix) == (PASS, None)
    assert instances.verdict is WARN
    assert instances.fix == SettingFix("sysctl", "fs.inotify.max_user_instances", "512", "128")
    assert {each.name: each.value for each in instances.evidence}["most_watches_of_a_user"] == 800


# The next boot

SWAPPINESS, SOMAXCONN = "vm.swappiness", "net.core.somaxconn"
TUNED = LateWriter(name="tuned", file="/etc/tuned/x/tuned.conf", keys=(SOMAXCONN,), values={}, enabled=True)
DOCKER = LateWriter(name="docker", file="/lib/systemd/system/docker.service", keys=(), values={}, enabled=True)


def lasting(key: str, now: str, later: KeyAtBoot | str, *writers: LateWriter, **more: Any) -> Judgement:
    profile = more.pop("profile", "web")
    truth = boot({key: later}, *writers, **more)
    return testing.judged_each("sysctl.persistence", OURS, kernel({key: now}), truth, profile=profile)[key]


@pytest.mark.parametrize(
    ("now", "later", "verdict", "words", "fix"),
    [
        ("4096", at_boot("4096"), PASS, "4096 now and after the next boot: /etc/sysctl.d/50-x.conf:3", None),
        ("4096", at_boot("04096 "), PASS, "4096 now and after the next boot", None),
        (
            "8192",
            at_boot("4096", "the kernel's default"),
            WARN,
            "8192 now and 4096 after the next boot: set now, lost at reboot; nobody sets it on disk",
            SettingFix("sysctl", SOMAXCONN, "8192", "8192"),
        ),
        (
            "4096",
            at_boot("128", "the kernel's default"),
            FAIL,
            "set now, lost at reboot",
            SettingFix("sysctl", SOMAXCONN, "4096", "4096"),
        ),
        (
            "128",
            at_boot("4096"),
            WARN,
            "on disk, not loaded (/etc/sysctl.d/50-x.conf:3)",
            SettingFix("sysctl", SOMAXCONN, "4096", "128", at_boot=False),
        ),
        (
            "4096",
            at_boot("1000"),
            FAIL,
            "set now, lost at reboot; /etc/sysctl.d/50-x.conf:3 sets the other",
            SettingFix("sysctl", SOMAXCONN, "4096", "4096"),
        ),
        (
            "4096",
            at_boot("1000", "/etc/sysctl.d/60-y.conf:1", "/etc/sysctl.d/50-x.conf:3 = 4096"),
            FAIL,
            "/etc/sysctl.d/50-x.conf:3 is overridden by /etc/sysctl.d/60-y.conf:1",
            SettingFix("sysctl", SOMAXCONN, "4096", "4096"),
        ),
        ("64", at_boot("128"), FAIL, "on disk, not loaded", SettingFix("sysctl", SOMAXCONN, "1024", "64")),
        (
            "2048",
            at_boot("4096"),
            WARN,
            "2048 now and 4096 after the next boot",
            SettingFix("sysctl", SOMAXCONN, "4096", "2048", at_boot=False),
        ),
    ],
)
def test_a_setting_is_compared_with_what_it_will_be_after_the_next_boot(
    now: str, later: KeyAtBoot, verdict: Verdict, words: str, fix: SettingFix | None
) -> None:
    found = lasting(SOMAXCONN, now, later)
    assert found.verdict is verdict
    assert words in found.summary
    assert found.fix == fix


@pytest.mark.parametrize("beaten", [(), ("/etc/sysctl.d/50-x.conf:3 = 4096",)])
def test_what_could_not_be_read_of_the_next_boot_is_said_and_never_taken_for_nothing(beaten: tuple[str, ...]) -> None:
    later = replace(at_boot(None, "/etc/x.conf cannot be read here", *beaten), origin="unread")
    found = lasting(SOMAXCONN, "4096", later)
    assert found.verdict is UNKNOWN
    said = "after the next boot is not known: /etc/x.conf cannot be read here"
    assert found.summary == f"{SOMAXCONN} is 4096 now; what it will be {said}"
    image = testing.judged("sysctl.somaxconn", NOT_RUN, NO_KERNEL, boot({SOMAXCONN: later}), profile="web")
    assert (image.verdict, said in image.summary) == (UNKNOWN, True)


def test_a_pass_says_what_was_not_looked_at() -> None:
    said = f"sysctl.extra in /etc/credstore {NOT_LOOKED_AT}"
    truth = replace(boot({SOMAXCONN: at_boot("4096")}), problems=("/x.conf:1: not an assignment", said))
    found = testing.judged_each("sysctl.persistence", OURS, kernel({SOMAXCONN: "4096"}), truth)[SOMAXCONN]
    assert (found.verdict, found.confidence) == (PASS, Confidence.LOW)
    assert [each.value for each in found.evidence if each.name == "not_looked_at"] == [said]


@pytest.mark.parametrize("file", ["/etc/sysctl.d/99-x.conf", "/etc/sysctl.conf", "/usr/lib/sysctl.d/90-zz.conf"])
def test_a_file_that_is_read_after_ours_has_to_be_edited_by_hand(file: str) -> None:
    found = lasting(SOMAXCONN, "4096", at_boot("128", f"{file}:7"))
    assert found.verdict is FAIL
    assert isinstance(found.fix, ByHand)
    assert f"let {file}:7 say net.core.somaxconn = 4096" in found.fix.summary
    assert "overrides it" in found.fix.summary


def test_what_a_later_file_says_rightly_only_has_to_be_loaded() -> None:
    found = lasting(SOMAXCONN, "128", at_boot("4096", "/etc/sysctl.d/99-x.conf:7"))
    assert found.verdict is WARN
    assert found.fix == SettingFix("sysctl", SOMAXCONN, "4096", "128", at_boot=False)
    assert kernel_settings.summary(found.fix) == "set net.core.somaxconn to 4096, now, as the next boot will"
    assert kernel_settings.commands(found.fix) == ("sysctl -w net.core.somaxconn=4096",)
    assert kernel_settings.undo(found.fix) == ("sysctl -w net.core.somaxconn=128",)


def test_where_nothing_applies_sysctl_d_a_file_of_ours_is_not_offered() -> None:
    found = lasting(SOMAXCONN, "4096", at_boot("128", "the kernel's default"), init="none")
    assert isinstance(found.fix, ByHand)


def test_nobody_sets_it_and_the_default_is_not_known() -> None:
    found = lasting(SOMAXCONN, "4096", at_boot(None, "nobody sets it"))
    assert (found.verdict, found.reason) == (UNKNOWN, Reason.UNSUPPORTED)
    assert "4096 now; nobody sets it on disk" in found.summary


@pytest.mark.parametrize("later", [at_boot("128"), at_boot(None, "nobody sets it")])
def test_an_enabled_late_writer_of_a_key_keeps_it(later: KeyAtBoot) -> None:
    found = lasting(SOMAXCONN, "2048", later, TUNED)
    assert (found.verdict, found.confidence, found.fix) == (PASS, Confidence.LOW, None)
    assert "tuned may set it after each boot (/etc/tuned/x/tuned.conf)" in found.summary


@pytest.mark.parametrize(
    ("now", "sets", "later", "verdict", "wanted"),
    [
        ("2048", "2048", "128", PASS, None),
        ("2048", "2048", None, PASS, None),
        ("2048", "4096", "2048", WARN, "4096"),
        ("2048", "128", "2048", FAIL, "2048"),
        ("64", "128", "2048", FAIL, "1024"),
    ],
)
def test_what_a_late_writer_sets_is_what_comes_after_the_boot(
    now: str, sets: str, later: str | None, verdict: Verdict, wanted: str | None
) -> None:
    writer = replace(TUNED, values={SOMAXCONN: sets})
    found = lasting(SOMAXCONN, now, at_boot(later), replace(writer, name="rc.local"), writer)
    assert (found.verdict, found.confidence) == (verdict, Confidence.HIGH)
    assert "tuned sets it after" in found.summary
    if wanted == sets:
        assert found.fix == SettingFix("sysctl", SOMAXCONN, sets, now, at_boot=False)
    elif wanted is not None:
        assert isinstance(found.fix, ByHand)
        assert f"let tuned set {SOMAXCONN} = {wanted} (/etc/tuned/x/tuned.conf)" in found.fix.summary


@pytest.mark.parametrize("sets", [{}, {SOMAXCONN: "128"}])
@pytest.mark.parametrize("later", ["128", "2048"])
def test_of_late_writers_that_differ_none_is_believed(sets: dict[str, str], later: str) -> None:
    one, other = replace(TUNED, name="rc.local", values=sets), replace(TUNED, values={SOMAXCONN: "2048"})
    for writers in ((one, other), (other, one)):
        found = lasting(SOMAXCONN, "2048", at_boot(later), *writers)
        assert (found.verdict, found.confidence) == (PASS, Confidence.LOW)


@pytest.mark.parametrize("writer", [replace(TUNED, enabled=False), replace(TUNED, keys=(SWAPPINESS,)), DOCKER])
def test_a_late_writer_that_is_off_or_sets_something_else_keeps_nothing(writer: LateWriter) -> None:
    found = lasting(SOMAXCONN, "2048", at_boot("128"), writer)
    assert found.verdict is FAIL
    assert found.confidence is (Confidence.LOW if writer is DOCKER else Confidence.HIGH)
    assert ("docker" in {each.value for each in found.evidence}) is (writer is DOCKER)


def test_persistence_has_one_finding_for_each_judged_key() -> None:
    found = testing.judged_each("sysctl.persistence", OURS, kernel(), boot({}))
    assert set(found) == {
        "fs.nr_open",
        "net.core.somaxconn",
        "net.ipv4.conf.all.rp_filter",
        "net.ipv4.ip_local_port_range",
        "net.ipv4.tcp_slow_start_after_idle",
        "net.ipv4.tcp_syncookies",
        "net.ipv4.tcp_tw_reuse",
        "vm.max_map_count",
        "vm.swappiness",
    }
    assert {each.verdict for each in found.values()} == {PASS}
    off = kernel({"net.ipv4.tcp_syncookies": "0"})
    assert "net.ipv4.tcp_max_syn_backlog" in testing.judged_each("sysctl.persistence", OURS, off, boot({}))


@pytest.mark.parametrize(
    ("every", "new", "after", "verdict"),
    [
        ("0", "2", "2", PASS),
        ("0", "2", "0", FAIL),
        ("0", "2", "1", WARN),
        ("0", "0", "2", None),
        ("2", "1", "0", None),
        ("x", "2", "2", None),
        ("0", "x", "2", None),
    ],
)
def test_what_new_interfaces_begin_with_must_last_where_it_is_what_counts(
    every: str, new: str, after: str, verdict: Verdict | None
) -> None:
    key = "net.ipv4.conf.default.rp_filter"
    state = kernel({"net.ipv4.conf.all.rp_filter": every, key: new})
    found = testing.judged_each(
        "sysctl.persistence", OURS, state, boot({"net.ipv4.conf.all.rp_filter": every, key: after})
    )
    judged = found.get(key)
    assert (None if judged is None else judged.verdict) is verdict
    assert "net.ipv4.conf.all.rp_filter" in found


def test_a_key_that_is_missing_or_not_running_is_no_failure_of_persistence() -> None:
    found = testing.judged_each("sysctl.persistence", NOT_RUN, NO_KERNEL, boot({}))
    assert set(found.values()) == {absent_judgement(NOT_RUN)}
    absent = not_applicable("the module nf_conntrack is not loaded")
    state = kernel({"net.netfilter.nf_conntrack_max": absent})
    found = testing.judged_each("sysctl.persistence", OURS, state, boot({}), profile="kubernetes-node")
    assert found["net.netfilter.nf_conntrack_max"] == absent_judgement(absent)


def test_a_key_of_a_module_that_is_loaded_too_late_says_so() -> None:
    key = "net.netfilter.nf_conntrack_max"
    late = replace(at_boot(None), needs_module="nf_conntrack")
    found = lasting(key, "262144", late, profile="kubernetes-node")
    assert (found.verdict, found.reason) == (UNKNOWN, Reason.UNSUPPORTED)
    assert "applied before nf_conntrack is loaded" in found.summary


def test_what_boots_a_container_is_the_host_s_business() -> None:
    found = testing.judged("sysctl.persistence", CONTAINER, kernel(), boot({}))
    assert found.verdict is NOT_APPLICABLE
    assert "ask who runs the host" in found.summary


def test_a_key_on_which_profiles_contradict_each_other_is_unknown() -> None:
    both = Limits({"sysctl.overcommit": {"mode": Conflict("redis says 1, postgres says 2")}})
    found = testing.judged_each("sysctl.persistence", OURS, kernel(), boot({}), limits=both)
    assert found["vm.overcommit_memory"].reason is Reason.CONFLICT


@given(now=COUNTS, later=COUNTS, limit=COUNTS, kind=st.sampled_from([AtLeast, OneOf]))
def test_what_persistence_proposes_passes_and_is_never_worse_than_what_is_there(
    catalogue: Catalogue, now: int, later: int, limit: int, kind: type
) -> None:
    wanted: Any = AtLeast(pass_limit=limit, unit="", source="house: a test")
    if kind is OneOf:
        wanted = OneOf(values=(limit, now + 1), unit="", source="house: a test")
    limits = Limits({"sysctl.somaxconn": {"backlog": wanted}})
    truth = boot({SOMAXCONN: str(later)})
    state = kernel({SOMAXCONN: str(now)})
    found = testing.judged_each("sysctl.persistence", OURS, state, truth, limits=limits)[SOMAXCONN]
    if now == later:
        assert found.verdict is PASS
        return
    assert found.verdict is (WARN if wanted.verdict(later) is PASS else FAIL)
    assert isinstance(found.fix, SettingFix)
    value = int(found.fix.value)
    assert wanted.verdict(value) is PASS
    if kind is AtLeast:
        assert value >= max(each for each in (now, later, limit) if each >= limit)


@pytest.mark.parametrize("now", ["", "nonsense", "4096 4096"])
def test_a_value_that_is_none_of_its_key_is_not_compared_with_the_one_after_the_boot(now: str) -> None:
    found = lasting(SOMAXCONN, now, "4096")
    assert (found.verdict, found.reason) == (UNKNOWN, Reason.ERROR)
    assert "which is not what this key holds" in found.summary


@pytest.mark.parametrize("default", [None, "4096"])
def test_a_line_that_nothing_applies_is_not_told_as_nobody_setting_the_key(default: str | None) -> None:
    line = at_boot(default, "the kernel's default", "/etc/sysctl.d/10-a.conf:1 = 128")
    said = "/etc/sysctl.d/10-a.conf:1 = 128 is on disk, and nothing applies it at boot"
    found = lasting(SOMAXCONN, "8192", line, init="none")
    assert said in found.summary
    assert "nobody sets" not in found.summary
    if default is None:
        image = testing.judged("sysctl.somaxconn", NOT_RUN, NO_KERNEL, boot({SOMAXCONN: line}, init="none"))
        assert said in image.summary
