"""`vdscheck cluster` against a real API server: each finding, each kind of user, and what may be wrong."""

import base64
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.lab.kube_server import KubeServer, node, pod
from tests.support.program import PROGRAM, environment, report, vdscheck
from tests.support.project import PROJECT

pytestmark = pytest.mark.xdist_group("kube")

PAYMENT = Path(__file__).parent / "payment.yaml"
DOCS = PROJECT / "docs"
REGION = "topology.kubernetes.io/region"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KubeServer]:
    with KubeServer(tmp_path_factory.mktemp("kube")) as running:
        running.create("/api/v1/namespaces", {"metadata": {"name": "shop"}})
        running.create("/api/v1/namespaces", {"metadata": {"name": "vdscheck"}})
        for role in yaml.safe_load_all((DOCS / "cluster-role.yaml").read_text()):
            place = "clusterroles" if role["kind"] == "ClusterRole" else "namespaces/vdscheck/roles"
            running.create(f"/apis/rbac.authorization.k8s.io/v1/{place}", role)
        yield running


@pytest.fixture
def empty(server: KubeServer) -> KubeServer:
    server.clear()
    return server


def bound(server: KubeServer, user: str, kind: str, role: str, namespace: str = "") -> None:
    """Give a user a role."""
    place = f"namespaces/{namespace}/rolebindings" if namespace else "clusterrolebindings"
    server.ask(
        "POST",
        f"/apis/rbac.authorization.k8s.io/v1/{place}",
        {
            "metadata": {"name": f"{user}-{role}-{kind}".lower()},
            "subjects": [{"kind": "User", "name": user, "apiGroup": "rbac.authorization.k8s.io"}],
            "roleRef": {"kind": kind, "name": role, "apiGroup": "rbac.authorization.k8s.io"},
        },
    )


def examined(server: KubeServer, *words: str, user: str = "admin") -> dict[str, Any]:
    return report("cluster", "--kubeconfig", str(server.kubeconfig(user)), *words)


def verdicts(found: dict[str, Any]) -> dict[str, str]:
    return {
        each["id"].removeprefix("cluster.") + (f"[{each['subject']}]" if each["subject"] else ""): each["verdict"]
        for each in found["findings"]
    }


def summary(found: dict[str, Any], check: str, subject: str | None = None) -> str:
    for each in found["findings"]:
        if each["id"] == f"cluster.{check}" and each["subject"] == subject:
            return str(each["summary"])
    raise AssertionError((check, subject, verdicts(found)))


def payment() -> dict[str, Any]:
    return dict(yaml.safe_load(PAYMENT.read_text()))


def test_a_cluster_without_nodes_has_nothing_to_fail(empty: KubeServer) -> None:
    found = examined(empty)
    assert found["target"]["kind"] == "cluster"
    assert found["target"]["os"] == "Kubernetes 1.34.2"
    assert verdicts(found) == {
        "api-latency[get]": "pass",
        "api-latency[lists]": "pass",
        "images": "not-applicable",
        "label-truth": "not-applicable",
        "node-health": "not-applicable",
        "node-selector": "not-applicable",
        "nvme-label": "not-applicable",
        "residency": "not-applicable",
        "resources": "not-applicable",
        "sidecars": "not-applicable",
        "spread": "not-applicable",
        "version-skew": "not-applicable",
    }


