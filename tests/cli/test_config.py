"""A configuration is followed to the letter or refused in one clear line."""

import functools
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.program import vdscheck
from tests.support.users import ATTACKER, VICTIM, User, called_as
from vdscheck.cli import config, request
from vdscheck.cli.config import Config, ConfigError
from vdscheck.cli.request import Asked
from vdscheck.plugin import Matter
from vdscheck.target import secrets


def refused(path: Path | str) -> str:
    with pytest.raises(ConfigError) as error:
        config.read(str(path))
    assert "\n" not in str(error.value)
    return str(error.value)


WHOLE = """
profile = ["web", "redis"]
only = "sysctl.*"
min-score = 80
fail-on = ["warn", "unknown"]
quick = true

[offer]
cpus = 4
memory = "8 GiB"

[limits."cpu.pressure"]
some_avg60 = "20 %"

[severity]
"cpu.pressure" = "low"

[[waivers]]
check = "sysctl.swappiness"
reason = "the database team tunes it"
expires = 2027-01-31
"""


def test_a_whole_configuration_is_read(tmp_path: Path) -> None:
    file = tmp_path / "vdscheck.toml"
    file.write_text(WHOLE)
    assert config.read(str(file)) == Config(
        str(file),
        {
            "profile": ["web", "redis"],
            "only": ["sysctl.*"],
            "min-score": 80,
            "fail-on": ["warn", "unknown"],
            "quick": True,
            "offer": {"cpus": 4, "memory": "8 GiB"},
            "limits": {"cpu.pressure": {"some_avg60": "20 %"}},
            "severity": {"cpu.pressure": "low"},
            "waivers": [
                {"check": "sysctl.swappiness", "reason": "the database team tunes it", "expires": "2027-01-31"}
            ],
        },
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("profile = ", "not TOML"),
        ("profle = 'web'", ":1: profle is not a known key: did you mean profile?"),
        ("\n\nprofile = 3", ":3: profile: a text or a list of texts is wanted, not a whole number"),
        ("profile = [1]", "a text or a list of texts"),
        ("quick = 1", "true or false is wanted, not a whole number"),
        ("format = true", "a text is wanted, not true or false"),
        ("min-score = 101", "a whole number from 0 to 100"),
        ("min-score = true", "a whole number from 0 to 100"),
        ("min-score = '80'", "a whole number from 0 to 100"),
        ("fail-on = 'error'", "'error' is not one of warn, fail, unknown"),
        ("offer = 4", "a table is wanted"),
        ("[offer]\ncpu = 4", "cpu is not a known key: did you mean cpus?"),
        ("[offer]\nmemory = 8", 'an amount with its unit, as "8 GiB"'),
        ("[offer]\ncpus = '4'", "a whole number is wanted"),
        ("[limits]\nx = 3", 'write [limits."x"]'),
        ("waivers = 3", "waivers are written as [[waivers]] tables"),
        ("[[waivers]]\ncheck = 'a.b'\nreason = 'x'", "the waiver of a.b has no date: write expires = 2027-01-31"),
        (
            "[[waivers]]\ncheck = 'a.b'\nreason = 'x'\nexpires = 2027-01-31T10:00:00Z",
            "which is no date: write expires = 2027-01-31",
        ),
        ("[[waivers]]\ncheck = 'a.b'\nexpires = 2027-01-31", "a waiver without its reason"),
        ("[[waivers]]\ncheck = 'a.b'\nreason = ' '\nexpires = 2027-01-31", "a waiver without its reason"),
        ('[[waivers]]\ncheck = "a.b"\nreason = "\\u200b"\nexpires = 2027-01-31', "a waiver without its reason"),
        ("[[waivers]]\nreason = 'x'\nexpires = 2027-01-31", "a waiver without its check"),
        (
            "[[waivers]]\ncheck = 'a.b'\nreason = 'x'\nexpires = '31.1.2027'",
            "the waiver of a.b expires '31.1.2027', which is no date: write expires = 2027-01-31",
        ),
        (
            "[[waivers]]\ncheck = 'a.b'\nreason = 'x'\nexpires = 2027-01-31T00:00:00Z",
            "expires 2027-01-31 00:00:00+00:00, which is no date",
        ),
        ("[[waivers]]\ncheck = 'a.b'\nreason = 'x'\nexpires = 2027-01-31\nby = 'me'", "by is not a known key"),
        ("x = " + "[" * 100_000, "nested too deeply"),
        ("min-score = " + "9" * 10_000, "not TOML"),
        ("profile = 'a'\nprofile = 'b'", "not TOML"),
    ],
)
def test_what_cannot_be_followed_is_refused_with_file_line_and_remedy(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "vdscheck.toml"
    file.write_text(text)
    message = refused(file)
    assert said in message
    assert str(file) in message


def test_what_logs_in_to_an_address_is_shown_of_no_key_pattern_or_waiver(tmp_path: Path) -> None:
    address = "redis://me:S3cr3tPw99@127.0.0.1:1"
    file = tmp_path / "vdscheck.toml"
    file.write_text(f'"{address}" = 1\n')
    wrong = vdscheck("run", "--config", str(file), "--passive")
    assert "redis://***@127.0.0.1:1 is not a known key" in wrong.stderr
    waiver = f'[[waivers]]\nreason = "see {address}"\nexpires = 2099-01-01\ncheck = '
    file.write_text(f'{waiver}"redis.latency[{address}]"\n')
    assert "without its login: check = 'redis.latency[HOST:PORT]'" in refused(file)
    file.write_text(f'{waiver}"redis.latency"\n')
    done = vdscheck("run", "--config", str(file), "--passive", "--json", "--only", f"redis.latency[{address}]")
    assert done.returncode == 0, done.stderr
    assert "S3cr3tPw99" not in wrong.stderr + done.stdout + done.stderr


@pytest.mark.parametrize(
    "text",
    [
        "[limits.'{0}']\na = 1",
        "[limits.'redis.latency[{0}]']\na = 1",
        "[limits.'sysctl.somaxconn']\nbacklog = '{0}'",
        "[limits.'sysctl.somaxconn']\n'{0}' = 1",
        "[severity]\n'{0}' = 'low'",
        "[severity]\n'time.sync' = '{0}'",
        "[offer]\n'{0}' = 1",
        "profile = '{0}'",
        "[[waivers]]\ncheck = 'time.sync'\nreason = 'x'\nexpires = '{0}'",
        "[[waivers]]\ncheck = 'time.sync'\nreason = 'x'\nexpires = 2099-01-01\n'{0}' = 1",
    ],
)
def test_no_refusal_of_a_configuration_shows_a_login_or_a_query(tmp_path: Path, text: str) -> None:
    file = tmp_path / "vdscheck.toml"
    file.write_text(text.format("redis://us3rNm:S3cr3tPw99@h:1/2?tok=Qu3ryTok1"))
    done = vdscheck("run", "--config", str(file), "--passive")
    assert (done.returncode, "redis://***@h:1/2?***" in done.stderr) == (2, True), done.stderr


def test_what_a_plugin_is_told_is_a_secret_also_where_another_process_has_read_it(tmp_path: Path) -> None:
    file = tmp_path / "vdscheck.toml"
    file.write_text("[plugin.acme]\nkey = 'S3cr3tPw99'")
    request._configuration(Asked({"config": str(file)}))
    assert secrets.redact("said S3cr3tPw99") == "said ***"


def test_a_waiver_shows_no_login_without_a_scheme(tmp_path: Path) -> None:
    file = tmp_path / "vdscheck.toml"
    file.write_text("[[waivers]]\ncheck = 'time.sync'\nreason = 'as me:S3cr3tPw99@h wants'\nexpires = 2099-01-01")
    assert config.read(str(file)).values["waivers"][0]["reason"] == "as ***@h wants"


def test_what_is_not_utf8_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "vdscheck.toml"
    file.write_bytes(b"profile = '\xff'")
    assert "not UTF-8 (byte 11)" in refused(file)


def test_the_mark_of_a_windows_editor_is_no_part_of_the_configuration(tmp_path: Path) -> None:
    file = tmp_path / "vdscheck.toml"
    file.write_bytes(b"\xef\xbb\xbfmin-score = 80")
    assert config.read(str(file)).values == {"min-score": 80}


def test_a_folder_a_fifo_a_device_and_nothing_are_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path, tmp_path / "fifo", "/dev/zero"):
        assert "is not a regular file" in refused(path)
    assert "there is no" in refused(tmp_path / "nothing")


