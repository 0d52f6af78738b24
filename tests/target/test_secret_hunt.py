"""No secret that goes in comes out: a different one in every input, and all that is written is searched."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.redis_server import RedisServer
from tests.target.secret_hunt import (
    Hunt,
    Secrets,
    fields,
    forms_of,
    hunting,
    hunting_programs,
    left,
    never_done,
    options,
)


@pytest.fixture(scope="module")
def shut(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A real Redis that asks for a password that nobody knows."""
    with RedisServer(tmp_path_factory.mktemp("redis"), "--requirepass", "nobody knows this") as server:
        yield server


@pytest.fixture(scope="module")
def core(shut: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hunt]:
    with hunting(tmp_path_factory.mktemp("hunt"), shut=shut.port, whole=False) as hunt:
        yield hunt


def test_no_secret_comes_out(core: Hunt) -> None:
    assert core.found() == {}


@pytest.mark.slow
def test_no_secret_comes_out_of_any_option_or_key(shut: RedisServer, tmp_path: Path) -> None:
    with hunting(tmp_path, shut=shut.port, whole=True) as hunt:
        assert hunt.found() == {}


SOON = ("vdscheck.target.cluster:LOGIN_LIMIT_S", "a moment")
"""So that a day's tests need not wait as long as a user may."""


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hunt]:
    with hunting_programs(tmp_path_factory.mktemp("programs")) as hunt:
        yield hunt


def test_a_program_that_never_ends_learns_and_tells_nothing_and_is_ended(programs: Hunt) -> None:
    assert programs.found(mutations=(SOON,)) == {}
    began, stayed = left(programs)
    # On a busy machine the moment may be over before each of them has begun.
    assert began >= 3
    assert stayed == []


@pytest.mark.slow
def test_a_program_that_never_ends_is_ended_at_the_programs_own_limit(programs: Hunt) -> None:
    assert programs.found() == {}
    assert left(programs) == (5, [])


@pytest.mark.slow
def test_the_hunt_sees_what_such_a_program_was_told(programs: Hunt) -> None:
    told = programs.found(mutations=(SOON, ("vdscheck.measure.supervisor:leave_out_of", "nothing")))
    assert {each.partition(",")[0] for each in told} == {f"for {name}" for name in never_done(programs)}
    left(programs)


REDACTIONS = {
    "errors of Redis": ("redis", ("vdscheck.probes.redis.messages:redact", "identity")),
    "words of INFO": ("redis", ("vdscheck.probes.redis.info:redacted", "identity")),
    "names in a latency": ("redis", ("vdscheck.probes.redis.redis_probes:redacted", "identity")),
    "other spellings": ("redis", ("vdscheck.target.secrets:_spellings", "alone")),
    "base64": ("redis", ("vdscheck.target.secrets:_in_base64", "none")),
    "addresses that are registered": ("redis", ("vdscheck.target.secrets:_Known.add", "nothing")),
    "who logs in": ("redis", ("vdscheck.probes.redis.url:RedisServer.user", "user")),
    "the command": ("redis", ("vdscheck.target.secrets:without_secrets", "identity")),
    "messages of an API server": ("kubernetes", ("vdscheck.target.cluster:redact", "identity")),
    "names in a cluster": ("kubernetes", ("vdscheck.probes.cluster.cluster_probes:redacted", "identity")),
    "what is registered": ("kubernetes", ("vdscheck.target.credentials:register", "nothing")),
    "why nobody can log in": ("kubernetes", ("vdscheck.target.credentials:why_not", "text")),
    "no login without TLS": ("kubernetes", ("vdscheck.target.cluster:Cluster._credentials", "sent")),
    "the environment of programs": ("kubernetes", ("vdscheck.measure.supervisor:leave_out_of", "nothing")),
    "the address of an API server": ("kubernetes", ("vdscheck.target.credentials:base_address", "address")),
    "refusals": ("options", ("vdscheck.render.formats:hide_addresses", "identity")),
}
"""What keeps secrets from being shown, each with what it is when it is taken away."""


@pytest.mark.slow
@pytest.mark.parametrize("redaction", REDACTIONS)
def test_without_one_redaction_the_hunt_finds_something(core: Hunt, redaction: str) -> None:
    area, mutation = REDACTIONS[redaction]
    assert core.found(area, (mutation,))


def test_what_is_hunted_is_known_by_nobodys_list() -> None:
    assert {"token", "password", "client-secret", "refresh-token", "id-token"} <= set(fields())
    assert {("run", "--redis"), ("cluster", "--kubeconfig"), ("judge", ""), ("redis", "")} <= set(options())


@pytest.mark.parametrize("form", forms_of(""))
def test_the_hunt_sees_a_secret_in_every_form(form: str) -> None:
    secrets = Secrets()
    secret = secrets.new("here", "/+'")
    assert secrets.found_in(f"and then {forms_of(secret)[form]} was said") == {"here"}
    assert secrets.found_in("and then nothing was said") == set()