@pytest.mark.covered
def test_a_cluster_of_good_and_bad_nodes_is_told_node_by_node(empty: KubeServer) -> None:
    for made in (
        node("osl-1", labels={"disktype": "nvme", REGION: "no-osl"}),
        node("osl-2", labels={"disktype": "nvme", REGION: "no-osl"}, cordoned=True),
        node("fra-1", labels={REGION: "de-fra"}, version="v1.30.0"),
        node("bad-1", labels={REGION: "no-osl"}, ready="False"),
        node("bad-2", labels={}, troubles=["DiskPressure"], version="v1.35.0"),
    ):
        empty.create("/api/v1/nodes", made)
    found = examined(empty, "--min-nvme", "2", "--region", "no-osl")
    assert found["target"]["nodes"] == 5
    expected = {
        "nvme-label": "fail",
        "node-health[NotReady]": "fail",
        "node-health[DiskPressure]": "fail",
        "version-skew[1.30]": "fail",
        "version-skew[1.34]": "pass",
        "version-skew[1.35]": "fail",
        "residency[nodes]": "pass",
        "residency[nodes in de-fra]": "fail",
        "residency[nodes without a place]": "unknown",
    }
    assert expected.items() <= verdicts(found).items()
    assert "osl-2" in summary(found, "nvme-label")
    assert "bad-1" in summary(found, "node-health", "NotReady")
    assert "fra-1" in summary(found, "residency", "nodes in de-fra")
    assert found["ruleset"]["overrides"]["limits"]["cluster.residency"] == {"regions": ["no-osl"]}


@pytest.mark.covered
def test_a_deployment_without_pods_is_judged_by_its_template(empty: KubeServer) -> None:
    empty.create("/api/v1/nodes", node("plain"))
    empty.create("/apis/apps/v1/namespaces/shop/deployments", payment())
    found = examined(empty)
    subject = "shop/deployment/payment"
    assert verdicts(found)[f"node-selector[{subject}]"] == "fail"
    assert "none of 1 node matches" in summary(found, "node-selector", subject)
    assert "log-shipper states no CPU request" in summary(found, "sidecars", subject)
    assert "log-shipper" in summary(found, "resources", subject)
    assert "no tag" in summary(found, "images", subject)


@pytest.mark.covered
def test_pods_that_wait_are_one_finding_with_a_count_and_three_names(empty: KubeServer) -> None:
    empty.create("/api/v1/nodes", node("small", labels={"disktype": "nvme"}, allocatable={"cpu": "250m"}))
    empty.create("/api/v1/nodes", node("other"))
    template = payment()["spec"]["template"]["spec"]
    owner = {"kind": "ReplicaSet", "name": "payment-5d4f9c", "uid": "1"}
    for number in range(5):
        empty.create(
            "/api/v1/namespaces/shop/pods",
            pod(
                f"payment-5d4f9c-{number}",
                template,
                owner=owner,
                labels={"pod-template-hash": "5d4f9c"},
                said="0/2 nodes are available: 1 Insufficient cpu.",
            ),
        )
    said = summary(examined(empty), "node-selector", "shop/deployment/payment")
    assert "5 of 5 pods wait for a node (payment-5d4f9c-0, payment-5d4f9c-1, payment-5d4f9c-2, ...)" in said
    assert "0.5 CPU wanted, at most 0.25 CPU free" in said


@pytest.mark.covered
def test_what_runs_on_a_node_is_not_free_there(empty: KubeServer) -> None:
    empty.create("/api/v1/nodes", node("one", labels={"disktype": "nvme"}, allocatable={"cpu": "1"}))
    empty.create("/api/v1/nodes", node("two"))
    big = {"containers": [{"name": "a", "image": "a:1", "resources": {"requests": {"cpu": "700m"}}}]}
    empty.create("/api/v1/namespaces/default/pods", pod("big", big | {"nodeName": "one"}))
    said = summary(examined(empty, "-f", str(PAYMENT)), "node-selector", "shop/deployment/payment")
    assert "at most 0.3 CPU free" in said
    ended = pod("ended", big | {"nodeName": "one"})
    ended["status"]["phase"] = "Succeeded"
    empty.ask("DELETE", "/api/v1/namespaces/default/pods/big?gracePeriodSeconds=0")
    empty.create("/api/v1/namespaces/default/pods", ended)
    found = examined(empty, "-f", str(PAYMENT))
    assert "room for 2 of 3 pods" in summary(found, "node-selector", "shop/deployment/payment")


