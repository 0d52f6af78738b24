"""Programs that set kernel settings when they start: tuned, Docker, kubelet, CNI plugins, cloud-init, ufw, networkd."""

import json
import re
from collections.abc import Iterator

from vdscheck.linux.systemd_units import Units
from vdscheck.measurements import LateWriter
from vdscheck.plugin import Host, UnavailableError
from vdscheck.probes.sysctl.boot.shell import CALLS, Settings, judged, settings_of

FORWARDING: Settings = {"net.ipv4.ip_forward": "1"}
TUNED_FOLDERS = ("/etc/tuned/profiles", "/etc/tuned", "/usr/lib/tuned/profiles", "/usr/lib/tuned")
"""The later versions' first: tuned's tuned/consts.py, DEF_PROFILE_DIRS."""
PROFILES_LIMIT = 50
ROUTED = frozenset(("ptp", "flannel"))
"""CNI plugins that turn on forwarding on the host; a bridge does where it is a gateway (pkg/ip of
containernetworking/plugins). Others do not say, and their agents run as pods."""
OF_K3S: Settings = {"vm.overcommit_memory": "1", **FORWARDING, "net.netfilter.nf_conntrack_max": None}
"""What k3s' pkg/agent/syssetup/setup.go and the kubelet within it set; the table by the number of CPUs."""
CLUSTERS: dict[str, Settings] = {
    "k3s.service": OF_K3S,
    "k3s-agent.service": OF_K3S,
    "rke2-server.service": OF_K3S,
    "rke2-agent.service": OF_K3S,
    "k0sworker.service": {"vm.overcommit_memory": "1"},
}
RUNTIMES = ("containerd.service", "crio.service", "docker.service", "kubelet.service", *CLUSTERS)


def program_writers(host: Host, units: Units) -> Iterator[LateWriter]:
    """Those of these programs that are installed."""
    for find in (_tuned, _docker, _kubelet, _clusters, _cni, _cloud_init, _ufw, _networkd):
        yield from find(host, units)


def _text(host: Host, path: str) -> str:
    try:
        return host.read(path)
    except UnavailableError:
        return ""


def _writer(name: str, file: str, found: Settings, *, enabled: bool) -> LateWriter:
    values = {key: value for key, value in sorted(found.items()) if value is not None}
    return LateWriter(name=name, file=file, keys=tuple(sorted(found)), values=values, enabled=enabled)


# tuned


def _tuned(host: Host, units: Units) -> Iterator[LateWriter]:
    active = _text(host, "/etc/tuned/active_profile").split()
    if not active:
        return
    found: Settings = {}
    seen: list[str] = []
    for name in active:
        _load_profile(host, name, found, seen)
    if not seen:
        return
    if _reapplies(host):
        own = _own_settings(host)
        found = {key: value for key, value in found.items() if key not in own}
    yield _writer("tuned", seen[-1], found, enabled=units.is_enabled("tuned.service"))


def _load_profile(host: Host, name: str, found: Settings, seen: list[str]) -> None:
    """What a profile includes comes first, and is overridden by it: tuned/profiles/loader.py."""
    base = name.removeprefix("-").rpartition("/")[2]
    paths = [f"{folder}/{base}/tuned.conf" for folder in TUNED_FOLDERS]
    path = next((path for path in paths if path not in seen and host.exists(path)), None)
    if path is None or not base or len(seen) >= PROFILES_LIMIT:
        return
    seen.append(path)
    sections = _sections(_text(host, path))
    include = dict(sections.get("main", ())).get("include", "")
    for each in re.split(r"\s*[,;]\s*", include) if include else ():
        _load_profile(host, each, found, seen)
    seen.append(seen.pop(seen.index(path)))
    for options in sections.values():
        if dict(options).get("type", "") not in {"", "sysctl"} or options is sections.get("main"):
            continue
        for key, value in options:
            name_of_key = judged(key)
            if name_of_key is not None:
                found[name_of_key] = None if re.match(r"[<>^]|.*\$\{", value) else " ".join(value.split())


