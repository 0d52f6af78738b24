"""What was read and checked of kubeconfigs is what logs in: nothing of them is read a second time, or elsewhere."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.api_servers import ApiServer, api_server
from tests.support.program import vdscheck
from tests.target.test_cluster_credentials import SECRET, plugin, refusal
from vdscheck.target import cluster

OTHER = "0therT0ken-of-others"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    with api_server(tmp_path_factory.mktemp("api")) as running:
        running.authorizations.clear()
        yield running


@pytest.fixture
def asked(server: ApiServer) -> list[str | None]:
    """The Authorization header of each request of one test."""
    server.authorizations.clear()
    return server.authorizations


def run(*words: str, **more: Any) -> tuple[int, str]:
    done = vdscheck("cluster", *words, "--only", "cluster.node-health", "--json", **more)
    assert OTHER not in done.stdout + done.stderr
    return done.returncode, done.stderr


def of_others(server: ApiServer, folder: Path, name: str) -> Path:
    """A kubeconfig of somebody else's, with a program, in a folder that is his; what shows that it ran."""
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    server.kubeconfig(folder, plugin(folder, OTHER)).rename(folder / name)
    return folder / "ran"


# The name of the file


def test_a_colon_in_the_name_of_a_kubeconfig_leads_to_no_other_file(
    server: ApiServer, asked: list[str | None], tmp_path: Path
) -> None:
    hostile = tmp_path / "hostile"
    ran = of_others(server, hostile, "eu.yaml")
    mine = server.kubeconfig(tmp_path, {"token": SECRET}).rename(tmp_path / "prod:eu.yaml")
    assert run("--kubeconfig", str(mine), cwd=hostile) == (0, "")
    assert set(asked) == {f"Bearer {SECRET}"}
    assert not ran.exists()


def test_a_colon_in_the_name_of_the_home_leads_to_no_other_file(
    server: ApiServer, asked: list[str | None], tmp_path: Path
) -> None:
    hostile, home = tmp_path / "hostile", tmp_path / "me:home"
    ran = of_others(server, hostile, "home/.kube/config")
    (home / ".kube").mkdir(parents=True)
    mine = server.kubeconfig(home, {"token": SECRET}).rename(home / ".kube/config")
    mine.chmod(0o600)
    assert run(cwd=hostile, env={"HOME": str(home)}) == (0, "")
    assert set(asked) == {f"Bearer {SECRET}"}
    assert not ran.exists()


NO_HOME = "vdscheck: ~/.kube/config: nothing has put a home folder in the place of ~: write the whole path\n"


def test_a_tilde_that_no_shell_has_replaced_leads_nowhere(
    server: ApiServer, asked: list[str | None], tmp_path: Path
) -> None:
    """kubectl takes it for a folder of the current one, whose owner's program would run; a shell means the home."""
    home, here = tmp_path / "home", tmp_path / "here"
    ran = [of_others(server, home, ".kube/config"), of_others(server, here, "~/.kube/config")]
    own = home / ".config/vdscheck/config.toml"
    own.parent.mkdir(parents=True)
    environment = {"HOME": str(home)}
    assert run(cwd=here, env={**environment, "KUBECONFIG": "~/.kube/config"}) == (2, NO_HOME)
    assert run("--kubeconfig=~/.kube/config", cwd=here, env=environment) == (2, NO_HOME)
    own.write_text('kubeconfig = "~/.kube/config"')
    assert run(cwd=here, env=environment) == (2, NO_HOME)
    assert asked == []
    assert not any(each.exists() for each in ran)


