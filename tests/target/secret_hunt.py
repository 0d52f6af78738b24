"""What the secret hunt is made of: secrets, how they are looked for, servers that repeat them, and all the runs."""

import ast
import base64
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import quote

import kubernetes.config
import typer

from tests.lab.redis_server import free_port
from tests.support.api_servers import LISTS, Answer, ApiServer, api_server
from tests.support.hostile_redis import answers, bulk, requests, server
from tests.support.program import environment
from tests.support.project import PROJECT
from vdscheck.cli import known
from vdscheck.cli.app import command_line
from vdscheck.cli.config import keys

PIECE = 8
LETTERS = "ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz23456789"


class Secrets:
    """A different secret for every place, and what each looks like in whatever was written."""

    def __init__(self) -> None:
        self._random = random.Random(20261129)
        self._pieces: dict[str, str] = {}

    def new(self, place: str, marks: str = "") -> str:
        """A secret for a place, with some marks in it."""
        made = "".join(self._random.choices(LETTERS, k=14)) + marks + "".join(self._random.choices(LETTERS, k=14))
        for form in _forms(made):
            for at in range(len(form) - PIECE + 1):
                self._pieces.setdefault(form[at : at + PIECE], place)
        return made

    def address(self, place: str, scheme: str = "redis", host: str = "127.0.0.1:1") -> str:
        """An address that holds one as user, one as password and one in its query."""
        user, password, option = (self.new(f"{place}, {part}") for part in ("user", "password", "query"))
        return f"{scheme}://{user}:{password}@{host}?password={option}"

    def found_in(self, text: str) -> set[str]:
        """The places whose secrets stand in a text: as they are or encoded, whole or a piece of one."""
        windows = {text[at : at + PIECE] for at in range(len(text) - PIECE + 1)}
        return {self._pieces[each] for each in windows & self._pieces.keys()}


def _forms(secret: str) -> Iterator[str]:
    yield from (
        secret,
        repr(secret)[1:-1],
        repr(secret.encode())[2:-1],
        quote(secret, safe=""),
        json.dumps(secret)[1:-1],
    )
    for before in range(3):
        encoded = base64.b64encode(b"\0" * before + secret.encode())
        yield encoded.decode()[4 if before else 0 : -4]
        yield base64.urlsafe_b64encode(b"\0" * before + secret.encode()).decode()[4 if before else 0 : -4]


@dataclass
class Run:
    """One run of the program, and whether anything is to come of it but a refusal."""

    area: str
    words: tuple[str, ...]
    environment: dict[str, str]


OUTPUTS = ("-v", "-o", "json={place}/r.json", "-o", "text={place}/r.text")


@dataclass
class Hunt:
    """All runs, and what else was written by whom: servers without TLS, and programs that were started."""

    folder: Path
    secrets: Secrets = field(default_factory=Secrets)
    runs: list[Run] = field(default_factory=list)
    plain: list[ApiServer] = field(default_factory=list)
    """What came to these could be read by anybody."""
    area: str = ""

    def found(self, area: str = "", mutations: tuple[tuple[str, str], ...] = ()) -> dict[str, list[str]]:
        """Run all, or those of one area; the places whose secrets were found, with where each was."""
        runs = [each for each in self.runs if area in ("", each.area)]
        for server_without_tls in self.plain:
            server_without_tls.raw.clear()
        asked = {"mutations": mutations, "runs": [vars(each) for each in runs]}
        done = subprocess.run(
            [sys.executable, "-m", "tests.target.hunter"],
            input=json.dumps(asked), capture_output=True, text=True, check=False, timeout=280, env=environment(),
            cwd=PROJECT,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-2000:]
        texts = {"the hunter's stderr": done.stderr}
        for number, (asked_for, came) in enumerate(zip(runs, json.loads(done.stdout), strict=True)):
            assert came["code"] in (0, 1, 2), (asked_for, came)
            shown = f"run {number}, {' '.join(asked_for.words[:6])}"
            texts |= {f"{name} of {shown}": text for name, text in came["written"].items()}
        for number, each in enumerate(self.plain):
            texts[f"server {number} without TLS"] = "\n".join(each.raw)
        for file in self.folder.glob("seen-*"):
            texts[f"the program {file.name}"] = file.read_text(errors="replace")
            file.unlink()
        found: dict[str, list[str]] = {}
        for where, text in texts.items():
            for place in self.secrets.found_in(text):
                found.setdefault(place, []).append(where)
        return found

    def add(self, *words: str, **variables: str) -> None:
        self.runs.append(Run(self.area, words, variables))


