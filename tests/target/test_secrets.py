"""What was registered as a secret is removed from texts of others, in every form, and nothing else is."""

import base64
import json
import os
import re
import subprocess
import sys
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tests.support.program import vdscheck
from tests.support.project import PROJECT
from vdscheck.cli import app, known
from vdscheck.measure.jobs import Frame, Job, work
from vdscheck.measurements import CommandTime
from vdscheck.plugin import Host, measurement, probe
from vdscheck.target import secrets
from vdscheck.target.secrets import (
    has_secret,
    hide_addresses,
    place_of,
    redact,
    redacted,
    register,
    register_address,
    what_failed,
    without_secrets,
)

SECRET = "hunter2-s3cret/+é?&'x"
FORMS = {
    "as it is": SECRET,
    "repr": repr(SECRET),
    "repr of bytes": repr(SECRET.encode()),
    "JSON": json.dumps(SECRET),
    "percent": quote(SECRET, safe=""),
    "percent, lower case": quote(SECRET, safe="").lower(),
    "a form": quote_plus(SECRET),
    "base64": base64.b64encode(SECRET.encode()).decode(),
    "base64 for addresses": base64.urlsafe_b64encode(SECRET.encode()).decode(),
    "basic": base64.b64encode(f"user:{SECRET}".encode()).decode(),
    "basic with more behind it": base64.b64encode(f"me:{SECRET}; and more".encode()).decode(),
    "two characters before it": base64.b64encode(f"x:{SECRET}".encode()).decode(),
}


def pieces(text: str) -> set[str]:
    return {text[at : at + 8] for at in range(len(text) - 7)}


@pytest.mark.parametrize("form", FORMS)
def test_a_secret_is_removed_in_every_form(form: str) -> None:
    register(SECRET)
    text = redact(f"the server said: {FORMS[form]}, and no more")
    assert text.startswith("the server said: ")
    assert text.endswith(", and no more")
    assert "***" in text
    assert not pieces(text) & pieces(SECRET)
    left = text.removeprefix("the server said: ").removesuffix(", and no more").replace("***", "")
    assert len(left) < 24
    assert "hunter2" not in left


@given(secret=st.text(min_size=8, max_size=40), start=st.integers(0, 32), before=st.text(max_size=9))
def test_no_piece_of_eight_characters_is_left(secret: str, start: int, before: str) -> None:
    secrets.forget()
    register(secret)
    piece = secret[start : start + 8]
    kept = secret.strip()
    found = redact(f"{before}{piece}")
    assert not pieces(found) & pieces(kept) or len(kept.splitlines()) != 1


@given(
    secret=st.text(st.characters(codec="ascii", categories=["L", "N", "P"]), min_size=8, max_size=40),
    at=st.integers(0, 9),
)
def test_in_base64_it_is_found_wherever_it_begins(secret: str, at: int) -> None:
    assume(secret not in secrets._NO_SECRETS)
    secrets.forget()
    register(secret)
    encoded = base64.b64encode(b"#" * at + secret.encode() + b"#" * (at % 4)).decode()
    assert len(redact(encoded).replace("***", "")) < at * 4 / 3 + 8 + at % 4 * 4 / 3


@pytest.mark.parametrize("short", ["1", "web", "pass", "sysctl", "127", "7.0.15"])
def test_a_short_secret_takes_nothing_from_names_and_numbers(short: str) -> None:
    register(short)
    for text in (
        "WRONGPASS invalid username-password pair",
        "nobody listens on 127.0.0.1:6379",
        "redis 17.0.15-web, sysctl.somaxconn = 4096, /usr/lib/sysctl.d/10-web.conf, 1.5 s",
        "0/2 nodes are available: 1 Insufficient cpu.",
        "systemd-sysctl passes webhooks",
    ):
        assert redact(text) == text


@pytest.mark.parametrize(
    ("short", "text", "shown"),
    [
        ("pass", "you said pass", "you said ***"),
        ("pass", "user:pass", "user:***"),
        ("sysctl", "-ERR sysctl, really", "-ERR ***, really"),
        ("web", "you said 'web'!", "you said '***'!"),
        ("web", "the web is large", "the web is large"),
        ("1", 'unknown word "1"', 'unknown word "***"'),
        ("a/b c", "a%2Fb%20c", "***"),
        ("pass", f"Basic {base64.b64encode(b'me:pass').decode()}", "Basic ***"),
        ("pass", base64.b64encode(b"pass").decode(), "***"),
    ],
)
def test_a_short_secret_is_removed_where_it_is_a_word(short: str, text: str, shown: str) -> None:
    register(short)
    assert redact(text) == shown