def test_a_kubeconfig_is_sought_beside_the_configuration_that_names_it(
    server: ApiServer, asked: list[str | None], tmp_path: Path
) -> None:
    home, here = tmp_path / "home", tmp_path / "here"
    ran = of_others(server, here, "prod.yaml")
    own = home / ".config/vdscheck/config.toml"
    own.parent.mkdir(parents=True)
    own.write_text('kubeconfig = "prod.yaml"')
    server.kubeconfig(tmp_path, {"token": SECRET}).rename(own.parent / "prod.yaml")
    assert run(cwd=here, env={"HOME": str(home)}) == (0, "")
    assert set(asked) == {f"Bearer {SECRET}"}
    assert not ran.exists()


# What stands in the file

END = "users: [{name: u, user: %s}]\ncontexts: [{name: x, context: {cluster: %s, user: u}}]\ncurrent-context: x\n"
USABLE = "{server: '%(tls)s', certificate-authority: %(ca)s}"
MERGED = f"x1: &a {USABLE}\nx2: &b {{server: '%(plain)s'}}\nclusters: [{{name: c, cluster: {{<<: *a, <<: *b}}}}]\n"
CLUSTERS = {
    "two merges": (MERGED, "c"),
    "a name of bytes": (f"clusters: [{{name: !!binary 'Yw==', cluster: {USABLE}}}]\n", "c"),
    "a name that is a date": (f"clusters: [{{name: 2020-01-01, cluster: {USABLE}}}]\n", "'2020-01-01'"),
}


@pytest.mark.parametrize("case", CLUSTERS)
def test_what_yaml_can_mean_in_two_ways_means_one_thing(
    server: ApiServer, asked: list[str | None], tmp_path: Path, case: str
) -> None:
    clusters, named = CLUSTERS[case]
    file = tmp_path / "kubeconfig"
    with api_server(tmp_path, tls=False) as plain:
        places = {"tls": server.address, "ca": server.authority, "plain": plain.address}
        file.write_text(clusters % places + END % (json.dumps(plugin(tmp_path, SECRET)), named))
        assert refusal(file) == ""
        assert not plain.raw
    assert set(asked) == {f"Bearer {SECRET}"}


def test_an_authority_is_not_passed_over_by_a_second_merge(
    server: ApiServer, asked: list[str | None], tmp_path: Path
) -> None:
    begin = "x1: &a {insecure-skip-tls-verify: false}\nx2: &b {insecure-skip-tls-verify: true}\n"
    elsewhere = server.address.replace("localhost", "127.0.0.1")  # no name of its certificate
    inner = f"server: '{elsewhere}', certificate-authority: {server.authority}, <<: *a, <<: *b"
    file = tmp_path / "kubeconfig"
    file.write_text(begin + f"clusters: [{{name: c, cluster: {{{inner}}}}}]\n" + END % (f"{{token: {SECRET}}}", "c"))
    assert "TLS" in refusal(file)
    assert asked == []


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("clusters", "{name: c}, {name: c}"),
        ("clusters", "{name: c}, {name: !!binary 'Yw=='}"),
        ("users", "{name: 2020-01-01}, {name: '2020-01-01'}"),
        ("contexts", '{name: x}, {name: "\\x78"}'),
    ],
)
def test_two_entries_of_one_name_are_refused_however_it_is_written(tmp_path: Path, kind: str, names: str) -> None:
    file = tmp_path / "kubeconfig"
    file.write_text(f"{kind}: [{names}]\ncurrent-context: x\n")
    code, said = run("--kubeconfig", str(file))
    assert code == 2
    assert f"{kind}: duplicate name" in said
    assert said.count("\n") == 1


# Which files it names, and what is empty