@pytest.mark.covered
def test_manifests_alone_ask_nobody(tmp_path: Path) -> None:
    done = vdscheck("cluster", "--offline", "-f", str(PAYMENT), "--json", env={"KUBECONFIG": str(tmp_path / "none")})
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert {each["id"]: each["verdict"] for each in found["findings"] if each["subject"] is None} == {
        "cluster.node-selector": "unknown"
    }
    assert "payment.yaml:2: log-shipper (line 26)" in summary(found, "sidecars", "shop/deployment/payment")


def test_manifests_are_read_from_standard_input_and_gate_a_pipeline() -> None:
    words = ("cluster", "--offline", "-f", "-", "--min-score", "80", "--json")
    done = vdscheck(*words, input=PAYMENT.read_text())
    assert done.returncode == 1
    assert [gate["holds"] for gate in json.loads(done.stdout)["gates"]] == [False, True]


def test_a_saved_report_is_judged_again_to_the_same_findings(empty: KubeServer, tmp_path: Path) -> None:
    empty.create("/api/v1/nodes", node("osl", labels={"disktype": "nvme"}))
    empty.create("/apis/apps/v1/namespaces/shop/deployments", payment())
    found = examined(empty, "--min-nvme", "2")
    file = tmp_path / "report.json"
    file.write_text(json.dumps(found))
    again = report("judge", str(file))
    assert again["findings"] == found["findings"]
    assert again["score"] == found["score"]


@pytest.mark.covered
def test_labels_are_held_against_reports_of_the_nodes(empty: KubeServer, tmp_path: Path) -> None:
    mine = report("--passive", "--offline", "--only", "disk.nvme", "--only", "disk.scheduler")
    machine, boot = mine["target"]["machine_id"] or "m-host", mine["target"]["boot_id"] or "b-host"
    mine["target"] |= {"machine_id": machine, "boot_id": boot}
    labels = {"disktype": "nvme"}
    empty.create("/api/v1/nodes", node("proved", labels=labels, machine_id=machine, boot_id=boot))
    empty.create("/api/v1/nodes", node("silent", labels=labels))
    (tmp_path / "a.json").write_text(json.dumps(mine))
    (tmp_path / "b.json").write_text("{}")
    found = examined(empty, "--node-reports", str(tmp_path))
    told = {key: value for key, value in verdicts(found).items() if key.startswith("label-truth")}
    assert told["label-truth[not-proven]"] == "unknown"
    assert told["label-truth[reports]"] == "unknown"
    reports = found["measurements"]["cluster.node-reports"]["value"]
    assert [each["boot_id"] for each in reports["reports"]] == [boot]
    # the same from a ConfigMap of the node
    empty.create(
        "/api/v1/namespaces/vdscheck/configmaps",
        {
            "metadata": {"name": "proved", "labels": {"vdscheck/node-report": "true"}},
            "data": {"report.json": json.dumps(mine)},
        },
    )
    other = examined(empty)["measurements"]["cluster.node-reports"]["value"]
    assert [each["stacks"] for each in other["reports"]] == [each["stacks"] for each in reports["reports"]]


# Who asks


def test_the_role_of_the_docs_is_enough_for_every_check(server: KubeServer) -> None:
    server.clear()
    server.create("/api/v1/nodes", node("osl", labels={"disktype": "nvme", REGION: "no-osl"}))
    bound(server, "viewer", "ClusterRole", "vdscheck")
    bound(server, "viewer", "Role", "vdscheck", "vdscheck")
    found = examined(server, "--region", "no-osl", user="viewer")
    assert [each["summary"] for each in found["findings"] if each["verdict"] == "unknown"] == []
    assert verdicts(found) == verdicts(examined(server, "--region", "no-osl"))