def test_each_line_of_a_key_is_a_secret_and_its_armour_is_none() -> None:
    register("-----BEGIN PRIVATE KEY-----\nMIGHAgEAMBMGByqGSM49\nAgEGCCqGSM49AwEHBG0w\n-----END PRIVATE KEY-----\n")
    assert redact("-----BEGIN PRIVATE KEY----- qGSM49AwEH MIGHAgEA") == "-----BEGIN PRIVATE KEY----- *** ***"


def test_a_text_of_a_megabyte_is_no_trouble() -> None:
    known = [os.urandom(600).hex() for _ in range(5)]
    register(*known)
    assert redact(os.urandom(500_000).hex() + " " + known[4]).endswith(" ***")


def test_names_of_a_server_lose_long_secrets_and_keep_what_is_called_as_a_short_one() -> None:
    register("hunter2-s3cret", "master")
    found = CommandTime(name="xhunter2-s3cretx", calls=1, total_us=2)
    assert redacted(found) == CommandTime(name="x***x", calls=1, total_us=2)
    assert redacted(({"master": "hunter2-s3"},)) == ({"master": "***"},)
    same = CommandTime(name="master", calls=1, total_us=2)
    assert redacted(same) is same


# Addresses


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("redis://user:hunter2@db:6379/0", "redis://***@db:6379/0"),
        ("redis://:hunter2@db", "redis://***@db"),
        ("redis://S3CR@h", "redis://***@h"),
        ("redis://u%3AS3CR@h", "redis://***@h"),
        ("--redis=rediss://u:p@ss/w@rd@db", "--redis=rediss://***@db"),
        ("redis://db?db=1&password=hunter2&x=1", "redis://db?***"),
        ("redis://127.0.0.1:1?password=a b S3CR", "redis://127.0.0.1:1?***"),
        ("redis://127.0.0.1:6379", "redis://127.0.0.1:6379"),
        ("unix:///run/redis.sock", "unix:///run/redis.sock"),
        ("unix:///run/redis.sock?password=a@b", "unix:///run/redis.sock?***"),
        ("--redis=unix://me:p@ss@/run/redis.sock", "--redis=unix://***@/run/redis.sock"),
        ("--only", "--only"),
    ],
)
def test_of_an_address_only_the_server_is_shown(text: str, shown: str) -> None:
    assert without_secrets(text) == shown


@pytest.mark.parametrize(
    "address",
    [
        *("redis://me:hunter2-s3cret@db", "redis://hunter2-s3cret@db", "redis://me%3Ahunter2-s3cret@db"),
        *(
            "redis://db?password=hunter2-s3cret",
            "redis://db?x=1&username=hunter2-s3cret",
            "redis://:hunter2%2Ds3cret@db",
        ),
        "unix://me:hunter2-s3cret@/run/x",
    ],
)
def test_what_is_secret_in_an_address_is_registered_and_its_host_is_not(address: str) -> None:
    register_address(address)
    assert redact("db said hunter2-s3cret on /run/x") == "db said *** on /run/x"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("GET https://me:x@h/p?token=y failed", "GET https://***@h/p?*** failed"),
        ("proxy 'http://me:a@b@h:3128' refused", "proxy 'http://***@h:3128' refused"),
        ("see https://kubernetes.io/docs", "see https://kubernetes.io/docs"),
        ("to //me:x@h/p", "to //***@h/p"),
        ("as redis://:PASSWORD@HOST", "as redis://:PASSWORD@HOST"),
        ("as redis://USER:PASSWORD@HOST", "as redis://USER:PASSWORD@HOST"),
        ("redis://me:PASSWORD@HOST", "redis://***@HOST"),
        ('"//me:x@h"', '"//***@h"'),
        ("https:\\\\me:x@h", "https:\\\\***@h"),
        ("a//b@c and /srv//x", "a//b@c and /srv//x"),
    ],
)
def test_no_text_of_others_shows_the_login_of_an_address(text: str, shown: str) -> None:
    assert redact(text) == shown


def test_a_sentence_of_ours_loses_an_address_that_was_given_and_nothing_else() -> None:
    register_address("redis://sysctl:web@h?password=pass word")
    assert hide_addresses("no folder redis://sysctl:web@h?password=pass word") == "no folder redis://***@h?***"
    assert hide_addresses("'redis://sysctl:web@h'") == "'redis://***@h'"
    ours = "write redis://[USER:PASSWORD@]HOST: a password for the web, sysctl.somaxconn"
    assert hide_addresses(ours) == ours


@pytest.mark.parametrize(
    ("word", "shown"),
    [
        ("me:p@ss@h", "***@h"),
        ("home=me:pass@h", "home=***@h"),
        ("app:latest@sha256:00", "app:latest@sha256:00"),
        ("me:pass@reg.example/app:1@sha256:00", "***@reg.example/app:1@sha256:00"),
        ("https://me:pass@reg.example/app:1", "https://***@reg.example/app:1"),
        ("ask ops@example.com: it is theirs", "ask ops@example.com: it is theirs"),
    ],
)
def test_a_login_is_hidden_without_a_scheme_as_well(word: str, shown: str) -> None:
    assert without_secrets(word) == shown