def test_a_hundred_megabytes_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "vdscheck.toml"
    with file.open("wb") as large:
        large.truncate(100 << 20)
    assert "is larger than 1,048,576 bytes" in refused(file)


@given(st.binary(max_size=200))
def test_any_file_is_a_configuration_or_refused(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    file = tmp_path_factory.getbasetemp() / "any.toml"
    file.write_bytes(content)
    try:
        assert isinstance(config.read(str(file)), Config)
    except ConfigError as error:
        assert str(error)  # noqa: PT017 - either is right


VALUES: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.dates(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(st.dictionaries(st.sampled_from(sorted(config.keys())), VALUES, max_size=3))
def test_any_value_of_a_known_key_is_checked_or_refused(values: dict[str, Any]) -> None:
    try:
        assert set(config.checked_values(values)) == set(values)
    except ValueError as error:
        assert str(error)  # noqa: PT017 - either is right


def test_places_are_looked_in_by_their_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    home = tmp_path / "home"
    (home / ".config/vdscheck").mkdir(parents=True)
    environment = {"HOME": str(home)}
    assert config.find({}, user_id=1000).file in {None, "/etc/vdscheck/config.toml"}
    (home / ".config/vdscheck/config.toml").touch()
    assert config.find(environment, user_id=1000).file == str(home / ".config/vdscheck/config.toml")
    (tmp_path / "vdscheck.toml").touch()
    assert config.find(environment, user_id=1000).file == str(tmp_path / "vdscheck.toml")


@pytest.fixture
def trusted() -> Any:
    """A folder that belongs to root and that no one else can write, all the way up."""
    path = Path(f"/var/lib/vdscheck-test-{os.getpid()}")
    path.mkdir(mode=0o755)
    try:
        yield path
    finally:
        shutil.rmtree(path)


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can make files of other users")


def owned(user: int, group: int, mode: int = 0o644) -> Any:
    def spoil(path: Path) -> None:
        os.chown(path, user, group)
        path.chmod(mode)

    return spoil


def above(user: int, mode: int) -> Any:
    def spoil(path: Path) -> None:
        os.chown(path.parent, user, 0)
        path.parent.chmod(mode)

    return spoil


@needs_root
@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (owned(0, 0), None),
        (owned(1000, 0), "belongs to another user"),
        (owned(0, 0, 0o646), "can be written by others"),
        (owned(0, 1000, 0o664), "can be written by others"),
        (owned(0, 0, 0o664), None),
        (above(1000, 0o755), "belongs to another user"),
        (above(0, 0o777), "can be written by others"),
        (above(0, 0o1777), "others can put files"),
    ],
)
def test_root_reads_only_what_nobody_else_can_have_written(
    trusted: Path, monkeypatch: pytest.MonkeyPatch, spoil: Any, said: str | None
) -> None:
    file = trusted / "vdscheck.toml"
    file.write_text("")
    file.chmod(0o644)
    spoil(file)
    monkeypatch.chdir(trusted)
    if said is None:
        assert config.find({}, user_id=0).file == str(file)
    else:
        with pytest.raises(ConfigError, match=said) as error:
            config.find({}, user_id=0)
        assert f"--config {file}" in str(error.value)