# Redis


def forms_of(secret: str) -> dict[str, str]:
    """How a server may repeat what it was sent, and it is still the same."""
    return {
        "plain": secret,
        "repr": repr(secret.encode()),
        "percent": quote(secret, safe=""),
        "base64": base64.b64encode(secret.encode()).decode(),
        "basic": base64.b64encode(f"me:{secret}".encode()).decode(),
        "piece": secret[3:15],
    }


def repeating(form: str) -> Any:
    """A Redis that lets everybody in, and repeats the password in all that it says."""

    calls = count(1)

    def part(connection: socket.socket) -> None:
        said = ""
        for words in requests(connection):
            command = words[0].upper()
            if command == b"AUTH":
                said = forms_of(words[-1].decode())[form]
                connection.sendall(b"+OK\r\n")
            elif command == b"INFO":
                name = re.sub(r"\W", "-", said)
                lines = (
                    f"redis_version:{name}\r\nredis_mode:{name}\r\nmaxmemory_policy:{name}\r\nused_memory:1\r\n"
                    f"role:{name}\r\nslave0:ip={name},port=1,state={name},offset=1,lag=1\r\nconnected_clients:1\r\n"
                    f"cmdstat_{name}:calls={next(calls)},usec=1000,usec_per_call=1\r\n"
                )
                connection.sendall(bulk(lines.encode()))
            elif command == b"PING":
                connection.sendall(b"+PONG\r\n")
            else:
                connection.sendall(f"-ERR you said {said}\r\n".encode())

    return part


def saying_pong(connection: socket.socket) -> None:
    """One whose PONG is the password."""
    said = b"+OK"
    for words in requests(connection):
        said = bulk(words[-1]) if words[0].upper() == b"AUTH" else said
        connection.sendall(b"+OK\r\n" if words[0].upper() == b"AUTH" else said)


def hunt_redis(hunt: Hunt, stack: ExitStack, shut: int) -> None:
    """A real server that asks for another password, servers that repeat it, and all that goes wrong before that."""
    new = hunt.secrets.new
    only = ("run", "--only", "redis.clients", "--only", "redis.persistence", *OUTPUTS)
    ports = {form: stack.enter_context(server(repeating(form))) for form in forms_of("")}
    for form, port in ports.items():
        password = quote(new(f"redis, repeated as {form}", "/+'éöü→" if form in ("repr", "percent") else ""))
        hunt.add(*only, VDSCHECK_REDIS_URL=f"redis://:{password}@127.0.0.1:{port}")
    refusing_all = dict.fromkeys(("info", "config", "latency", "slowlog"), b"-NOPERM no permissions\r\n")
    forbidding = stack.enter_context(server(answers(ping=b"+PONG\r\n", **refusing_all)))
    login = f"{new('a user who may do nothing')}:{new('the password of one')}"
    hunt.add(*only, VDSCHECK_REDIS_URL=f"redis://{login}@127.0.0.1:{forbidding}")
    pong = stack.enter_context(server(saying_pong))
    name = new("redis, as a name of INFO")
    hunt.add("run", "--only", "redis.latency", *OUTPUTS, "--redis", f"redis://:{name}@127.0.0.1:{ports['plain']}")
    hunt.add("run", "--only", "redis.latency", *OUTPUTS, "--redis", f"redis://:{new('PONG')}@127.0.0.1:{pong}")
    broken = hunt.folder / "broken.pem"
    broken.write_text(f"-----BEGIN PRIVATE KEY-----\n{new('redis, a key file')}\n-----END PRIVATE KEY-----\n")
    places = (
        f"127.0.0.1:{shut}", f"127.0.0.1:{free_port()}", f"127.0.0.1:{ports['plain']}/7", "no.such.host.invalid",
        f"127.0.0.1:{ports['base64']}/0",
    )  # fmt: skip
    urls = [f"redis://{new(f'user at {place}')}:{new(f'password at {place}')}@{place}" for place in places]
    urls += [
        f"redis://{new('in the place of a user')}@127.0.0.1:{shut}",
        f"redis://u%3A{new('with a colon in the place of a user')}@127.0.0.1:{shut}",
        f"redis://127.0.0.1:{shut}?password=a b {new('an option with spaces')}",
        f"redis://127.0.0.1:{shut}?username={new('an option, user')}&password={new('an option, password')}",
        f"unix://me:{new('a socket')}@/nowhere/redis.sock",
        f"rediss://:{new('to a port without TLS')}@127.0.0.1:{shut}",
        f"rediss://:{new('with a broken key')}@127.0.0.1:{shut}?ssl_certfile={broken}&ssl_keyfile={broken}",
    ]
    file = hunt.folder / "redis.toml"
    file.write_text(f"redis = {json.dumps(urls)}\n")
    hunt.add(*only, "--config", str(file))
    hunt.add(*only, *(word for url in urls for word in ("--redis", url)))
    for number, start in enumerate(("redis//me:", "redis://me: x@", "redis://h:", "http://me:", "redis://\x1b:", "")):
        bad = f"{start}{new(f'bad address {number}')}@host name"
        hunt.add(*only, "--redis", bad)
        hunt.add("redis", VDSCHECK_REDIS_URL=bad)