@pytest.mark.covered
def test_a_user_without_rights_is_told_which_verb_and_resource_is_missing(empty: KubeServer) -> None:
    found = examined(empty, "--region", "no-osl", user="nobody")
    unknown = {each["id"]: each for each in found["findings"] if each["verdict"] == "unknown"}
    assert {each["reason"] for each in unknown.values()} == {"permission"}
    assert "may not list nodes for the whole cluster" in unknown["cluster.node-health"]["summary"]
    assert "may not list pods in namespace default" in unknown["cluster.resources"]["summary"]
    assert found["score"]["value"] is not None  # the server answers /version to everybody


def test_a_namespaced_user_gets_a_namespaced_report(server: KubeServer) -> None:
    server.clear()
    server.create("/apis/apps/v1/namespaces/shop/deployments", payment())
    bound(server, "tenant", "ClusterRole", "vdscheck", "shop")
    config = server.kubeconfig("tenant", context={"namespace": "shop"})
    found = report("cluster", "--kubeconfig", str(config))
    assert found["measurements"]["cluster.workloads"]["value"]["namespaces"] == ["shop"]
    assert verdicts(found)["images[shop/deployment/payment]"] == "fail"
    assert verdicts(found)["node-health"] == "unknown"


def test_a_token_that_has_expired_is_no_user(empty: KubeServer) -> None:
    config = empty.kubeconfig("admin", login={"token": empty.expired_token()})
    found = report("cluster", "--kubeconfig", str(config))
    unknown = [each for each in found["findings"] if each["verdict"] == "unknown"]
    assert {each["reason"] for each in unknown} == {"permission"}
    assert all("(401)" in each["summary"] for each in unknown)
    assert found["score"]["value"] is None


def encoded(file: Path) -> str:
    return base64.b64encode(file.read_bytes()).decode()


@pytest.mark.parametrize("place", ["files", "data"])
def test_a_certificate_of_a_client_logs_in_and_leaves_no_file(empty: KubeServer, tmp_path: Path, place: str) -> None:
    certificate, key = empty.folder / "client.crt", empty.folder / "client.key"
    login = (
        {"client-certificate-data": encoded(certificate), "client-key-data": encoded(key)}
        if place == "data"
        else {"client-certificate": str(certificate), "client-key": str(key)}
    )
    found = report("cluster", "--kubeconfig", str(empty.kubeconfig(login=login)), env={"TMPDIR": str(tmp_path)})
    assert found["score"]["value"] == 100
    assert list(tmp_path.iterdir()) == []


def test_the_key_of_a_client_is_never_written_to_a_folder(empty: KubeServer, tmp_path: Path) -> None:
    login = {
        "client-certificate-data": encoded(empty.folder / "client.crt"),
        "client-key-data": encoded(empty.folder / "client.key"),
    }
    log = tmp_path / "log"
    found = json.loads(
        subprocess.run(
            ["strace", "-f", "--seccomp-bpf", "-qq", "-s", "200", "-o", str(log), "-e", "trace=open,openat,creat,mknod",
             *PROGRAM, "cluster", "--json", "--kubeconfig", str(empty.kubeconfig(login=login))],
            env=environment(TMPDIR=str(tmp_path)),
            capture_output=True,
            text=True,
            check=True,
            timeout=120,
            cwd=PROJECT,
        ).stdout
    )  # fmt: skip
    assert found["score"]["value"] == 100
    opened = [
        line for line in log.read_text().splitlines() if "O_WRONLY" in line or "O_RDWR" in line or "O_CREAT" in line
    ]
    assert [line for line in opened if '"/dev/' not in line and '"/proc/' not in line] == []


def test_a_list_of_kubeconfigs_is_one(empty: KubeServer, tmp_path: Path) -> None:
    first = tmp_path / "first"
    first.write_text("current-context: lab\n")
    listed = f"{tmp_path / 'gone'}:{first}:{empty.kubeconfig()}"
    assert report("cluster", env={"KUBECONFIG": listed})["target"]["name"] == "lab"


