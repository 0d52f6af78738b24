"""Whether the host is a Kubernetes node, where kubelet and the network plugin own some kernel settings."""

import time

from vdscheck.measurements import NodeAgents
from vdscheck.plugin import Host, UnavailableError, probe
from vdscheck.probes.processes import name, processes

# kubelet: --config of kubeadm (kubernetes/kubernetes, cmd/kubeadm, constants.KubeletConfigurationFileName);
# k3s and rke2: --data-dir, their agent's folder; k0s: k0sworker; the network plugins: their own manifests.
FILES = (
    "/var/lib/kubelet/config.yaml",
    "/var/lib/kubelet/kubeadm-flags.env",
    "/etc/kubernetes/kubelet.conf",
    "/var/lib/rancher/k3s/agent",
    "/var/lib/rancher/rke2/agent",
    "/var/lib/k0s/kubelet",
    "/var/snap/microk8s/current",
    "/run/flannel",
    "/var/run/calico",
    "/var/lib/calico/nodename",
    "/var/run/cilium",
)
CNI = ("/etc/cni/net.d/*.conf", "/etc/cni/net.d/*.conflist")
PROCESSES = frozenset(
    ("kubelet", "k3s", "k3s-server", "k3s-agent", "rke2", "k0s", "calico-node", "cilium-agent", "flanneld")
)
PODMAN = "podman"
"""Its own networks lie beside those of Kubernetes, and are set up for each container anew."""
LOOK_LIMIT_S = 0.5


@probe("kernel.node-agents", cheap=True, deadline_s=2.0)
def node_agents(host: Host) -> NodeAgents:
    """Looks for what kubelet, k3s and network plugins leave on disk, and for their processes."""
    found = [path for path in FILES if host.exists(path)]
    found += [path for pattern in CNI for path in host.glob(pattern) if PODMAN not in path.rpartition("/")[2]]
    found += _running(host)
    return NodeAgents(is_node=bool(found), evidence=tuple(found[:20]))


def _running(host: Host) -> list[str]:
    ends_at = time.monotonic() + LOOK_LIMIT_S
    found: dict[str, None] = {}
    for pid in processes(host):
        if time.monotonic() > ends_at:
            break
        try:
            said = name(host, pid)
        except UnavailableError:
            continue
        if said in PROCESSES:
            found[f"the process {said}"] = None
    return list(found)
