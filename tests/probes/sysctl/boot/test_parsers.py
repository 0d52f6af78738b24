"""The readers of boot truth, given anything, and what the kernel makes of a text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support import boot_trees
from vdscheck.linux import sysctl_d, sysctl_glob
from vdscheck.linux.sysctl_d import SettingsFile
from vdscheck.probes.sysctl.boot import procps
from vdscheck.probes.sysctl.boot.accepted_values import KINDS, as_the_kernel_takes_it

# Parsers, given anything


CONTENT = st.binary(max_size=200) | st.lists(st.sampled_from(boot_trees.PIECES), max_size=40).map(b"".join)


@given(contents=st.lists(CONTENT, max_size=4), version=st.sampled_from([None, 252, 257]))
def test_any_bytes_are_read_without_an_exception(contents: list[bytes], version: int | None) -> None:
    files = [SettingsFile(f"/f{place}", content) for place, content in enumerate(contents)]
    keys = [b"vm/swappiness", b"net/ipv4/ip_forward"]
    for found in (sysctl_d.applied(files, keys, version), procps.applied_by_procps(files, keys)):
        for write in found.writes.values():
            file, _, line = write.where.rpartition(":")
            content = files[int(file.removeprefix("/f"))].content
            assert 1 <= int(line) <= content.count(b"\n") + 1
            assert write.value in content


@given(pattern=CONTENT, name=st.text("abc.*[]{}-", max_size=8).map(str.encode))
def test_a_pattern_of_any_bytes_matches_or_does_not(pattern: bytes, name: bytes) -> None:
    for braces in (True, False):
        assert sysctl_glob.matches(sysctl_glob.compiled(pattern, braces=braces), name) in {True, False}


@given(text=st.text(max_size=30) | st.from_regex(r"[-+0-9a-fx ,\t\n]{0,25}"), key=st.sampled_from([*KINDS, "x"]))
def test_any_text_is_taken_or_refused(text: str, key: str) -> None:
    taken = as_the_kernel_takes_it(key, text, None)
    assert taken is None or as_the_kernel_takes_it(key, taken, None) == taken


VALUES = [
    ("vm.swappiness", "010", None, "8"),
    ("vm.swappiness", "08", None, None),
    ("vm.swappiness", "-1", None, None),
    ("vm.swappiness", "201", None, None),
    ("vm.swappiness", "0", None, "0"),
    ("vm.swappiness", "", None, None),
    ("vm.swappiness", "+5", None, None),
    ("net.core.somaxconn", "7 8", None, "7"),
    ("net.core.somaxconn", "2147483648", None, None),
    ("net.ipv4.ip_local_port_range", "2000", "32768 60999", "2000 60999"),
    ("net.ipv4.ip_local_port_range", "2000", None, None),
    ("net.ipv4.ip_local_port_range", "3000 2000", None, None),
    ("net.ipv4.ip_local_port_range", "80 2000", None, None),
    ("net.ipv4.ip_local_port_range", "1024\t65535", None, "1024 65535"),
    ("net.ipv4.ip_local_reserved_ports", "9148,8080", None, "8080,9148"),
    ("net.ipv4.ip_local_reserved_ports", "1-3,4", None, "1-4"),
    ("net.ipv4.ip_local_reserved_ports", "8080, 9148", None, None),
    ("net.ipv4.ip_local_reserved_ports", "", None, ""),
    ("net.ipv4.ip_local_reserved_ports", "1,", None, "1"),
    ("net.ipv4.ip_local_reserved_ports", ",1", None, None),
    ("net.ipv4.tcp_tw_reuse", "3", None, None),
]


@pytest.mark.parametrize(("key", "text", "before", "after"), VALUES)
def test_what_the_kernel_makes_of_a_text(key: str, text: str, before: str | None, after: str | None) -> None:
    assert as_the_kernel_takes_it(key, text, before) == after