def tuned_options(host: Host) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """The options of each section of the active profile and what it includes, with the file."""
    seen: list[str] = []
    for name in _text(host, "/etc/tuned/active_profile").split():
        _load_profile(host, name, {}, seen)
    for path in seen:
        for options in _sections(_text(host, path)).values():
            yield path, options


def _sections(text: str) -> dict[str, list[tuple[str, str]]]:
    found: dict[str, list[tuple[str, str]]] = {}
    section: list[tuple[str, str]] = []
    for raw in text.splitlines():
        line = re.sub(r"(^|\s)#.*", "", raw).strip()
        header = re.fullmatch(r"\[(.+)\]", line)
        if header:
            section = found.setdefault(header[1], [])
        elif "=" in line and not line.startswith(";"):
            key, _, value = line.partition("=")
            section.append((key.strip(), value.strip().strip("'\"")))
    return found


def _reapplies(host: Host) -> bool:
    """Whether tuned lets the files of /etc/sysctl.d win over its own: reapply_sysctl, on by default."""
    said = re.findall(r"^\s*reapply_sysctl\s*=\s*(\S+)", _text(host, "/etc/tuned/tuned-main.conf"), re.MULTILINE)
    return not said or said[-1].lower() in {"1", "true", "yes", "on"}


def _own_settings(host: Host) -> set[str]:
    """The keys in the files that tuned applies again: those of /etc/sysctl.d, and /etc/sysctl.conf."""
    found = set()
    for path in (*host.glob("/etc/sysctl.d/*.conf"), "/etc/sysctl.conf"):
        for line in _text(host, path).splitlines():
            key, sign, _ = line.strip().partition("=")
            name = judged(key)
            if sign and name is not None and not key.startswith(("#", ";")):
                found.add(name)
    return found


# Containers


def _docker(host: Host, units: Units) -> Iterator[LateWriter]:
    """The Docker daemon turns on forwarding unless told not to: dockerd(8), --ip-forward."""
    path = units.file("docker.service")
    if path is None:
        return
    lines = units.commands("docker.service")
    told_not_to = re.search(r"--ip-forward[= ]false", "\n".join(lines)) or re.search(
        r'"ip-forward"\s*:\s*false', _text(host, "/etc/docker/daemon.json")
    )
    if not told_not_to:
        yield _writer("docker", path, FORWARDING, enabled=units.is_enabled("docker.service"))


def _kubelet(host: Host, units: Units) -> Iterator[LateWriter]:
    """It sets what it needs, unless protectKernelDefaults: k8s.io/component-helpers, node/util/sysctl."""
    path = units.file("kubelet.service")
    if path is None:
        return
    lines = units.commands("kubelet.service")
    protects = re.search(r"--protect-kernel-defaults(?!=false)", "\n".join(lines)) or re.search(
        r"^protectKernelDefaults:\s*true", _text(host, "/var/lib/kubelet/config.yaml"), re.MULTILINE
    )
    if not protects:
        yield _writer("kubelet", path, {"vm.overcommit_memory": "1"}, enabled=units.is_enabled("kubelet.service"))


def _clusters(host: Host, units: Units) -> Iterator[LateWriter]:
    """k3s and its like start a kubelet within themselves."""
    for name, sets in CLUSTERS.items():
        path = units.file(name)
        if path is None:
            continue
        said = _text(host, f"/etc/rancher/{name[:4].rstrip('-.')}/config.yaml")
        protects = re.search(r"^\s*-?\s*\"?protect-kernel-defaults\"?\s*[:=]\s*\"?true", said, re.MULTILINE)
        found = {key: value for key, value in sets.items() if not (protects and key == "vm.overcommit_memory")}
        yield _writer(name.removesuffix(".service"), path, found, enabled=units.is_enabled(name))


def _cni(host: Host, units: Units) -> Iterator[LateWriter]:
    runs = any(units.is_enabled(name) for name in RUNTIMES)
    for path in (*host.glob("/etc/cni/net.d/*.conf"), *host.glob("/etc/cni/net.d/*.conflist")):
        text = _text(host, path)
        kinds = set(re.findall(r'"type"\s*:\s*"([\w.-]+)"', text))
        is_gateway = re.search(r'"is(?:Default)?Gateway"\s*:\s*true', text) is not None
        found = FORWARDING if kinds & ROUTED or ("bridge" in kinds and is_gateway) else {}
        name = f"CNI plugin {'+'.join(sorted(kinds)) or '(unknown)'}"
        yield _writer(name, path, found, enabled=runs)


