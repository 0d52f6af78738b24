"""Addresses of Redis servers: what they mean, what is refused, and that nothing secret is ever shown of them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vdscheck.plugin import SubjectError
from vdscheck.probes.redis.url import RedisServer, parse
from vdscheck.target.secrets import redact, without_secrets

MEANT = [
    ("redis://", {"host": "127.0.0.1", "port": 6379}, "127.0.0.1:6379"),
    ("redis://db", {"host": "db"}, "db:6379"),
    ("REDIS://db:7000/3", {"host": "db", "port": 7000, "database": 3}, "db:7000/3"),
    ("redis://db?db=4", {"database": 4}, "db:6379/4"),
    ("redis://:secret@db", {"username": None, "password": "secret"}, "db:6379"),
    ("redis://me:secret@db", {"username": "me", "password": "secret"}, "db:6379"),
    ("redis://me@db", {"username": "me", "password": None}, "db:6379"),
    ("redis://me:p@ss@db", {"username": "me", "password": "p@ss"}, "db:6379"),
    ("redis://me:p%40s%2Fs@db", {"password": "p@s/s"}, "db:6379"),
    ("redis://me:p/s:s?#@db/1", {"password": "p/s:s?#", "database": 1}, "db:6379/1"),
    ("redis://me:100%@db", {"password": "100%"}, "db:6379"),
    ("redis://:two words@db", {"password": "two words"}, "db:6379"),
    ("redis://db?username=me&password=secret", {"username": "me", "password": "secret"}, "db:6379"),
    ("rediss://db:6380", {"tls": True, "verify": True, "port": 6380}, "db:6380"),
    ("rediss://db?ssl_cert_reqs=none", {"verify": False}, "db:6379"),
    ("rediss://db?ssl_ca_certs=/ca&ssl_certfile=/c&ssl_keyfile=/k", {"ca_file": "/ca", "key_file": "/k"}, "db:6379"),
    ("redis://[::1]:7000", {"host": "::1", "port": 7000}, "[::1]:7000"),
    ("unix:///run/redis.sock", {"socket_path": "/run/redis.sock"}, "/run/redis.sock"),
    ("unix:///run/re@dis.sock?db=2", {"socket_path": "/run/re@dis.sock", "database": 2}, "/run/re@dis.sock:/2"),
    ("unix://me:p@ss@/run/redis.sock", {"username": "me", "password": "p@ss"}, "/run/redis.sock"),
    (" redis://db\n", {"host": "db"}, "db:6379"),
]


@pytest.mark.parametrize(("url", "fields", "name"), MEANT, ids=[url for url, *_ in MEANT])
def test_an_address_means_what_it_means_to_redis_py(url: str, fields: dict[str, object], name: str) -> None:
    server = parse(url)
    assert {field: getattr(server, field) for field in fields} == fields
    assert server.name == name
    assert server.named


@pytest.mark.parametrize(
    "url",
    [
        *("", "redis", "db:6379", "http://db", "redis:/db", "redis:///0x", "redis://db:0", "redis://db:65536"),
        *(
            "redis://d b",
            "redis://db /0",
            "redis://db:port",
            "redis://db/-1",
            "redis://db/0/1",
            "redis://[::1",
            "unix://",
        ),
        *(
            "unix://relative",
            "redis://db?ssl_cert_reqs=maybe",
            "redis://db?other=1",
            "redis://d\x00b",
            "redis://a/b@db",
        ),
        *("redis://my user:x@db", "redis://db:" + 5000 * "9"),
    ],
)
def test_what_cannot_be_read_is_refused_in_one_line_that_quotes_nothing(url: str) -> None:
    with pytest.raises(SubjectError) as refused:
        parse(url)
    said = str(refused.value)
    assert "\n" not in said
    assert said.startswith("the address of a Redis server cannot be read: ")
    assert len(url) < 9 or url not in said


@pytest.mark.parametrize(
    "url",
    [
        *("redis://", "redis://localhost", "redis://LocalHost", "redis://127.8.9.1", "redis://127.255.255.255"),
        *("redis://[::1]", "redis://[0:0:0:0:0:0:0:1]", "unix:///s"),
    ],
)
def test_what_is_on_this_host_is_local(url: str) -> None:
    assert parse(url).local


@pytest.mark.parametrize(
    "url",
    [
        *("redis://db", "redis://10.0.0.1", "redis://127.evil.example", "redis://localhost.example"),
        *("redis://127.300.0.1", "redis://127.0.0.256", "redis://127.0.0.999", "redis://127.00.0.1"),
        *("redis://127.1", "redis://127.0.0.1.", "redis://localhost.", "redis://0.0.0.0", "redis://[::]"),
        *("redis://[::1%25eth0]", "redis://[::ffff:8.8.8.8]", "redis://[fe80::1%25lo]"),
    ],
)
def test_what_may_be_anywhere_is_not_local(url: str) -> None:
    assert not parse(url).local


@pytest.mark.parametrize(
    "url",
    [
        *("redis://mon:SECRET@127.0.0.1 :6379", "redis:// mon:SECRET@127.0.0.1", "http://mon:SECRET@127.0.0.1"),
        *("redis://mon:SECRET@127.0.0.1:99999", "redis://mon:SECRET@127.0.0.1/zero", "redis://127.0.0.1/0?x=SECRET@y"),
        *("unix://mon:SECRET@relative/path", "redis://mon:SECRET", "SECRET", "redis//mon:SECRET@127.0.0.1"),
    ],
)
def test_a_refusal_quotes_no_password_wherever_it_stands(url: str) -> None:
    with pytest.raises(SubjectError) as refused:
        parse(url)
    assert "SECRET" not in str(refused.value)


@pytest.mark.parametrize("url", ["redis://:{}@h", "redis://{}:x@h", "redis://h?password={}", "unix://:{}@/s"])
def test_a_login_that_is_too_long_to_be_looked_for_is_refused_before_it_is_sent(url: str) -> None:
    tail = "TailOfTheSecret99"
    with pytest.raises(SubjectError, match="the user or the password has more than 65,536 characters") as refused:
        parse(url.format("%41" * 65_536 + tail))
    assert tail not in str(refused.value)
    parse(url.format("A" * (65_536 - len(tail)) + tail))
    assert redact(f"no {tail} here") == "no *** here"


SECRETS = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=6, max_size=20).map(lambda text: f"<<{text}>>")


@given(secret=SECRETS, place=st.sampled_from(["db:7000/2", "[::1]:6379", "10.0.0.1"]))
def test_no_form_of_a_server_shows_its_password(secret: str, place: str) -> None:
    url = f"redis://me:{secret}@{place}"
    server = parse(url)
    assert secret not in f"{server!r} {server.name} {server.user} {without_secrets(url)}"


@given(st.text(max_size=60))
def test_any_text_is_an_address_or_refused(text: str) -> None:
    for start in ("", "redis://", "rediss://", "unix:///"):
        try:
            server = parse(start + text)
        except SubjectError:
            continue
        assert 0 < server.port <= 65535
        assert server.database >= 0


def test_servers_are_chosen_from_the_settings_and_by_default_there_may_be_one() -> None:
    (default,) = RedisServer.chosen({"redis": []}).values()
    assert (default.name, default.named) == ("127.0.0.1:6379", False)
    chosen = RedisServer.chosen({"redis": ["redis://db", "redis://me:secret@db", "redis://db/1", "redis://db"]})
    assert list(chosen) == ["db:6379", "db:6379#2", "db:6379/1"]