@needs_root
def test_a_link_is_trusted_only_where_it_leads_is_root_s_too(
    trusted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "theirs.toml"
    elsewhere.write_text("")
    os.chown(elsewhere, 1000, 1000)
    (trusted / "vdscheck.toml").symlink_to(elsewhere)
    monkeypatch.chdir(trusted)
    with pytest.raises(ConfigError, match="belongs to another user"):
        config.find({}, user_id=0)


# For everybody


@needs_root
@pytest.mark.parametrize(
    ("owner", "mode", "said"),
    [
        (VICTIM, 0o755, None),
        (VICTIM, 0o775, None),
        (VICTIM, 0o777, "can be written by others (everybody)"),
        (ATTACKER, 0o755, "belongs to another user (1002)"),
    ],
)
def test_a_user_reads_no_configuration_of_somebody_else(
    trusted: Path, owner: User, mode: int, said: str | None
) -> None:
    (trusted / "hostile").mkdir()
    file = trusted / "hostile/vdscheck.toml"
    file.write_text("min-score = 7")
    for path in (file, file.parent):
        os.chown(path, owner.uid, owner.gid)
    file.parent.chmod(mode)

    def found() -> object:
        os.chdir(file.parent)
        try:
            return config.find({}, user_id=os.geteuid()).values
        except ConfigError as error:
            return str(error)

    way_out = f"To use it: --config {file}; to run without it: --no-config"
    refusal = f"refusing {file}: {file.parent} {said}. {way_out}"
    assert called_as(VICTIM, found) == ({"min-score": 7} if said is None else refusal)


@needs_root
def test_a_home_of_another_user_is_not_the_caller_s_own(trusted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`sudo` may keep HOME: what an ordinary user wrote there is not root's word."""
    monkeypatch.chdir("/")
    (trusted / ".config/vdscheck").mkdir(parents=True)
    file = trusted / ".config/vdscheck/config.toml"
    file.write_text("min-score = 7")
    environment = {"HOME": str(trusted)}
    assert config.find(environment, user_id=0).values == {"min-score": 7}
    os.chown(trusted, 1000, 1000)
    with pytest.raises(ConfigError, match=f"refusing {file}: {trusted} belongs to another user"):
        config.find(environment, user_id=0)
    os.chown(trusted, 0, 0)


def test_a_home_that_is_no_path_from_the_root_on_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".config/vdscheck").mkdir(parents=True)
    (tmp_path / ".config/vdscheck/config.toml").write_text("min-score = 7")
    monkeypatch.chdir(tmp_path)
    for home in ("", ".", "./.config/.."):
        assert config.find({"HOME": home}, user_id=os.geteuid()).values != {"min-score": 7}


@needs_root
def test_what_is_found_and_cannot_be_read_is_told_with_the_way_to_run_without_it(trusted: Path) -> None:
    for name, mode in (("closed", 0o600), ("gone", None)):
        file = trusted / name / "vdscheck.toml"
        file.parent.mkdir()
        if mode is None:
            file.symlink_to("nothing")
        else:
            file.write_text("")
            file.chmod(mode)

    def said(name: str) -> str:
        os.chdir(trusted / name)
        with pytest.raises(ConfigError) as refused:
            config.find({}, user_id=os.geteuid())
        return str(refused.value)

    for name, why in (("closed", "Permission denied"), ("gone", "No such file or directory")):
        wanted = f"configuration {trusted / name}/vdscheck.toml: {why}; to run without it: --no-config"
        assert called_as(VICTIM, functools.partial(said, name)) == wanted


# What a file that is found in the current folder may not say

AN_EXAMPLE: dict[str, str] = {
    "disk": '"/srv"',
    "redis": '["redis://:S3cretPw@10.0.0.1:6379"]',
    "path": '"home=10.0.0.1"',
    "context": '"production"',
    "kubeconfig": '"k.yaml"',
    "node-reports": '"reports"',
    "plugin": "{acme = {hosts = 3}}",
}


def test_each_key_that_reaches_out_has_an_example() -> None:
    assert {name for name, key in config.keys().items() if key.matter is Matter.REACH} == set(AN_EXAMPLE)


@pytest.mark.parametrize("key", AN_EXAMPLE)
def test_what_is_reached_is_not_named_by_a_file_that_is_found_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    file = tmp_path / "vdscheck.toml"
    file.write_text(f"min-score = 7\n{key} = {AN_EXAMPLE[key]}\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError) as refused:
        config.find({}, user_id=os.geteuid())
    assert str(refused.value) == (
        f"configuration {file}:2: {key} says what is connected to, read or run: a file that is found in the current "
        "folder may not. If you mean it: --config ./vdscheck.toml"
    )
    assert key in config.read("./vdscheck.toml").values
    home = tmp_path / "home/.config/vdscheck/config.toml"
    home.parent.mkdir(parents=True)
    file.rename(home)
    assert key in config.find({"HOME": str(tmp_path / "home")}, user_id=os.geteuid()).values


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("plugin.a.b = 1", 1),
        ('"redis" = ["redis://h"]', 1),
        ("\n'redis'=['redis://h']", 2),
        ('"r\\u0065dis" = ["redis://h"]', 1),
        ("[offer]\ncpus = 4\n[ plugin . a ]\n", 3),
        ('[limits."sysctl.somaxconn"]\nredis = "1"\n["path"]\na = "h"', 3),
    ],
)
def test_a_key_is_found_however_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, line: int
) -> None:
    file = tmp_path / "vdscheck.toml"
    file.write_text(text)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=f"vdscheck.toml:{line}: [a-z]+ says what is connected to"):
        config.find({}, user_id=os.geteuid())