# Kubernetes


def fields() -> list[str]:
    """What the kubernetes package reads of a kubeconfig: the words of its source that can be keys."""
    folder = Path(kubernetes.config.__file__).parent
    trees = [ast.parse((folder / f"{name}.py").read_text()) for name in ("kube_config", "exec_provider")]
    words = {node.value for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Constant)}
    return sorted(word for word in words if isinstance(word, str) and re.fullmatch("[a-z][A-Za-z-]{2,40}", word))


NOT_SECRET = {
    *("server", "proxy-url", "certificate-authority", "tls-server-name", "insecure-skip-tls-verify"),
    *("apiVersion", "command", "interactive", "provideClusterInfo", "name", "tokenFile", "client-certificate"),
    *("client-key", "idp-certificate-authority", "cluster", "user"),
}
"""Fields that name places and files; those of them that are addresses have cases of their own."""


def filled(hunt: Hunt, kind: str, given: dict[str, Any]) -> dict[str, Any]:
    """A table with a secret in every field that is not given and may hold one."""
    others = [
        name
        for name in fields()
        if name not in NOT_SECRET and name not in ("exec", "auth-provider", "token", "password")
    ]
    return {name: hunt.secrets.new(f"{kind}: {name}") for name in others if name not in given} | given


def users(hunt: Hunt, folder: Path) -> dict[str, dict[str, Any]]:
    """One user for each way to log in, and for each way in which that goes wrong."""
    new = hunt.secrets.new
    jwt = f"{base64.urlsafe_b64encode(b'{}').decode()}.e30.{new('oidc id-token')}".replace("=", "")
    oidc = {"name": "oidc", "config": filled(hunt, "oidc", {"id-token": jwt, "idp-issuer-url": "https://127.0.0.1:1"})}
    expired = {"id-token": jwt.replace("e30", "eyJleHAiOjF9"), "idp-issuer-url": "http://127.0.0.1:1"}
    (folder / "token").write_text(f"{new('token file')}\n")
    (folder / "lines").write_text(f"root:{new('token file, first line')}\nbin:{new('token file, second line')}\n")
    (folder / "key").write_text(
        f"-----BEGIN PRIVATE KEY-----\n{new('client-key, a file')}\n-----END PRIVATE KEY-----\n"
    )
    data = base64.b64encode((folder / "key").read_bytes().replace(b"a", b"b")).decode()
    said = {
        "good": plugin_says(new("exec token")),
        "lines": plugin_says(f"{new('exec token, first line')}\n{new('second line')}"),
        "words": f"echo {new('exec stdout')}; echo {new('exec stderr')} >&2; exit 3",
        "silent": f"echo '{json.dumps({'kind': 'ExecCredential', 'status': {'x': new('exec, no token')}})}'",
    }
    found: dict[str, dict[str, Any]] = {
        "token": {"token": new("token")},
        "token with marks": {"token": new("token with marks", "/+'")},
        "token with a line end": {"token": new("token with a line end") + "\r\n"},
        "token with an end in it": {"token": f"{new('token, first')}\n{new('token, second')}"},
        "token file": {"tokenFile": "token"},
        "token file of many lines": {"tokenFile": "lines"},
        "token in the place of its file": {"tokenFile": new("a token in the place of its file")},
        "basic": {"username": new("user name"), "password": new("password")},
        "oidc": {"auth-provider": oidc},
        "oidc, expired": {"auth-provider": {"name": "oidc", "config": filled(hunt, "oidc, expired", expired)}},
        "gcp": {
            "auth-provider": {
                "name": "gcp",
                "config": {"cmd-path": f"false {new('gcp cmd-path')}", "cmd-args": new("args")},
            }
        },
        "files": {"client-certificate": "key", "client-key": "key"},
        "data": {"client-certificate-data": data, "client-key-data": new("client-key-data", "==")},
        "data that is none": {"client-certificate-data": data, "client-key-data": data},
        "everything": filled(hunt, "user", {}),
        "exec without a name": {
            "exec": {"apiVersion": "v1", "command": "x", "env": [{"value": new("exec env without a name")}]}
        },
        "exec that is not there": {
            "exec": {"apiVersion": "v1", "command": "./gone", "args": [new("exec args of nobody")]}
        },
    }
    return found | {f"exec, {name}": plugged(hunt, folder, name, text) for name, text in said.items()}


