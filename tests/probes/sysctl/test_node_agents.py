"""What shows that a host is a Kubernetes node, where some settings are another's."""

from pathlib import Path

import pytest

from tests.support.boot_hosts import host
from vdscheck.measurements import NodeAgents
from vdscheck.plugin import Reason, UnavailableError
from vdscheck.probes.sysctl import node_agents as module
from vdscheck.probes.sysctl.node_agents import node_agents


def found(root: Path, *files: str) -> NodeAgents:
    agents = node_agents.function(host(root, dict.fromkeys(files, "kubelet\n")))
    assert isinstance(agents, NodeAgents)
    return agents


def test_a_plain_server_is_no_node(tmp_path: Path) -> None:
    assert found(tmp_path) == NodeAgents(is_node=False, evidence=())


@pytest.mark.parametrize(
    ("file", "shown"),
    [
        ("var/lib/kubelet/config.yaml", "/var/lib/kubelet/config.yaml"),
        ("etc/kubernetes/kubelet.conf", "/etc/kubernetes/kubelet.conf"),
        ("var/lib/rancher/k3s/agent/x", "/var/lib/rancher/k3s/agent"),
        ("var/lib/rancher/rke2/agent/x", "/var/lib/rancher/rke2/agent"),
        ("var/lib/k0s/kubelet/x", "/var/lib/k0s/kubelet"),
        ("etc/cni/net.d/10-flannel.conflist", "/etc/cni/net.d/10-flannel.conflist"),
        ("run/flannel/subnet.env", "/run/flannel"),
        ("var/run/calico/x", "/var/run/calico"),
        ("proc/77/comm", "the process kubelet"),
    ],
)
def test_each_trace_of_an_agent_makes_a_node(tmp_path: Path, file: str, shown: str) -> None:
    agents = found(tmp_path, file)
    assert (agents.is_node, agents.evidence) == (True, (shown,))


@pytest.mark.parametrize("file", ["etc/cni/net.d/87-podman-bridge.conflist", "etc/cni/net.d/README", "proc/78/cmdline"])
def test_what_is_not_of_kubernetes_makes_none(tmp_path: Path, file: str) -> None:
    assert not found(tmp_path, file).is_node


def test_where_not_all_processes_could_be_looked_at_it_is_not_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LOOK_LIMIT_S", -1.0)
    with pytest.raises(UnavailableError) as error:
        found(tmp_path, "proc/7/comm")
    assert error.value.absent.reason is Reason.TIMEOUT


def test_what_was_found_before_the_time_was_over_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOK_LIMIT_S", -1.0)
    agents = found(tmp_path, "proc/7/comm", "var/lib/kubelet/config.yaml")
    assert (agents.is_node, agents.evidence) == (True, ("/var/lib/kubelet/config.yaml",))
