"""A fix that may not do everything that it must, as in a systemd unit: refused before it changes anything."""

import os

import pytest

from tests.linux.test_ownership import NEW, OLD, ONLY, fix_of, parts
from tests.support.project import PROJECT

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can make namespaces")

PROGRAM = f'"$PYTHON" -m vdscheck --fix --yes --json {ONLY}'
READ_ONLY = {
    "ProtectSystem=full": (
        "mount -o remount,ro /etc/sysctl.d",
        "/etc/sysctl.d/90-vdscheck.conf cannot be written here",
    ),
    "ReadOnlyPaths=/var": (
        "mount -o remount,ro /var/lib/vdscheck",
        "/var/lib/vdscheck/journal cannot be written here",
    ),
    "ReadOnlyPaths=/proc/sys/net": (
        "mount -o bind,ro /proc/sys/net /proc/sys/net",
        "/proc/sys/net/core/somaxconn cannot be written here",
    ),
    "ReadOnlyPaths=/proc/sys/net/ipv4": (
        "mount -o bind,ro /proc/sys/net/ipv4 /proc/sys/net/ipv4",
        "/proc/sys/net/ipv4/tcp_slow_start_after_idle cannot be written here",
    ),
}


@pytest.mark.parametrize("name", READ_ONLY)
def test_what_is_read_only_is_found_before_anything_is_written(name: str) -> None:
    how, why = READ_ONLY[name]
    found, said = parts(
        f"""
        sysctl -q -w net.ipv4.tcp_slow_start_after_idle=1
        {how}
        {PROGRAM}; code >&2; echo ----
        values; written
        """
    )
    fix = fix_of(found[0])
    assert (fix["outcome"], said, found[1].splitlines()) == ("refused", ["code 3"], OLD)
    assert why in fix["detail"]


@pytest.mark.parametrize("name", ["ProtectSystem=full", "ReadOnlyPaths=/var"])
def test_a_plan_that_is_only_shown_names_what_is_read_only(name: str) -> None:
    how, why = READ_ONLY[name]
    found, said = parts(
        f"""
        sysctl -q -w net.ipv4.tcp_slow_start_after_idle=1
        {how}
        {PROGRAM} --dry-run; code >&2
        """
    )
    fix = fix_of(found[0])
    assert (fix["outcome"], said) == ("planned", ["code 0"])
    assert fix["detail"].startswith(f"--fix would change nothing here: {why}")


@pytest.mark.slow
@pytest.mark.parametrize("call", ["fsync", "fchmod", "renameat"])
@pytest.mark.parametrize("action", ["EPERM", "kill"])
def test_a_call_that_is_refused_is_met_before_anything_is_changed(call: str, action: str) -> None:
    """As by SystemCallFilter=: writing the journal, which comes first, takes each call that the rest takes."""
    found, said = parts(
        f"""
        sysctl -q -w net.ipv4.tcp_slow_start_after_idle=1
        PYTHONPATH={PROJECT} "$PYTHON" -m tests.support.refused {call} {action} {PROGRAM}; code >&2; echo ----
        values; ls -A /etc/sysctl.d; echo ----
        {PROGRAM}; code >&2; echo ----
        values
        """
    )
    assert found[1].splitlines() == OLD
    if action == "EPERM":
        assert fix_of(found[0])["outcome"] == "refused"
        assert said[0] == "code 3"
    assert fix_of(found[2])["outcome"] == "applied"
    assert (said[-1], found[3].splitlines()) == ("code 0", NEW)