def plugin_says(token: str) -> str:
    credential = {"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": {"token": token}}
    return f"cat <<'END'\n{json.dumps(credential)}\nEND"


def plugged(hunt: Hunt, folder: Path, name: str, text: str) -> dict[str, Any]:
    """A program that logs in, and that writes down what it and all above it were started with."""
    own = ("OWN", hunt.secrets.new(f"exec env of {name}"))
    file = folder / f"login-{name}"
    seen = folder / f"seen-{name}"
    file.write_text(
        "#!/bin/sh\n"
        f"tr '\\0' '\\n' </proc/$$/environ | grep -v '^OWN=' >>{seen}\n"
        f"tr '\\0' '\\n' </proc/$PPID/cmdline >>{seen}\n"
        f"{text}\n"
    )
    file.chmod(0o755)
    return {
        "exec": {
            "apiVersion": "client.authentication.k8s.io/v1",
            "command": f"./{file.name}",
            "args": [hunt.secrets.new(f"exec args of {name}")],
            "env": [{"name": own[0], "value": own[1]}],
            "interactiveMode": "Never",
        }
    }


def echoing(path: str, headers: dict[str, str]) -> Answer:
    """An API server that repeats the credentials in every name, and in messages in every form."""
    sent = {name.lower(): value for name, value in headers.items()}.get("authorization", "Bearer nobody").split(" ", 1)[
        1
    ]
    forms = forms_of(sent)
    node = {
        "metadata": {"name": sent, "labels": {sent: sent, "disktype": "nvme"}},
        "spec": {"taints": [{"key": sent, "value": sent, "effect": "NoSchedule"}]},
        "status": {
            "nodeInfo": {"kubeletVersion": sent},
            "conditions": [{"type": "Ready", "status": "False", "message": sent}],
        },
    }
    said: dict[str, Answer] = {
        "/version": (200, {"gitVersion": sent}),
        "/api/v1/nodes": (200, LISTS | {"items": [node]}),
        "/api/v1/pods": (404, {"message": f"you said {forms['plain']}"}),
        "/apis/apps/v1/deployments": (404, {"message": f"you said {forms['base64']}"}),
        "/apis/apps/v1/statefulsets": (404, {"message": f"you said {forms['percent']}"}),
        "/apis/apps/v1/daemonsets": (404, {"message": f"you said {forms['piece']}"}),
        "/apis/batch/v1/jobs": (404, {"message": f"you said {forms['basic']}"}),
        "/api/v1/persistentvolumes": (404, {"message": f"you said {forms['repr']} at https://{sent}@h?x={sent}"}),
    }
    return said.get(path, (200, LISTS))


def refusing(_path: str, _headers: dict[str, str]) -> Answer:
    return 401, {"message": "who are you"}


