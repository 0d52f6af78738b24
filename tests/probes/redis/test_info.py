"""What a server says of itself becomes measurements, and whatever else it says becomes nothing."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vdscheck.measurements import CommandTime, RedisReplica
from vdscheck.probes.redis import info
from vdscheck.probes.redis.messages import meaning, permission, shown
from vdscheck.probes.redis.url import parse

INFO = b"""# Server\r
redis_version:7.0.15\r
redis_mode:standalone\r
# Clients\r
connected_clients:0\r
maxclients:10000\r
# Memory\r
used_memory:0\r
maxmemory:67108864\r
maxmemory_policy:allkeys-lru\r
mem_fragmentation_ratio:1.25\r
# Persistence\r
loading:0\r
rdb_last_save_time:1000\r
rdb_last_bgsave_status:ok\r
aof_enabled:1\r
aof_last_write_status:err\r
# Replication\r
role:master\r
connected_slaves:2\r
slave0:ip=10.0.0.2,port=6379,state=online,offset=90,lag=0\r
slave1:ip=fd00::2,port=6380,state=wait_bgsave,offset=0,lag=7\r
master_repl_offset:100\r
"""


def test_info_is_read_section_by_section() -> None:
    found = info.info(INFO)
    assert info.flavour(found) == ("redis", "7.0.15")
    memory, clients = info.memory(found), info.clients(found, None)
    persistence, replication = info.persistence(found, "", 1060.5), info.replication(found)
    assert memory is not None
    assert clients is not None
    assert persistence is not None
    assert replication is not None
    assert (memory.used_bytes, memory.maximum_bytes, memory.policy) == (0, 64 << 20, "allkeys-lru")
    assert (memory.fragmentation_ratio, memory.evicted_keys) == (1.25, None)
    assert (clients.connected, clients.maximum, clients.rejected) == (0, 10_000, None)
    assert (persistence.since_save_s, persistence.saves, persistence.aof) == (60, False, True)
    assert (persistence.save_status, persistence.aof_write_status) == ("ok", "err")
    assert replication.role == "master"
    assert replication.replicas == (
        RedisReplica(address="10.0.0.2:6379", state="online", lag_s=0, behind_bytes=10),
        RedisReplica(address="?:6380", state="wait_bgsave", lag_s=7, behind_bytes=100),
    )


def test_valkey_is_told_from_the_redis_that_it_is_compatible_with() -> None:
    found = info.info(b"redis_version:7.2.4\r\nserver_name:valkey\r\nvalkey_version:8.1.1\r\n")
    assert info.flavour(found) == ("valkey", "8.1.1")


def test_an_empty_or_a_foreign_answer_has_no_sections() -> None:
    for answer in (b"", None, 7, [b"x"], b"hello\r\n"):
        found = info.info(answer)
        assert info.memory(found) is None
        assert info.clients(found, None) is None
        assert info.persistence(found, None, 0.0) is None
        assert info.replication(found) is None


@pytest.mark.parametrize(
    ("text", "number"), [("0", 0), ("17", 17), ("-1", None), ("1e9", None), ("", None), (None, None), ("9" * 30, None)]
)
def test_a_number_is_a_number_or_nothing(text: str | None, number: int | None) -> None:
    assert info.whole(text) == number


def test_what_commands_took_is_the_difference_without_our_own() -> None:
    before = info.command_times({"cmdstat_get": "calls=10,usec=100,usec_per_call=10.0", "used_memory": "7"})
    after = info.command_times(
        {
            "cmdstat_get": "calls=15,usec=600,usec_per_call=40.0",
            "cmdstat_set": "calls=1,usec=900,usec_per_call=900.0",
            "cmdstat_ping": "calls=9999,usec=5000,usec_per_call=0.5",
            "cmdstat_old": "calls=0,usec=0,",
        }
    )
    assert info.used(before, after, ("ping",)) == (
        CommandTime(name="set", calls=1, total_us=900),
        CommandTime(name="get", calls=5, total_us=500),
    )


def test_histograms_are_cumulative_and_their_difference_is_not() -> None:
    answer = [
        b"debug",
        [b"calls", 3, b"histogram_usec", [16, 1, 4096, 3]],
        b"ping",
        [b"calls", 9, b"histogram_usec", [1, 9]],
    ]
    found = info.histograms(answer)
    assert found == {"debug": {16: 1, 4096: 2}, "ping": {1: 9}}
    assert info.between({"debug": {4096: 1}}, found, ("ping",)) == {"debug": {16: 1, 4096: 1}}


def test_the_slow_log_is_counted_and_the_latency_monitor_read() -> None:
    assert info.newest_slow([[41, 1000, 20_000, [b"GET", b"somebody's key"]]]) == 41
    assert info.newest_slow([]) == -1
    answer = [[b"fork", 1000, 12, 12], [b"command", 900, 3, 3]]
    assert info.events(answer, 1000) == {"fork": 12}


ANSWERS = st.recursive(
    st.none() | st.integers() | st.binary(max_size=30) | st.sampled_from([b"histogram_usec", b"calls", b"debug"]),
    lambda inner: st.lists(inner, max_size=6),
    max_leaves=25,
)


@given(ANSWERS)
def test_no_answer_whatever_is_more_than_nothing(answer: Any) -> None:
    info.info(answer)
    info.pairs(answer)
    info.histograms(answer)
    info.events(answer, 0)
    assert info.newest_slow(answer) >= -1


@given(st.dictionaries(st.sampled_from([line.partition(":")[0] for line in INFO.decode().split("\r\n")]), st.text()))
def test_no_info_whatever_is_more_than_nothing(found: dict[str, str]) -> None:
    info.memory(found)
    info.clients(found, "x")
    info.persistence(found, "x", 1.0)
    info.replication(found)
    info.command_times(found)


# Words


@given(st.binary(max_size=400))
def test_what_a_server_says_is_shown_on_one_short_line(said: bytes) -> None:
    text = shown(said)
    assert text.isprintable() or not text
    assert len(text) <= 123


@pytest.mark.parametrize("secret", ["hunter2", "a", "p@ss w0rd", "\\x1b", "(.*)"])
def test_a_password_that_is_repeated_is_withheld(secret: str) -> None:
    parse("redis://db?password=" + "".join(f"%{byte:02x}" for byte in secret.encode()))
    assert shown(f"you said '{secret}'!") == "you said '***'!"


@pytest.mark.parametrize("words", ["redis_version:hunter2-s3cret", "maxmemory_policy:the-hunter2-s3cret"])
def test_a_password_that_is_repeated_as_a_status_is_no_status(words: str) -> None:
    parse("redis://:hunter2-s3cret@db")
    name, _, value = words.partition(":")
    assert info.word(info.info(words.encode())[name]) is None
    assert value


@pytest.mark.parametrize("name", ["role", "used_memory", "connected_clients"])
def test_a_password_that_is_a_name_of_info_takes_nothing_from_it(name: str) -> None:
    parse(f"redis://:{name}@db")
    assert set(info.info(INFO)) >= {name}


@pytest.mark.parametrize("word", ["master", "standalone", "noeviction", "allkeys-lru", "volatile-ttl", "7.0.15"])
def test_a_password_that_is_a_word_of_info_does_not_make_a_master_something_else(word: str) -> None:
    parse(f"redis://:{word}@db")
    assert info.word(word) == word


@pytest.mark.parametrize(
    ("error", "words", "reason", "said"),
    [
        ("NOAUTH Authentication required.", ("PING",), "permission", "asks for a password"),
        ("WRONGPASS invalid username-password pair", ("AUTH", "x"), "permission", "refuses this user or its password"),
        ("ERR invalid password", ("AUTH", "x"), "permission", "refuses this user or its password"),
        ("NOPERM this user has no permissions", ("CONFIG", "GET", "x"), "permission", "ACL SETUSER USER +config|get"),
        ("NOPERM this user has no permissions", ("LATENCY", "HISTOGRAM"), "permission", "USER +latency|histogram"),
        ("NOPERM this user has no permissions", ("INFO", "stats"), "permission", "ACL SETUSER USER +info"),
        ("DENIED Redis is running in protected mode", ("PING",), "permission", "protected mode"),
        ("LOADING Redis is loading the dataset in memory", ("PING",), "unreachable", "is loading its data"),
        ("MASTERDOWN Link with MASTER is down", ("PING",), "unreachable", "lost its master"),
        ("BUSY Redis is busy running a script", ("PING",), "unreachable", "blocked by a script"),
        ("ERR max number of clients reached", ("PING",), "unreachable", "maximum number of clients"),
        ("ERR AUTH <password> called without any password configured", ("AUTH", "x"), "permission", "leave it out"),
        ("ERR DB index is out of range", ("SELECT", "99"), "error", "has no database 7"),
        ("ERR unknown command 'LATENCY'", ("LATENCY", "HISTOGRAM"), "unsupported", "does not know LATENCY HISTOGRAM"),
        ("ERR 746572636573 secret", ("AUTH", "secret"), "error", "refuses AUTH: look whether its user and password"),
        ("ERR something else", ("PING",), "error", "refuses PING: ERR something else"),
    ],
)
def test_every_refusal_is_a_known_state_with_what_to_do(
    error: str, words: tuple[str, ...], reason: str, said: str
) -> None:
    found, why = meaning(error, words, parse("redis://me:secret@db/7"))
    assert found.value == reason
    assert said in why
    assert "secret" not in why


def test_an_acl_rule_names_the_command_and_its_subcommand() -> None:
    assert permission(("INFO", "all")) == "+info"
    assert permission(("CONFIG", "GET", "save")) == "+config|get"