# The rest


def _cloud_init(host: Host, units: Units) -> Iterator[LateWriter]:
    """`bootcmd` and scripts/per-boot run at every boot; `runcmd` and `write_files` once in an instance's life."""
    if not host.exists("/etc/cloud"):
        return
    off = host.exists("/etc/cloud/cloud-init.disabled")
    runs = not off and any(
        units.is_enabled(name) for name in ("cloud-init.service", "cloud-init-local.service", "cloud-init-main.service")
    )
    user_data = "/var/lib/cloud/instance/user-data.txt"
    for path in ("/etc/cloud/cloud.cfg", *host.glob("/etc/cloud/cloud.cfg.d/*.cfg"), user_data):
        for section, text in _yaml_sections(_text(host, path)):
            if section in {"bootcmd", "runcmd"} and re.search(CALLS, text):
                found = settings_of(re.sub(r"^(\s*-\s*)(.*)$", _shell_of_yaml, text, flags=re.MULTILINE))
                yield _writer(f"cloud-init ({section})", path, found, enabled=runs and section == "bootcmd")
    for path in host.glob("/var/lib/cloud/scripts/per-boot/*"):
        text = _text(host, path)
        if re.search(CALLS, text):
            yield _writer("cloud-init (per-boot)", path, settings_of(text), enabled=runs)


def _yaml_sections(text: str) -> Iterator[tuple[str, str]]:
    parts = re.split(r"^([A-Za-z_]+):[ \t]*", text, flags=re.MULTILINE)
    yield from zip(parts[1::2], parts[2::2], strict=False)


def _shell_of_yaml(found: re.Match[str]) -> str:
    """An item of a list as a line of shell: `- [sysctl, -w, a=b]`, `- "sysctl -w a=b"`."""
    item = found[2].strip()
    if item.startswith("[") and item.endswith("]"):
        try:
            words = json.loads(item)
        except ValueError:
            words = [word.strip().strip("'\"") for word in item[1:-1].split(", ")]
        return " ".join(f"'{word}'" if " " in str(word) else str(word) for word in words)
    return item[1:-1] if len(item) > 1 and item[0] == item[-1] and item[0] in "'\"" else item


def _ufw(host: Host, units: Units) -> Iterator[LateWriter]:
    """It loads a file of its own when it starts: IPT_SYSCTL in /etc/default/ufw, ufw-framework(8)."""
    named = re.findall(r"^\s*IPT_SYSCTL=[\"']?([^\"'\s]+)", _text(host, "/etc/default/ufw"), re.MULTILINE)
    if not named or not re.search(r"^\s*ENABLED=[\"']?yes", _text(host, "/etc/ufw/ufw.conf"), re.MULTILINE):
        return
    found: Settings = {}
    for line in _text(host, named[-1]).splitlines():
        key, sign, value = line.strip().partition("=")
        name = judged(key)
        if sign and name is not None:
            found[name] = " ".join(value.split())
    if found:
        yield _writer("ufw", named[-1], found, enabled=units.is_enabled("ufw.service"))


def _networkd(host: Host, units: Units) -> Iterator[LateWriter]:
    """IPForward= of a network, IPv4Forwarding= of networkd.conf: systemd.network(5), networkd.conf(5)."""
    enabled = units.is_enabled("systemd-networkd.service")
    for path in (*host.glob("/etc/systemd/network/*.network"), "/etc/systemd/networkd.conf"):
        said = re.findall(
            r"^\s*(?:IPForward|IPv4Forwarding|IPMasquerade)\s*=\s*(yes|true|on|1|ipv4|both)\s*$",
            _text(host, path),
            re.MULTILINE | re.IGNORECASE,
        )
        if said:
            yield _writer("systemd-networkd", path, FORWARDING, enabled=enabled)