def test_a_pod_logs_in_with_its_service_account(empty: KubeServer, tmp_path: Path) -> None:
    folder = "/run/secrets/kubernetes.io/serviceaccount"
    (tmp_path / "token").write_text("admin-token")
    (tmp_path / "namespace").write_text("shop")
    (tmp_path / "ca.crt").write_bytes(empty.authority.read_bytes())
    inside = f'mount -t tmpfs none /run && mkdir -p {folder} && cp {tmp_path}/* {folder} && exec "$@"'
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", inside, "sh", *PROGRAM, "cluster", "--json"],
        env=environment(
            KUBERNETES_SERVICE_HOST="127.0.0.1", KUBERNETES_SERVICE_PORT=str(empty.port), HOME=str(tmp_path)
        ),
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        cwd=PROJECT,
    )
    found = json.loads(done.stdout)
    assert found["target"]["name"] == "in-cluster"
    assert found["measurements"]["cluster.server"]["value"]["got"] == "namespace shop"


# What may be wrong on the way


@pytest.fixture
def other_authority(tmp_path: Path) -> Path:
    words = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=other", "-days", "1"]
    subprocess.run([*words, "-keyout", "key", "-out", "crt"], check=True, capture_output=True, cwd=tmp_path)
    return tmp_path / "crt"


def unreachable(config: Path) -> str:
    """The reason of a run that reached nobody."""
    done = vdscheck("cluster", "--kubeconfig", str(config), "--json", "--min-score", "80")
    assert done.returncode == 1, done.stderr
    found = json.loads(done.stdout)
    assert found["score"]["value"] is None
    unknown = [each for each in found["findings"] if each["verdict"] == "unknown"]
    assert {each["reason"] for each in unknown} == {"unreachable"}
    return str(unknown[0]["summary"])


def test_a_server_of_another_authority_is_not_trusted(empty: KubeServer, other_authority: Path) -> None:
    said = unreachable(empty.kubeconfig(cluster={"certificate-authority": str(other_authority)}))
    assert "TLS: " in said
    assert "self-signed" in said or "self signed" in said


def test_a_server_of_another_name_is_not_trusted(empty: KubeServer) -> None:
    assert "TLS: " in unreachable(empty.kubeconfig(cluster={"tls-server-name": "other.example"}))


