"""Our file's content: what is put in, what is taken out, and whose lines survive."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vdscheck.fixes.sysctl.drop_in import HEADER, merged, restored, says

REUSE = "net.ipv4.tcp_tw_reuse"
LINES = st.lists(
    st.sampled_from(
        [
            b"# a word",
            b"",
            b"vm.swappiness = 10",
            b"-vm.swappiness = 20",
            b"net/ipv4/tcp_tw_reuse=0",
            b"net.ipv4.tcp_tw_reuse = 2",
            b"-net.ipv4.tcp_tw_reuse",
            b"net.ipv4.tcp_* = 0",
            b"kernel.panic = 10\r",
            b"caf\xe9",
            b"; no",
        ]
    ),
    max_size=8,
)
SETTINGS = st.dictionaries(
    st.sampled_from([REUSE, "vm.swappiness", "net.core.somaxconn", "net.ipv4.ip_local_port_range"]),
    st.sampled_from(["1", "4096", "1024 65535"]),
    min_size=1,
)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (None, HEADER + b"net.ipv4.tcp_tw_reuse = 1\n"),
        (b"", HEADER + b"net.ipv4.tcp_tw_reuse = 1\n"),
        (b"# mine\nvm.swappiness = 1", HEADER + b"# mine\nvm.swappiness = 1\nnet.ipv4.tcp_tw_reuse = 1\n"),
        (b"net/ipv4/tcp_tw_reuse=0\n", HEADER + b"net.ipv4.tcp_tw_reuse = 1\n"),
        (b" - net.ipv4.tcp_tw_reuse = 0 \nx.y = 1\n", HEADER + b"x.y = 1\nnet.ipv4.tcp_tw_reuse = 1\n"),
        (b"-net.ipv4.tcp_tw_reuse\n", HEADER + b"net.ipv4.tcp_tw_reuse = 1\n"),
        (b"net.ipv4.tcp_tw_reuse_x = 0\n", HEADER + b"net.ipv4.tcp_tw_reuse_x = 0\nnet.ipv4.tcp_tw_reuse = 1\n"),
        (HEADER + b"vm.swappiness = 1\n", HEADER + b"vm.swappiness = 1\nnet.ipv4.tcp_tw_reuse = 1\n"),
        # What systemd takes for the end of a line is one here: no neighbour is lost.
        (
            b"kernel.panic=1\rnet.ipv4.tcp_tw_reuse=0\rvm.swappiness=2\r",
            HEADER + b"kernel.panic=1\rvm.swappiness=2\rnet.ipv4.tcp_tw_reuse = 1\n",
        ),
        (
            b"kernel.panic=1\0net.ipv4.tcp_tw_reuse=0\0vm.swappiness=2",
            HEADER + b"kernel.panic=1\0vm.swappiness=2\nnet.ipv4.tcp_tw_reuse = 1\n",
        ),
        (
            b"kernel.panic=1\r\nnet.ipv4.tcp_tw_reuse=0\r\nvm.swappiness=2\r\n",
            HEADER + b"kernel.panic=1\r\nvm.swappiness=2\r\nnet.ipv4.tcp_tw_reuse = 1\n",
        ),
    ],
)
def test_a_line_is_replaced_or_added_and_all_else_stays(before: bytes | None, after: bytes) -> None:
    assert merged(before, {REUSE: "1"}) == after


@pytest.mark.parametrize(
    ("now", "found", "kept"),
    [
        (HEADER + b"vm.swappiness = 10\n", None, ()),
        (None, None, ()),
        (HEADER + b"vm.swappiness = 10\n# more\n", b"# more\n", ()),
        (HEADER + b"vm.swappiness=10\nkernel.panic = 1\n", b"kernel.panic = 1\n", ()),
        (HEADER + b"vm.swappiness = 30\n", b"vm.swappiness = 30\n", ("vm.swappiness",)),
        (b"", None, ()),
    ],
)
def test_what_was_not_there_before_is_taken_out_again(now: bytes | None, found: bytes | None, kept: tuple[str]) -> None:
    said = restored(now, None, HEADER + b"vm.swappiness = 10\n")
    assert (said.content, said.kept) == (found, kept)


@pytest.mark.parametrize(
    ("now", "found", "kept"),
    [
        (b"vm.swappiness = 10\n", b"vm.swappiness = 60\n", ()),
        (b"vm.swappiness = 10\n# more\n", b"vm.swappiness = 60\n# more\n", ()),
        (b"vm.swappiness = 60\n# more\n", b"vm.swappiness = 60\n# more\n", ()),
        (b"vm.swappiness = 1\n", b"vm.swappiness = 1\n", ("vm.swappiness",)),
        (None, None, ("vm.swappiness",)),
    ],
)
def test_a_line_that_was_there_before_comes_back(now: bytes | None, found: bytes | None, kept: tuple[str]) -> None:
    said = restored(now, b"vm.swappiness = 60\n", b"vm.swappiness = 10\n")
    assert (said.content, said.kept) == (found, kept)


@given(st.none() | LINES.map(b"\n".join), SETTINGS)
def test_what_is_put_in_is_said_once_and_comes_out_again(before: bytes | None, settings: dict[str, str]) -> None:
    after = merged(before, settings)
    assert says(after, settings) == settings
    assert merged(after, settings) == after
    assert after.endswith(b"\n")
    assert restored(after, before, after).content == before
    assert restored(before, before, after).content == before


@given(LINES.map(b"\n".join), SETTINGS, LINES.map(b"\n".join))
def test_what_somebody_adds_is_never_lost(before: bytes, settings: dict[str, str], added: bytes) -> None:
    after = merged(before, settings)
    content = restored(after + added + b"\n", before, after).content or b""
    for line in added.split(b"\n"):
        if line.startswith((b"#", b";", b"kernel", b"caf", b"net.ipv4.tcp_*")):
            assert line in content


def test_a_line_with_our_value_that_somebody_added_is_not_ours() -> None:
    after = HEADER + b"vm.swappiness = 10\n"
    for added in (b"vm.swappiness = 10\n", b"vm/swappiness=10\n", b"-vm.swappiness = 10\n"):
        said = restored(after + added, None, after)
        assert said.content == added
        assert said.kept == ("vm.swappiness",)
        said = restored(after + added, b"vm.swappiness = 60\n", after)
        assert said.content == b"vm.swappiness = 60\n" + added
        assert said.kept == ("vm.swappiness",)
