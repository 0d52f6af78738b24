"""What is measured of the programs that own some kernel settings: kubelet, k3s, network plugins of Kubernetes."""

from vdscheck.model import measurement


@measurement
class NodeAgents:
    """Whether this host is a Kubernetes node, by files (/var/lib/kubelet, /etc/cni) and processes (/proc/PID/comm)."""

    is_node: bool
    evidence: tuple[str, ...]
    """What shows it, each a file, a folder or a process."""