@pytest.mark.parametrize(
    ("word", "shown"),
    [
        ("no.osl", "no.osl"),
        (":pass@h", "***@h"),
        ("pa ss@h:443", "***@h:443"),
        ("home=pa/ss@h", "home=***@h"),
        ("home=//me:pass@h", "home=***@h"),
        ("--path=home=me:pa@ss@h", "--path=home=***@h"),
        ("redis://me:pass@h", "redis://***@h"),
    ],
)
def test_what_names_a_place_to_connect_to_shows_no_login_however_it_is_written(word: str, shown: str) -> None:
    assert place_of(word) == shown


@pytest.mark.parametrize("words", [("--path", ":pass@h"), ("--path=pass@h",), ("path", "pass@h", "--json")])
def test_the_command_in_the_report_shows_no_login_of_a_place(
    words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["vdscheck", *words, "--only", "sysctl.*"])
    shown = app.command_shown(known.ours())
    assert "pass" not in repr(shown)
    assert "***@h" in repr(shown)
    assert shown[-2:] == ("--only", "sysctl.*")


def test_an_address_has_a_secret_in_its_login_or_its_query() -> None:
    with_one = ["redis://me:x@h", "redis://x@h", "redis://h?password=x", "redis://h?db=1&username=x"]
    assert all(map(has_secret, with_one))
    assert not any(map(has_secret, ["redis://h/1", "redis://h?db=1&ssl_ca_certs=/ca.pem", "unix:///run/x", "h"]))


ENDLESS = ("=a:b", "=a:b@sha1:", "a:", "=a:@", " a:b", "@sha1", "://a", "=//", "=//a@", "://a?", "'//a", "?", "@")
LOOKED_THROUGH = """
import sys
from vdscheck.target import secrets
for each in sys.argv[1:]:
    text = (each * 300_000)[:300_000]
    for looked in (secrets.without_secrets, secrets.without_logins, secrets.redact, secrets.place_of):
        assert "hunter2" not in looked(f"{text} redis://me:hunter2@h?x=hunter2")
    assert "hunter2" not in secrets.without_secrets(f"{text.replace('://', ':/')} me:hunter2@h")
"""


def test_a_text_of_any_length_is_looked_through_soon_and_shows_no_login_at_its_end() -> None:
    subprocess.run([sys.executable, "-c", LOOKED_THROUGH, *ENDLESS], cwd=PROJECT, check=True, timeout=20)


@pytest.mark.parametrize("word", ["=a:b", "://a", "=a:b@sha1:"])
def test_a_word_of_the_command_line_of_any_length_is_refused_soon(word: str) -> None:
    done = vdscheck("--passive", "--no-config", "--only", (word * 120_000)[:120_000], timeout=20)
    assert done.returncode == 2
    assert len(done.stderr) < 4096


PLAIN = {
    "login": re.compile(r"(:[/\\]{2}|(?:^|(?<=[\s'\"=(]))//)(?!\[?(?:USER)?:PASSWORD@)[^\s\"]*@"),
    "query": re.compile(r"(://[^\s\"?]*\?)[^\s\"]+"),
    "user": re.compile(r"(^|[\s=])[^\s/@:=]+:\S+@(?!sha[0-9]+:)(?=\S)"),
}
"""What is hidden, as one pattern says it that takes the square of the time."""


def test_a_word_of_a_program_is_removed_from_texts_and_not_from_values() -> None:
    secrets.register_words("production-cluster", "eu-west-1")
    assert redact("no cluster production-cluster in 'eu-west-1'") == "no cluster *** in '***'"
    assert redacted({"region": "eu-west-1", "of": "production-cluster"}) == {
        "region": "eu-west-1",
        "of": "production-cluster",
    }
    register("production-cluster")
    assert redacted({"of": "production-cluster"}) == {"of": "***"}


QUOTED = ["it's:p'w", "me:it's", "me:'p'"]


@pytest.mark.parametrize("login", QUOTED)
def test_an_apostrophe_is_part_of_a_login(login: str) -> None:
    """By RFC 3986 it needs no escape there."""
    for text in (f"no answer from 'https://{login}@db/x', retry", f"see (//{login}@db)", f"['redis://{login}@db']"):
        shown = secrets.without_logins(text)
        assert login not in shown
        assert "***@db" in shown


