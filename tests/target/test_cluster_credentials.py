"""Who `vdscheck cluster` says that it is: what kubectl says, to a server with TLS only, and never to the report."""

import base64
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.api_servers import LISTS, Answer, ApiServer, api_server, content
from tests.support.program import vdscheck
from vdscheck.model.absence import UnavailableError
from vdscheck.target.cluster import Cluster, login

SECRET = "S3cr3tT0ken"
JUDGED = ("--only", "cluster.node-health", "--json")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    with api_server(tmp_path_factory.mktemp("api")) as running:
        yield running


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """A server without TLS that knows nobody."""

    def answering(_path: str, headers: dict[str, str]) -> Answer:
        return (200, LISTS) if "authorization" in map(str.lower, headers) else (401, {"message": "Unauthorized"})

    with api_server(tmp_path_factory.mktemp("api"), tls=False, answering=answering) as running:
        yield running


def examined(config: Path, **environment: str) -> tuple[str, str]:
    """The verdict and the summary of a whole run; nothing secret is in what was written."""
    done = vdscheck("cluster", "--kubeconfig", str(config), *JUDGED, env=environment)
    assert done.returncode == 0, done.stderr
    assert SECRET not in done.stdout + done.stderr
    (finding,) = json.loads(done.stdout)["findings"]
    return finding["verdict"], finding["summary"]


def refusal(config: Path) -> str:
    """Why the server cannot be asked, as a probe is told in its process; "" where it answers."""
    handlers = logging.getLogger().handlers
    try:
        Cluster(login(str(config), None)).get("/version")
    except UnavailableError as error:
        why = error.absent.detail
    else:
        why = ""
    finally:
        logging.getLogger().handlers = handlers
    assert SECRET not in why
    return why


def plugin(folder: Path, token: str) -> dict[str, Any]:
    credential = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "kind": "ExecCredential",
        "status": {"token": token},
    }
    file = folder / "login"
    said = json.dumps(credential)
    file.write_text(f"#!/bin/sh\ntouch {folder}/ran\nenv >{folder}/environment\ncat <<'END'\n{said}\nEND\n")
    file.chmod(0o755)
    return {
        "exec": {
            "apiVersion": "client.authentication.k8s.io/v1",
            "command": "./login",
            "interactiveMode": "Never",
            "env": [{"name": "CLOUD_PROFILE", "value": "production"}],
        }
    }


# What kubectl 1.32 sends for the same kubeconfig is beside each.
FILES = {
    "a line end": (b"S3cr3tT0ken\n", "Bearer S3cr3tT0ken"),
    "a line end of Windows": (b"S3cr3tT0ken\r\n", "Bearer S3cr3tT0ken"),
    "two line ends": (b"S3cr3tT0ken\n\n", "Bearer S3cr3tT0ken"),
    "empty lines before it": (b"\n\nS3cr3tT0ken\n", "Bearer S3cr3tT0ken"),
    "other white space": (b"\x0bS3cr3tT0ken\x0c\n", "Bearer S3cr3tT0ken"),
    "not ASCII": ("S3cr3tT0ken→ü\n".encode(), "Bearer S3cr3tT0ken→ü".encode().decode("latin-1")),
    "a tab in it": (b"S3cr3tT0ken\tx\n", "Bearer S3cr3tT0ken\tx"),
}


@pytest.mark.parametrize("case", FILES)
def test_a_file_with_a_token_logs_in_as_with_kubectl(server: ApiServer, tmp_path: Path, case: str) -> None:
    written, header = FILES[case]
    (tmp_path / "token").write_bytes(written)
    server.authorizations.clear()
    assert refusal(server.kubeconfig(tmp_path, {"tokenFile": "token"})) == ""
    assert set(server.authorizations) == {header}


@pytest.mark.parametrize("end", ["\n", "\r\n", " \n"])
@pytest.mark.parametrize("place", ["token", "exec"])
def test_a_token_with_a_line_end_logs_in(server: ApiServer, tmp_path: Path, place: str, end: str) -> None:
    user = {"token": SECRET + end} if place == "token" else plugin(tmp_path, SECRET + end)
    server.authorizations.clear()
    assert refusal(server.kubeconfig(tmp_path, user)) == ""
    assert set(server.authorizations) == {f"Bearer {SECRET}"}