def kubeconfig(hunt: Hunt, name: str, user: dict[str, Any], server_of: ApiServer, **cluster: Any) -> str:
    folder = hunt.folder / re.sub(r"\W+", "-", f"kube-{name}")
    folder.mkdir()
    return str(server_of.kubeconfig(folder, user, **cluster))


def hunt_kubernetes(hunt: Hunt, stack: ExitStack) -> None:
    """Each way to log in at a server that repeats it, and each way of a server to go wrong."""
    new = hunt.secrets.new
    echo = stack.enter_context(api_server(hunt.folder, answering=echoing))
    closed = ApiServer("https://127.0.0.1:1", echo.authority)
    unknown = stack.enter_context(api_server(hunt.folder, answering=refusing))
    plain = stack.enter_context(api_server(hunt.folder, tls=False, answering=refusing))
    hunt.plain += [plain]
    for name, user in users(hunt, hunt.folder).items():
        config = echo.kubeconfig(
            hunt.folder, user, extensions=[{"name": "x", "extension": {"y": new(f"extension, {name}")}}]
        )
        kept = config.rename(hunt.folder / f"kubeconfig-{re.sub(chr(92) + 'W+', '-', name)}")
        hunt.add("cluster", "--kubeconfig", str(kept), *OUTPUTS, VDSCHECK_REDIS_URL=hunt.secrets.address(f"for {name}"))
    far = {"server": "https://far.example:443"}
    proxies = {
        name: hunt.secrets.address(name, "http", plain.address[7:])
        for name in ("HTTPS_PROXY", "https_proxy", "proxy-url", "proxy-url to plain")
    }
    wrong: dict[str, tuple[ApiServer, dict[str, Any]]] = {
        "closed": (closed, {}),
        "401": (unknown, {}),
        "plain": (plain, {}),
        "no TLS": (echo, {"server": plain.address.replace("http://", "https://")}),
        "another authority": (echo, {"certificate-authority": "/etc/ssl/certs/ca-certificates.crt"}),
        "no such host": (echo, {"server": "https://no.such.host.invalid"}),
        "a login in the address": (plain, {"server": hunt.secrets.address("server", "http", plain.address[7:])}),
        "a login in a TLS address": (echo, {"server": hunt.secrets.address("TLS server", "https", "127.0.0.1:1")}),
        "a bad port": (echo, {"server": f"https://h:{new('in the place of a port')}"}),
        "no scheme": (echo, {"server": f"me:{new('without a scheme')}@h"}),
        "a proxy": (echo, far | {"proxy-url": proxies.pop("proxy-url")}),
        "a proxy to plain": (plain, {"server": "http://far.example", "proxy-url": proxies.pop("proxy-url to plain")}),
        "a bad proxy": (echo, far | {"proxy-url": f"x://{new('a bad proxy')}@h"}),
    }  # fmt: skip
    for name, (at, cluster) in wrong.items():
        hunt.add(
            "cluster", "--kubeconfig", kubeconfig(hunt, name, {"token": new(f"token: {name}")}, at, **cluster), *OUTPUTS
        )
    proxied = kubeconfig(hunt, "proxied", {"token": new("token through a proxy")}, echo, **far)
    hunt.add("cluster", "--kubeconfig", proxied, *OUTPUTS, **proxies)
    for number, text in enumerate(
        ("token: {0}\n: : :\n", "users: [{{token: {0}\n", "{0}", "contexts: {0}\n", "a: !!int {0}\n", "a: *{0}\n")
    ):
        file = hunt.folder / f"bad-{number}"
        file.write_text(text.format(new(f"bad YAML {number}")))
        hunt.add("cluster", "--kubeconfig", str(file))


def never_done(hunt: Hunt) -> dict[str, str]:
    """Programs that log nobody in, each in its own way without an end; what they leave behind says its number."""
    new = hunt.secrets.new
    kept = f"echo $$ >>{hunt.folder}/left; exec sleep 600"
    return {
        "hangs": f"echo {new('a program that hangs, stdout')}; echo {new('the same, stderr')} >&2; {kept}",
        "writes-without-end": f"yes {new('a program that writes without end')}",
        "complains-without-end": f"yes {new('a program that complains without end')} >&2",
        "leaves-a-daemon": f"setsid sh -c '{kept}' & \n{plugin_says(new('token of a program with a daemon'))}",
        "leaves-a-deaf-daemon": f"setsid sh -c 'trap \"\" HUP INT TERM; {kept}' & exit 3",
        "goes-on-as-others": f"{{ {{ setsid sh -c '{kept}' & }} & }} & setsid sh -c '{kept}'",
    }