def test_each_file_is_sought_beside_the_kubeconfig_that_names_it(
    server: ApiServer, asked: list[str | None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert server.authority is not None
    first, second = tmp_path / "first", tmp_path / "second"
    for folder, user in ((first, {}), (second, {"tokenFile": "token"})):
        folder.mkdir()
        table = json.loads(server.kubeconfig(folder, user, **{"certificate-authority": "ca.pem"}).read_text())
        table["contexts"][0]["context"] = {"cluster": "first", "user": "second"}
        table["clusters"][0]["name"] = table["users"][0]["name"] = folder.name
        (folder / "kubeconfig").write_text(json.dumps(table))
    (first / "ca.pem").write_bytes(server.authority.read_bytes())
    (second / "token").write_text(SECRET)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KUBECONFIG", "first/kubeconfig:second/kubeconfig")
    found = cluster.login(None, None)
    monkeypatch.chdir("/")
    cluster.Cluster(found).get("/version")
    assert set(asked) == {f"Bearer {SECRET}"}


def test_a_program_runs_in_the_folder_of_the_kubeconfig_that_names_it(
    server: ApiServer, asked: list[str | None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    for folder, table in ((first, ("clusters", "contexts", "current-context")), (second, ("users",))):
        folder.mkdir()
        file = server.kubeconfig(folder, plugin(folder, SECRET))
        whole = json.loads(file.read_text())
        file.write_text(json.dumps({key: whole[key] for key in table}))
    monkeypatch.setenv("KUBECONFIG", f"{first}/kubeconfig:{second}/kubeconfig")
    cluster.Cluster(cluster.login(None, None)).get("/version")
    assert set(asked) == {f"Bearer {SECRET}"}
    assert (second / "ran").exists()
    assert not (first / "ran").exists()


@pytest.mark.parametrize(
    "user",
    [
        {"token": "", "tokenFile": "token"},
        {
            "token": None,
            "tokenFile": "token",
            "client-certificate-data": "",
            "client-certificate": "",
            "client-key": "",
        },
        {"token": SECRET, "tokenFile": "", "username": "", "password": None, "auth-provider": None, "exec": None},
    ],
)
def test_a_field_that_is_empty_is_none(
    server: ApiServer, asked: list[str | None], tmp_path: Path, user: dict[str, Any]
) -> None:
    (tmp_path / "token").write_text(SECRET)
    empty = {"certificate-authority-data": "", "proxy-url": "", "tls-server-name": None}
    assert refusal(server.kubeconfig(tmp_path, user, **empty)) == ""
    assert set(asked) == {f"Bearer {SECRET}"}


@pytest.mark.parametrize("password", [{}, {"password": ""}, {"password": None}])
def test_a_user_without_a_password_logs_in_with_an_empty_one(
    server: ApiServer, asked: list[str | None], tmp_path: Path, password: dict[str, Any]
) -> None:
    assert refusal(server.kubeconfig(tmp_path, {"username": "me"} | password)) == ""
    assert set(asked) == {"Basic bWU6"}


@pytest.mark.parametrize("scheme", ["https", "HTTPS", " https"])
def test_an_authority_counts_however_the_scheme_is_written(
    server: ApiServer, asked: list[str | None], tmp_path: Path, scheme: str
) -> None:
    address = server.address.replace("https", scheme)
    assert refusal(server.kubeconfig(tmp_path, {"token": SECRET}, server=address)) == ""
    assert set(asked) == {f"Bearer {SECRET}"}


def test_what_logs_in_is_not_shown(server: ApiServer, tmp_path: Path) -> None:
    found = cluster.login(str(server.kubeconfig(tmp_path, {"token": SECRET})), None)
    assert SECRET in str(found.chosen.kubeconfig)
    assert SECRET not in repr(found)


@pytest.mark.parametrize("place", ["token", "file", "exec", "password"])
def test_a_token_that_is_too_long_to_be_looked_for_is_not_sent(
    server: ApiServer, asked: list[str | None], tmp_path: Path, place: str
) -> None:
    token = "A" * 66_000 + SECRET
    (tmp_path / "token").write_text(token)
    users = {
        "token": {"token": token},
        "file": {"tokenFile": "token"},
        "exec": plugin(tmp_path, token),
        "password": {"username": "me", "password": token},
    }
    said = refusal(server.kubeconfig(tmp_path, users[place]))
    assert "the token of context x is not sent: it has more than 65,536 characters" in said
    assert asked == []


def test_a_login_of_a_proxy_that_is_too_long_to_be_looked_for_is_not_sent(server: ApiServer, tmp_path: Path) -> None:
    proxy = f"http://me:{'A' * 66_000}{SECRET}@127.0.0.1:1"
    said = refusal(server.kubeconfig(tmp_path, {"token": SECRET}, **{"proxy-url": proxy}))
    assert "the address of the proxy on the way to the server of x has more than 65,536 characters" in said


# Names that are addresses with a login


def named(server: ApiServer, folder: Path, **names: Any) -> Path:
    """A kubeconfig in which a context, a cluster, a user or the current context has another name."""
    file = server.kubeconfig(folder, {"token": "an0therT0ken"})
    table = json.loads(file.read_text())
    context = table["contexts"][0]
    context["name"] = table["current-context"] = names.pop("context", "x")
    table["current-context"] = names.pop("current", context["name"])
    context["context"] |= names.pop("more", {})
    table["clusters"] += names.pop("clusters", [])
    table["users"] += names.pop("users", [])
    file.write_text(json.dumps(table))
    return file


NAME = f"https://admin:{SECRET}@api.x"
SHOWN = "https://***@api.x"


@pytest.mark.parametrize("name", [NAME, f"prod {NAME}", f"//{SECRET}@api.x"])
def test_a_context_named_as_an_address_shows_no_login_in_the_report(
    server: ApiServer, tmp_path: Path, name: str
) -> None:
    for words in (("--json",), ("-q",)):
        done = vdscheck("cluster", "--kubeconfig", str(named(server, tmp_path, context=name)), *words)
        assert done.returncode == 0, done.stderr
        assert SECRET not in done.stdout + done.stderr
        assert "--json" not in words or json.loads(done.stdout)["target"]["name"].endswith("//***@api.x")


ODD: dict[str, dict[str, Any]] = {
    "a namespace": {"context": NAME, "more": {"namespace": f"https://u:{SECRET}@h"}},
    "the current one": {"context": NAME, "current": f"https://u:{SECRET}@h"},
    "known ones": {"context": NAME, "current": ""},
    "two clusters": {"clusters": [{"name": NAME}, {"name": NAME}]},
    "two users": {"users": [{"name": NAME}, {"name": NAME}]},
    "a wrong cluster": {"clusters": [{"name": NAME, "cluster": {"server": 7}}]},
    "a wrong user": {"users": [{"name": NAME, "user": "x"}]},
    "an authority": {
        "context": NAME,
        "clusters": [{"name": "d", "cluster": {"insecure-skip-tls-verify": True, "certificate-authority": "x"}}],
        "more": {"cluster": "d"},
    },
}


@pytest.mark.parametrize("case", ODD)
def test_a_name_that_is_an_address_shows_no_login_in_a_refusal(server: ApiServer, tmp_path: Path, case: str) -> None:
    code, said = run("--kubeconfig", str(named(server, tmp_path, **ODD[case])))
    assert code == 2
    assert SECRET not in said
    assert SHOWN in said


@pytest.mark.parametrize("user", [{"token": "a\nb"}, {"as": "me"}, {"tokenFile": "/no/such"}, {"exec": {}}])
def test_a_context_named_as_an_address_shows_no_login_where_nobody_is_logged_in(
    server: ApiServer, tmp_path: Path, user: dict[str, Any]
) -> None:
    more = {"users": [{"name": "v", "user": user}], "more": {"user": "v"}}
    assert SHOWN in refusal(named(server, tmp_path, context=NAME, **more))


def test_a_context_that_is_not_there_shows_no_login(server: ApiServer, tmp_path: Path) -> None:
    code, said = run("--kubeconfig", str(named(server, tmp_path)), "--context", NAME)
    assert code == 2
    assert SECRET not in said
    assert f"no context {SHOWN}" in said
