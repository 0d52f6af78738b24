"""Whether the host is a Kubernetes node, where kubelet and the network plugin own some kernel settings."""

import re
import time

from vdscheck.linux.processes import name, processes
from vdscheck.measurements import NodeAgents
from vdscheck.plugin import Host, NotFoundError, Reason, UnavailableError, probe, unmeasured

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
LOOK_LIMIT_S = 3.0
"""However many processes others have: that one of them is an agent is not to be missed."""


@probe("sysctl.node-agents", formerly="kernel.node-agents", cheap=True, deadline_s=5.0)
def node_agents(host: Host) -> NodeAgents:
    """Looks for what kubelet, k3s and network plugins leave on disk, and for their processes."""
    found = [path for path in FILES if host.exists(path)]
    found += [path for pattern in CNI for path in host.glob(pattern) if PODMAN not in path.rpartition("/")[2]]
    try:
        found += _running(host)
    except TimeoutError as error:
        if not found:
            why = f"not all processes could be looked at within {LOOK_LIMIT_S:g} s"
            raise UnavailableError(unmeasured(Reason.TIMEOUT, why)) from error
    return NodeAgents(is_node=bool(found), evidence=tuple(found[:20]))


def _running(host: Host) -> list[str]:
    """The agents that run. Raises TimeoutError where not all processes could be looked at."""
    ends_at = time.monotonic() + LOOK_LIMIT_S
    found: dict[str, None] = {}
    for pid in processes(host):
        if time.monotonic() > ends_at and found:
            break
        if time.monotonic() > ends_at:
            raise TimeoutError
        said = name(host, pid) if _may_be_roots(host, pid) else None
        if said in PROCESSES and _is_roots(host, pid) and _is_of_that_program(host, pid):
            found[f"the process {said}"] = None
    return list(found)


def _may_be_roots(host: Host, pid: str) -> bool:
    """Whether a process is root's by its folder, which is read a tenth as long as its name."""
    try:
        return host.status(f"/proc/{pid}").uid == 0 or not host.live
    except UnavailableError:
        return not host.live


def _is_roots(host: Host, pid: str) -> bool:
    """Whether root started a process: anybody can call one of his own kubelet, also one that a setuid program runs."""
    try:
        status = host.read(f"/proc/{pid}/status")
    except NotFoundError:
        return not host.live  # a captured tree has what was read when it was captured
    except UnavailableError:
        return False
    ids = re.search(r"^Uid:\t(\d+)\t(\d+)\t(\d+)\t(\d+)$", status, re.MULTILINE | re.ASCII)
    return ids is not None and set(ids.groups()) == {"0"}


def _is_of_that_program(host: Host, pid: str) -> bool:
    """Whether the file that runs is called as an agent's: a link named kubelet gives sudo that name, and runs as root.

    Of a process of root's only root may see the file; for others the name is enough.
    """
    try:
        file = host.link(f"/proc/{pid}/exe")
    except UnavailableError:
        return True
    return file.removesuffix(" (deleted)").rpartition("/")[2] in PROCESSES