@pytest.mark.parametrize("inner", ["\n", "\r", "\r\n", "\x00", "\x1b[2J", "\n\n\n"])
@pytest.mark.parametrize("place", ["file", "token", "exec"])
def test_a_token_of_several_lines_is_refused_in_our_own_words(
    server: ApiServer, tmp_path: Path, place: str, inner: str
) -> None:
    token = f"root:{SECRET}:19000{inner}bin:{SECRET}\n"
    (tmp_path / "token").write_text(token)
    users = {"file": {"tokenFile": "token"}, "token": {"token": token}, "exec": plugin(tmp_path, token)}
    server.authorizations.clear()
    summary = refusal(server.kubeconfig(tmp_path, users[place]))
    assert "the token of context x is not sent: there is a line break or another control character in it" in summary
    assert server.authorizations == []


def test_the_file_of_the_systems_passwords_is_no_token(server: ApiServer, tmp_path: Path) -> None:
    verdict, summary = examined(server.kubeconfig(tmp_path, {"tokenFile": "/etc/shadow"}))
    assert verdict == "unknown"
    assert "is not sent" in summary
    assert "root" not in summary


@pytest.mark.parametrize("password", [f"{SECRET}", f"{SECRET}\n", f"a\n{SECRET}"])
def test_a_user_and_a_password_log_in_as_with_kubectl(server: ApiServer, tmp_path: Path, password: str) -> None:
    server.authorizations.clear()
    assert refusal(server.kubeconfig(tmp_path, {"username": "me", "password": password})) == ""
    assert set(server.authorizations) == {f"Basic {base64.b64encode(f'me:{password}'.encode()).decode()}"}


def test_what_a_program_is_started_with_is_no_secret_of_what_is_measured(tmp_path: Path) -> None:
    """Of managed clusters it is the region and the name, which nodes, labels and namespaces have as well."""
    name = "ip-10-0-1-1.eu-west-1.compute.internal"
    labels = {"topology.kubernetes.io/region": "eu-west-1", "eks.amazonaws.com/cluster": "production"}
    nodes = [{"metadata": {"name": name, "labels": labels}, "spec": {}, "status": {}}]

    def answering(path: str, headers: dict[str, str]) -> Answer:
        if path == "/api/v1/nodes":
            return 200, {"kind": "NodeList", "metadata": {}, "items": nodes}
        return content(path, headers)

    with api_server(tmp_path / "api", answering=answering) as running:
        user = plugin(tmp_path, SECRET)
        user["exec"]["args"] = ["--region", "eu-west-1", "--cluster-name", "production"]
        config = running.kubeconfig(tmp_path, user)
        done = vdscheck("cluster", "--kubeconfig", str(config), "--region", "eu-west-1", "--json")
    found = json.loads(done.stdout)
    (node,) = found["measurements"]["cluster.nodes"]["value"]["nodes"]
    assert (node["name"], node["labels"]) == (name, labels)
    verdicts = {each["subject"]: each["verdict"] for each in found["findings"] if each["id"] == "cluster.residency"}
    assert verdicts["nodes"] == "pass"
    assert SECRET not in done.stdout + done.stderr


# Without TLS


@pytest.mark.parametrize("kind", ["token", "file", "basic", "exec", "oidc"])
def test_nothing_secret_goes_to_a_server_without_tls_and_the_finding_says_so(
    plain: ApiServer, tmp_path: Path, kind: str
) -> None:
    (tmp_path / "token").write_text(f"{SECRET}\n")
    jwt = f"{base64.urlsafe_b64encode(b'{}').decode().rstrip('=')}.e30.{SECRET}"
    users: dict[str, dict[str, Any]] = {
        "token": {"token": SECRET},
        "file": {"tokenFile": "token"},
        "basic": {"username": "me", "password": SECRET},
        "exec": plugin(tmp_path, SECRET),
        "oidc": {"auth-provider": {"name": "oidc", "config": {"id-token": jwt, "client-secret": SECRET}}},
    }
    plain.raw.clear()
    summary = refusal(plain.kubeconfig(tmp_path, users[kind]))
    assert "(401): no credentials are sent to an http:// server" in summary
    assert plain.raw
    assert not any("authorization:" in each.lower() or SECRET in each for each in plain.raw)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("scheme", ["ht\ttp://", "http:\n//", "\x01http://", "HT\rTPS://", "\thttp://", "HTTP://"])