@pytest.mark.parametrize("between", [" ", '"', "\n", "\u00a0", "\t", "\u2028", "'"])
def test_a_value_that_is_an_address_is_one_whatever_stands_in_its_login(between: str) -> None:
    value = {"label": f"https://me:hunter{between}secret@db/x", "other": [f"oci://hunter{between}secret@db"]}
    assert secrets.without_logins_in(value) == {"label": "https://***@db/x", "other": ["oci://***@db"]}


@pytest.mark.parametrize("token", ["-----GEHEIMES WORT-----", "-----TOKEN-----"])
def test_a_token_that_looks_like_armour_is_a_token(token: str) -> None:
    register(token)
    assert token not in redact(f"who is {token}?")


PARTS = ["a", ":", "@", "/", "//", "://", "=", "?", " ", "'", '"', "(", "\\", "@sha1:", "USER", ":PASSWORD@", "[", "\n"]


@given(st.lists(st.sampled_from(PARTS), max_size=14).map("".join))
def test_what_is_looked_for_once_is_what_the_plain_patterns_say(text: str) -> None:
    secrets.forget()
    plain = PLAIN["query"].sub(r"\1***", PLAIN["login"].sub(r"\1***@", text))
    assert secrets.without_logins(text) == plain
    if "://" not in text:
        assert without_secrets(text) == PLAIN["user"].sub(r"\1***@", text)


# Failures and programs


def test_a_failure_is_told_by_its_type_and_never_by_its_text() -> None:
    assert what_failed(ValueError("Invalid header value b'Bearer S3CR'")) == "ValueError"
    assert what_failed(KeyError("S3CR")) == "KeyError"
    assert what_failed(FileNotFoundError(2, "x", "S3CR")) == "FileNotFoundError: no such file or directory"
    assert what_failed(OSError("S3CR")) == "OSError"


@probe("acme.broken")
def broken(_host: Host) -> CommandTime:
    """Does what many libraries do: quotes what it had in its hands."""
    return CommandTime(name="x", calls=int("S3CR3T-W0RD"), total_us=1)


def test_what_a_probe_raises_is_told_by_its_type_and_its_place() -> None:
    said: list[Frame] = []
    work(Host(), [Job("acme.broken", broken, CommandTime, None, 0.0, 1.0)], said.append)
    (absent,) = [frame.absent for frame in said if frame.absent is not None]
    assert "S3CR3T" not in absent.detail
    assert re.fullmatch(r"acme\.broken failed \(.*\): ValueError at test_secrets\.py:[0-9]+", absent.detail)


def test_a_bug_is_told_by_its_type_and_its_place(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="S3CR3T-W0RD") as quoting:
        int("S3CR3T-W0RD")
    assert app._failed(quoting.value) == 4
    said = capfd.readouterr().err
    assert "S3CR3T" not in said
    assert re.search(r"a bug: ValueError \(.*test_secrets\.py:[0-9]+\)", said)


def test_programs_of_others_do_not_get_what_is_for_this_one() -> None:
    environment = {"VDSCHECK_REDIS_URL": "redis://:x@h", "PATH": "/bin", "HOME": "/root", "AWS_PROFILE": "prod"}
    secrets.leave_out_of(environment)
    assert environment == {"PATH": "/bin", "HOME": "/root", "AWS_PROFILE": "prod"}


def test_a_number_of_openssl_is_not_told_as_one_of_the_system() -> None:
    import ssl

    assert what_failed(ssl.SSLEOFError(8, "[SYS] unknown error (_ssl.c:2393)")) == "SSLEOFError"
    assert what_failed(ConnectionResetError(104, "x")) == "ConnectionResetError: connection reset by peer"


@pytest.mark.parametrize("secret", ["pässwörter", 'with "quotes" in it', "ctrl\x01\x02cd", "back\\slash/and"])
def test_a_secret_in_the_quoting_of_json_is_removed(secret: str) -> None:
    register(secret)
    for said in (json.dumps(secret), json.dumps(secret, ensure_ascii=False), json.dumps({"a": [secret]})):
        assert redact(said) == said.replace(json.dumps(secret)[1:-1], "***").replace(secret, "***")


@measurement
class Named:
    """Texts of a host."""

    names: tuple[str, ...]
    by_name: dict[str, str]


@probe("test.named", cheap=True, deadline_s=2.0)
def named_by_others(host: Host) -> Named:
    """Says what stands in a file that anybody may have written."""
    login = "redis://me:hunter22@h/?sig=hunter22"
    return Named(names=(login, host.root), by_name={login: login})


def test_no_measurement_holds_the_login_of_an_address() -> None:
    said: list[Frame] = []
    work(Host(), [Job("test.named", named_by_others, Named, None, 0.0, 1.0)], said.append)
    (found,) = [each.value for each in said if each.value is not None]
    assert "hunter22" not in repr(found)
    assert found.names == ("redis://***@h/?***", "/")