def hunt_programs(hunt: Hunt, stack: ExitStack) -> None:
    """Programs that are to log in and never come to an end, at a server that repeats what it is sent."""
    echo = stack.enter_context(api_server(hunt.folder, answering=echoing))
    for name, text in never_done(hunt).items():
        config = echo.kubeconfig(hunt.folder, plugged(hunt, hunt.folder, name, text))
        kept = str(config.rename(hunt.folder / f"kubeconfig-{name}"))
        hunt.add("cluster", "--kubeconfig", kept, *OUTPUTS, VDSCHECK_REDIS_URL=hunt.secrets.address(f"for {name}"))


def left(hunt: Hunt) -> tuple[int, list[int]]:
    """How many processes have said that they would stay, and those of them that did; they are ended."""
    file = hunt.folder / "left"
    numbers = list(map(int, file.read_text().split()))
    file.unlink()
    alive = [number for number in numbers if Path(f"/proc/{number}").exists()]
    for number in alive:
        os.kill(number, signal.SIGKILL)
    return len(numbers), alive


# Options and keys


def options() -> Iterator[tuple[str, str]]:
    """Each command with each of its options and arguments that takes a value, as the command line has them."""
    group: Any = typer.main.get_command(command_line(known.ours()))  # typer's own copy of click's classes, or click's
    for name, command in group.commands.items():
        for parameter in command.params:
            if parameter.param_type_name == "argument":
                yield name, ""
            elif not parameter.is_flag:
                yield name, parameter.opts[-1]


def hunt_options(hunt: Hunt, commands: tuple[str, ...]) -> None:
    """An address with secrets as the value of every option; of those that take none of it as well."""
    for command, option in options():
        if command in commands:
            value = hunt.secrets.address(f"{command} {option}")
            selected = {"run": ("--passive", "--only", "redis.clients"), "cluster": ("--offline", "-f", "/dev/null")}
            words: tuple[str, ...] = () if option in ("--only", "-f", "--filename") else selected.get(command, ())
            hunt.add(command, *words, option or value, *([value] if option else []))


def hunt_keys(hunt: Hunt) -> None:
    """The same in a configuration, for every key: as a text, in a list and in a table."""
    for key in keys():
        for number, shape in enumerate(('"{}"', '["{}"]', '{{ "acme" = "{}" }}')):
            file = hunt.folder / f"{key}-{number}.toml"
            file.write_text(f"{key} = {shape.format(hunt.secrets.address(f'{key} {number}'))}\n")
            hunt.add("run", "--passive", "--only", "redis.clients", "--config", str(file), *OUTPUTS)
    for number, text in enumerate(
        ('redis = "{}', "redis = {}", 'redis = "{}"\nredis = "{}"', '[[redis]]\nx = "{}"\n[redis')
    ):
        file = hunt.folder / f"broken-{number}.toml"
        file.write_text(text.format(*(hunt.secrets.address(f"broken {number}") for _ in range(2))))
        hunt.add("run", "--config", str(file))


@contextmanager
def hunting_programs(folder: Path) -> Iterator[Hunt]:
    """The programs of kubeconfigs that never come to an end."""
    hunt = Hunt(folder)
    with ExitStack() as stack:
        hunt.area = "programs"
        hunt_programs(hunt, stack)
        yield hunt


@contextmanager
def hunting(folder: Path, *, shut: int, whole: bool) -> Iterator[Hunt]:
    """The hunt with its servers, all of it or what takes a few seconds."""
    hunt = Hunt(folder)
    with ExitStack() as stack:
        hunt.area = "redis"
        hunt_redis(hunt, stack, shut)
        hunt.area = "kubernetes"
        hunt_kubernetes(hunt, stack)
        hunt.area = "options"
        commands = tuple(dict(options())) if whole else ("run",)
        hunt_options(hunt, commands)
        if whole:
            hunt_keys(hunt)
        yield hunt