def test_no_program_is_run_for_a_server_without_tls_however_its_address_is_written(
    plain: ApiServer, tmp_path: Path, scheme: str
) -> None:
    address = plain.address.replace("http://", scheme)
    plain.raw.clear()
    assert refusal(plain.kubeconfig(tmp_path, plugin(tmp_path, SECRET), server=address))
    assert not (tmp_path / "ran").exists()
    assert not any(SECRET in each for each in plain.raw)


def test_a_server_without_tls_that_lets_everybody_in_is_examined_and_the_finding_says_how(tmp_path: Path) -> None:
    with api_server(tmp_path, tls=False) as anybody:
        config = anybody.kubeconfig(tmp_path, {"token": SECRET})
        done = vdscheck("cluster", "--kubeconfig", str(config), "--json", "--only", "cluster.api-latency")
        nobody = anybody.kubeconfig(tmp_path, {})
        other = vdscheck("cluster", "--kubeconfig", str(nobody), "--json", "--only", "cluster.api-latency")
    (finding,) = [each for each in json.loads(done.stdout)["findings"] if each["subject"] == "get"]
    assert "no credentials are sent to an http:// server" in finding["summary"]
    assert "no credentials" not in other.stdout
    assert set(anybody.authorizations) == {None}


def test_a_login_in_the_address_of_a_server_or_of_its_proxy_is_not_shown_and_not_sent_in_clear(
    plain: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = plain.address.replace("://", f"://me:{SECRET}@")
    plain.raw.clear()
    assert refusal(plain.kubeconfig(tmp_path, {}, server=f"{address}?token={SECRET}"))
    far = {"proxy-url": address, "server": f"http://me:{SECRET}@far.example:80"}
    assert refusal(plain.kubeconfig(tmp_path, {}, **far))
    monkeypatch.setenv("http_proxy", address)
    assert refusal(plain.kubeconfig(tmp_path, {}, server="http://far.example:80"))
    assert any("far.example" in each for each in plain.raw)
    assert not any(SECRET in each for each in plain.raw)
    assert not any(base64.b64encode(f"me:{SECRET}".encode()).decode() in each for each in plain.raw)


@pytest.mark.parametrize(
    "address",
    ["https://h:" + SECRET, f"https://[{SECRET}", f"ftp://me:{SECRET}@h", f"me:{SECRET}@h", f"https://?{SECRET}"],
)
def test_an_address_that_cannot_be_read_is_not_repeated(server: ApiServer, tmp_path: Path, address: str) -> None:
    assert "the address of the server of x " in refusal(server.kubeconfig(tmp_path, {"token": SECRET}, server=address))


def test_a_proxy_that_cannot_be_connected_to_is_told_as_the_proxy(server: ApiServer, tmp_path: Path) -> None:
    closed = {"proxy-url": f"http://me:{SECRET}@127.0.0.1:1", "server": "https://far.example:443"}
    said = refusal(server.kubeconfig(tmp_path, {"token": SECRET}, **closed))
    assert "the proxy on the way to far.example:443 cannot be connected to" in said


# Programs that log in

V1 = "client.authentication.k8s.io/v1"


def test_a_program_that_logs_in_gets_what_it_needs_and_nothing_of_ours(server: ApiServer, tmp_path: Path) -> None:
    config = server.kubeconfig(tmp_path, plugin(tmp_path, SECRET))
    ours = {"VDSCHECK_REDIS_URL": f"redis://:{SECRET}@127.0.0.1:1", "VDSCHECK_ANYTHING": SECRET}
    assert examined(config, AWS_PROFILE="prod", HOME=str(tmp_path), **ours)[0] == "not-applicable"
    environment = (tmp_path / "environment").read_text()
    assert SECRET not in environment
    assert "VDSCHECK_" not in environment
    for line in ("AWS_PROFILE=prod", "CLOUD_PROFILE=production", f"HOME={tmp_path}", "PATH=", "KUBERNETES_EXEC_INFO="):
        assert f"\n{line}" in f"\n{environment}"


@pytest.mark.parametrize(
    ("user", "said"),
    [
        ({"exec": {"apiVersion": V1, "command": "./x", "env": [{"value": SECRET}]}}, ""),
        ({"exec": {"token": SECRET}, "token": ""}, ""),
        ({"tokenFile": SECRET}, "a file that it names is not there"),
        ({"client-certificate": SECRET, "client-key": SECRET}, "a file that it names is not there"),
        ({"client-certificate-data": SECRET, "client-key-data": SECRET}, ""),
        ({"client-certificate-data": "a", "client-key-data": "a"}, "a field of it that ends in -data is not base64"),
        (
            {"exec": {"apiVersion": V1, "command": "/no/such", "interactiveMode": "Never"}},
            "its exec plugin cannot be started: No such file or directory",
        ),
        (
            {"exec": {"apiVersion": V1, "command": "/", "interactiveMode": "Never"}},
            "its exec plugin cannot be started: Permission denied",
        ),
        ({"auth-provider": {"name": "oidc", "config": {"id-token": f"a.{SECRET}.c"}}}, ""),
        ({"auth-provider": {"name": "gcp", "config": {"cmd-path": f"echo {SECRET}", "cmd-args": SECRET}}}, ""),
        ({"username": SECRET, "password": None}, ""),
    ],
)
def test_a_user_that_cannot_log_in_is_told_in_our_own_words(
    server: ApiServer, tmp_path: Path, user: dict[str, Any], said: str
) -> None:
    assert said in refusal(server.kubeconfig(tmp_path, user))


def test_a_server_that_repeats_the_token_is_not_repeated(tmp_path: Path) -> None:
    def answering(path: str, headers: dict[str, str]) -> Answer:
        token = {name.lower(): value for name, value in headers.items()}["authorization"].removeprefix("Bearer ")
        node = {
            "metadata": {"name": token, "labels": {token: token, "disktype": "nvme"}},
            "spec": {"taints": [{"key": token, "value": token, "effect": "NoSchedule"}]},
            "status": {"nodeInfo": {"kubeletVersion": token}},
        }
        said: dict[str, Answer] = {
            "/version": (200, {"gitVersion": token}),
            "/api/v1/nodes": (200, LISTS | {"items": [node]}),
            "/api/v1/pods": (404, {"message": f"I was sent {token}"}),
        }
        return said.get(path, (200, LISTS))

    with api_server(tmp_path, answering=answering) as echo:
        done = vdscheck("cluster", "--kubeconfig", str(echo.kubeconfig(tmp_path, {"token": SECRET})), "--json")
    assert done.returncode == 0, done.stderr
    assert SECRET not in done.stdout
    assert not any(SECRET[at : at + 8] in done.stdout for at in range(len(SECRET) - 7))
    assert "I was sent ***" in done.stdout


@pytest.mark.parametrize("token", [pytest.param("1", marks=pytest.mark.slow), "web"])
def test_a_short_token_takes_nothing_from_the_report(tmp_path: Path, token: str) -> None:
    def answering(path: str, _headers: dict[str, str]) -> Answer:
        node = {"metadata": {"name": "web-1", "labels": {"app": "web"}}, "status": {}}
        return 200, LISTS | ({"items": [node]} if path == "/api/v1/nodes" else {})

    with api_server(tmp_path, answering=answering) as named:
        found = []
        for each in (token, SECRET):
            config = named.kubeconfig(tmp_path, {"token": each})
            done = vdscheck("cluster", "--kubeconfig", str(config), "--json", "--skip", "cluster.api-latency")
            found.append(json.loads(done.stdout))
    assert found[0]["findings"] == found[1]["findings"]
    assert found[0]["measurements"]["cluster.nodes"]["value"]["nodes"][0]["labels"] == {"app": "web"}


# What the kubernetes package would ask others for, or leave out


@pytest.mark.parametrize("name", ["oidc", "gcp"])
def test_a_token_of_an_auth_provider_that_is_over_is_renewed_by_nobody(
    server: ApiServer, tmp_path: Path, name: str
) -> None:
    program = tmp_path / "login"
    program.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    program.chmod(0o755)
    over = f"{base64.urlsafe_b64encode(b'{}').decode().rstrip('=')}.eyJleHAiOjF9.{SECRET}"
    with api_server(tmp_path, tls=False) as issuer:
        config = {"id-token": over, "idp-issuer-url": issuer.address, "client-id": "me", "cmd-path": str(program)}
        config |= {"client-secret": SECRET, "refresh-token": SECRET}
        user = {"auth-provider": {"name": name, "config": config}}
        summary = refusal(server.kubeconfig(tmp_path, user))
    assert "the token of its auth-provider is over" in summary
    assert not issuer.raw
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("another", [{"as": "admin"}, {"as-groups": ["system:masters"]}, {"as-uid": "7"}])
def test_who_is_to_count_as_another_is_not_examined_as_himself(
    server: ApiServer, tmp_path: Path, another: dict[str, Any]
) -> None:
    server.authorizations.clear()
    assert "acts as another (as), which is not done here" in refusal(
        server.kubeconfig(tmp_path, {"token": SECRET} | another)
    )
    assert not server.authorizations


@pytest.mark.parametrize("namespace", ["kube-system/secrets?x=", "..", "a b", "A", "-a", "a" * 64, "a%2fb", "a\nb"])
def test_a_namespace_of_a_context_that_is_none_is_asked_for_nothing(
    server: ApiServer, tmp_path: Path, namespace: str
) -> None:
    config = server.kubeconfig(tmp_path, {"token": SECRET})
    table = json.loads(config.read_text())
    table["contexts"][0]["context"]["namespace"] = namespace
    config.write_text(json.dumps(table))
    done = vdscheck("cluster", "--kubeconfig", str(config), "--json")
    assert (done.returncode, done.stdout) == (2, "")
    assert "its namespace is not the name of a namespace" in done.stderr


@pytest.mark.parametrize("field", ["certificate-authority", "certificate-authority-data"])
def test_an_authority_beside_the_word_not_to_verify_is_refused_as_by_kubectl(
    server: ApiServer, tmp_path: Path, field: str
) -> None:
    config = server.kubeconfig(tmp_path, {"token": SECRET})
    table = json.loads(config.read_text())
    cluster = table["clusters"][0]["cluster"]
    for each in ("certificate-authority", "certificate-authority-data"):
        cluster.pop(each, None)
    table["clusters"][0]["cluster"] = cluster | {"insecure-skip-tls-verify": True, field: "eA=="}
    config.write_text(json.dumps(table))
    done = vdscheck("cluster", "--kubeconfig", str(config), "--json")
    assert (done.returncode, done.stdout) == (2, "")
    assert "insecure-skip-tls-verify, which kubectl refuses as well" in done.stderr


@pytest.mark.parametrize("which", ["server", "proxy-url"])
@pytest.mark.parametrize(
    "address", ["https://us3rS3cret/x@h:1", "https://us3rS3cret?x@h:1", "https://us3rS3cret#x@h:1"]
)
def test_the_beginning_of_a_login_is_asked_of_no_resolver(
    server: ApiServer, tmp_path: Path, which: str, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []
    monkeypatch.setattr("socket.getaddrinfo", lambda *words, **_: asked.append(words))
    why = refusal(server.kubeconfig(tmp_path, {"token": SECRET}, **{which: address}))
    assert "has an @ behind its host" in why
    assert "us3rS3cret" not in why
    assert asked == []