def test_a_server_that_is_not_there_is_unreachable(empty: KubeServer) -> None:
    assert "refused" in unreachable(empty.kubeconfig(cluster={"server": "https://127.0.0.1:1"}))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "no kubeconfig at"),
        ("", "not a kubeconfig"),
        ("a: [", "not a kubeconfig: not YAML"),
        ("- a\n", "not a kubeconfig"),
        ("contexts: {}\n", "has no current-context"),
        ("contexts: 5\n", "not a kubeconfig"),
        ("contexts: [{}]\n", "each needs a name"),
        (
            "current-context: gone\ncontexts: [{name: here, context: {}}]\n",
            "has a current-context that is none of its contexts; it has here",
        ),
        ("token: s3cret\n: : :\n", "not YAML"),
        ("\x00", "not YAML"),
    ],
)
def test_a_kubeconfig_that_leads_nowhere_is_one_line_and_code_2(tmp_path: Path, content: str | None, said: str) -> None:
    file = tmp_path / "config"
    if content is not None:
        file.write_text(content)
    done = vdscheck("cluster", "--kubeconfig", str(file))
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert "s3cret" not in done.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--offline",), "name one with -f"),
        (("--format", "sh"), "nothing in a cluster is ever changed"),
        (("--selector", "disktype=nvme"), "write nvme=KEY=VALUE"),
        (("--namespace", "Not A Name"), "not the name of a namespace"),
        (("--node-reports", "/nowhere"), "no such folder"),
        (("--only", "sysctl.*"), "vdscheck run"),
        (("-f", "/nowhere.yaml"), "/nowhere.yaml"),
        (("--context", "other"), "has no context other"),
    ],
)
def test_a_wrong_call_is_one_line_and_code_2(empty: KubeServer, words: tuple[str, ...], said: str) -> None:
    done = vdscheck("cluster", "--kubeconfig", str(empty.kubeconfig()), *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_run_on_a_host_names_the_command_for_clusters() -> None:
    done = vdscheck("run", "--only", "cluster.images")
    assert done.returncode == 2
    assert "vdscheck cluster" in done.stderr


# Programs that log in


def plugged(server: KubeServer, script: Path) -> Path:
    login = {
        "exec": {
            "apiVersion": "client.authentication.k8s.io/v1",
            "command": str(script),
            "interactiveMode": "Never",
        }
    }
    return server.kubeconfig("admin", login=login)


def script(folder: Path, text: str) -> Path:
    file = folder / "login"
    file.write_text(f"#!/bin/sh\n{text}\n")
    file.chmod(0o755)
    return file


@pytest.mark.covered
def test_an_exec_plugin_logs_in(empty: KubeServer, tmp_path: Path) -> None:
    credential = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "kind": "ExecCredential",
        "status": {"token": "admin-token"},
    }
    found = report("cluster", "--kubeconfig", str(plugged(empty, script(tmp_path, f"echo '{json.dumps(credential)}'"))))
    assert found["score"]["value"] == 100


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("echo s3cret >&2; echo s3cret; exit 3", "exec plugin ended with 3"),
        ("echo s3cret", "did not give credentials"),
        ("kill -9 $$", "exec plugin ended with -9"),
        ("read answer; echo s3cret$answer; exit 1", "exec plugin ended with 1"),
        ('echo \'{"kind": "ExecCredential", "status": {}, "x": "s3cret"}\'', "did not give credentials"),
    ],
)
def test_an_exec_plugin_that_fails_tells_no_secret(empty: KubeServer, tmp_path: Path, text: str, said: str) -> None:
    done = vdscheck("cluster", "--kubeconfig", str(plugged(empty, script(tmp_path, text))), "--json")
    assert done.returncode == 0
    assert "s3cret" not in done.stdout + done.stderr
    unknown = [each for each in json.loads(done.stdout)["findings"] if each["verdict"] == "unknown"]
    assert all(said in each["summary"] for each in unknown), unknown[0]


@pytest.mark.slow
def test_an_exec_plugin_that_hangs_is_given_up_once_and_ended(empty: KubeServer, tmp_path: Path) -> None:
    config = plugged(empty, script(tmp_path, f"echo $$ > {tmp_path}/pid; exec sleep 300"))
    done = vdscheck("cluster", "--kubeconfig", str(config), "--json")
    unknown = [each for each in json.loads(done.stdout)["findings"] if each["verdict"] == "unknown"]
    assert all(
        "its exec plugin, or a file that it names, hangs: it did not end within 20 s" in each["summary"]
        for each in unknown
    )
    assert not Path(f"/proc/{(tmp_path / 'pid').read_text().strip()}").exists()


def test_an_exec_plugin_that_is_not_there_is_named_as_that(empty: KubeServer, tmp_path: Path) -> None:
    done = vdscheck("cluster", "--kubeconfig", str(plugged(empty, tmp_path / "gone")), "--json")
    unknown = [each for each in json.loads(done.stdout)["findings"] if each["verdict"] == "unknown"]
    assert all("its exec plugin cannot be started: No such file" in each["summary"] for each in unknown), unknown[0]


def test_the_files_of_keys_in_a_kubeconfig_are_not_left_behind(empty: KubeServer, tmp_path: Path) -> None:
    config = empty.kubeconfig(cluster={"certificate-authority-data": encoded(empty.authority)})
    text = json.loads(config.read_text())
    del text["clusters"][0]["cluster"]["certificate-authority"]
    config.write_text(json.dumps(text))
    folder = tmp_path / "tmp"
    folder.mkdir()
    found = report("cluster", "--kubeconfig", str(config), env={"TMPDIR": str(folder)})
    assert found["score"]["value"] == 100
    assert list(folder.iterdir()) == []
