"""Made-up machines that can be fixed, edited, rebooted and undone: files below a folder, kernel settings among them."""

import itertools
import os
import random
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from tests.support import boot_hosts, host_trees
from vdscheck.catalogue.catalogue import Catalogue, load
from vdscheck.catalogue.declarations import ProbeEntry
from vdscheck.fix.flow import Bench, Result, Terms, carried_out
from vdscheck.fix.journal import Journal
from vdscheck.fix.transaction import Desk, undo
from vdscheck.fixes.sysctl import KernelSettings, kernel_settings
from vdscheck.judge.judge import Judged, judge
from vdscheck.measure.measure import Outcome
from vdscheck.measurements import (
    BootTruth,
    Conntrack,
    FileHandles,
    HugePages,
    KernelOwner,
    Listener,
    Listeners,
    NodeAgents,
    SwapSpace,
    TcpCounters,
)
from vdscheck.model.fixes import FixRecord
from vdscheck.model.judgement import Verdict
from vdscheck.model.report import Measurements, Taken
from vdscheck.probes.sysctl.boot.predict import boot_truth
from vdscheck.probes.sysctl.values import sysctls
from vdscheck.ruleset import ruleset, selection
from vdscheck.target.host import Host
from vdscheck.target.what_if import WhatIfHost

VERSION = "1.2.3"
TODAY = "2026-11-25"
DEFAULTS = {
    "fs.file-max": "2466170",
    "fs.inotify.max_user_instances": "128",
    "fs.inotify.max_user_watches": "192536",
    "fs.nr_open": "1048576",
    "net.core.somaxconn": "4096",
    "net.ipv4.conf.all.rp_filter": "0",
    "net.ipv4.conf.default.rp_filter": "0",
    "net.ipv4.ip_forward": "0",
    "net.ipv4.ip_local_port_range": "32768 60999",
    "net.ipv4.ip_local_reserved_ports": "",
    "net.ipv4.tcp_max_syn_backlog": "2048",
    "net.ipv4.tcp_slow_start_after_idle": "1",
    "net.ipv4.tcp_syncookies": "1",
    "net.ipv4.tcp_timestamps": "1",
    "net.ipv4.tcp_tw_reuse": "2",
    "net.netfilter.nf_conntrack_max": "262144",
    "vm.max_map_count": "65530",
    "vm.overcommit_memory": "0",
    "vm.swappiness": "60",
}
"""What Linux 6.18 had on a machine of 24 GiB, before anybody set anything."""
VALUES = {
    "fs.nr_open": ("1048576", "65536", "2097152"),
    "fs.inotify.max_user_watches": ("8192", "524288", "1048576"),
    "fs.inotify.max_user_instances": ("128", "512", "8192"),
    "net.core.somaxconn": ("0", "128", "511", "1024", "4096", "65535"),
    "net.ipv4.conf.all.rp_filter": ("0", "1", "2"),
    "net.ipv4.conf.default.rp_filter": ("0", "1", "2"),
    "net.ipv4.ip_forward": ("0", "1"),
    "net.ipv4.ip_local_port_range": ("32768 60999", "40000 45000", "1024\t65535", "10000 60000"),
    "net.ipv4.tcp_max_syn_backlog": ("128", "1024", "4096"),
    "net.ipv4.tcp_slow_start_after_idle": ("0", "1"),
    "net.ipv4.tcp_syncookies": ("0", "1", "2"),
    "net.ipv4.tcp_timestamps": ("0", "1"),
    "net.ipv4.tcp_tw_reuse": ("0", "1", "2"),
    "vm.max_map_count": ("65530", "1000", "262144", "1048576"),
    "vm.overcommit_memory": ("0", "1", "2"),
    "vm.swappiness": ("0", "1", "10", "60", "100", "007"),
}
"""What may be found of each key, by whom it was ever set."""
EARLIER = ("10-a.conf", "50-b.conf", "90-a.conf")
LATER = ("99-zz.conf", "95-late.conf", "zz.conf")
GLOBS = ("net.ipv4.tcp_*", "vm.*", "net.*.somaxconn", "net.ipv4.conf.*.rp_filter")
OTHER_NAMES = {"net.ipv4.ip_forward": "net.ipv4.conf.all.forwarding"}

_number = itertools.count(1)


@contextmanager
def in_memory() -> Iterator[Path]:
    """A folder for a machine, in memory where it can be: what is made to last there takes no time."""
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=memory, prefix="vdscheck-") as folder:
        yield Path(folder)


@cache
def catalogue() -> Catalogue:
    """What is installed."""
    return load()


@cache
def rules(*profiles: str) -> selection.Ruleset:
    """The ruleset of the kernel settings alone."""
    return ruleset.build(catalogue(), list(profiles), {"only": ["sysctl.*"], "skip": ["sysctl.thp"]}, VERSION)


def taken(value: Any) -> Taken:
    return Taken("2026-11-25T00:00:00Z", 0.0, "made up", value, None)


class Machine:
    """A Debian 12 of a few files, with a kernel of its own: a made-up one, or one that was captured."""

    def __init__(self, root: Path, *profiles: str, ours: bool = True, captured: str | None = None) -> None:
        self.root, self.profiles, self.ours = root, profiles or ("web",), ours
        self.settings = root / "proc/sys"
        if captured is not None:
            host_trees.unpack(host_trees.all_hosts()[captured], root)
        boot_hosts.host(root)
        if captured is None:
            for key, value in DEFAULTS.items():
                self.write(key, value)
            self.write("kernel.osrelease", "6.1.0-40-amd64")
        self.defaults = {key: self.read(key) for key in DEFAULTS if self.path(key).exists()}
        self.agents = NodeAgents(is_node=False, evidence=())
        self.new_boot_id()

    # The kernel

    def path(self, key: str) -> Path:
        return self.settings / key.replace(".", "/")

    def write(self, key: str, value: str) -> None:
        self.path(key).parent.mkdir(parents=True, exist_ok=True)
        self.path(key).write_text(value + "\n")

    def read(self, key: str) -> str:
        return " ".join(self.path(key).read_text().split())

    @property
    def values(self) -> dict[str, str]:
        return {key: self.read(key) for key in self.defaults if self.path(key).exists()}

    def new_boot_id(self) -> None:
        (self.settings / "kernel/random").mkdir(parents=True, exist_ok=True)
        (self.settings / "kernel/random/boot_id").write_text(f"{next(_number):08x}-0000-4000-8000-000000000000\n")

    def reboot(self) -> None:
        """The kernel begins with its defaults, and the init applies what is on disk."""
        truth = self.boot_truth()
        for key, value in self.defaults.items():
            if self.path(key).exists():
                found = truth.keys[key].value
                self.write(key, value if found is None else found)
        self.new_boot_id()

    # Files

    def file(self, name: str, content: str) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)

    @property
    def files(self) -> dict[str, bytes]:
        """All that lies below /etc/sysctl.d and beside it, without the journal and the kernel."""
        found = {}
        for path in sorted(self.root.rglob("*")):
            name = str(path.relative_to(self.root))
            if path.is_file() and not name.startswith(("proc/", "var/lib/vdscheck")):
                found[name] = path.read_bytes()
        return found

    # What is measured and judged

    @property
    def host(self) -> Host:
        return Host(str(self.root))

    def boot_truth(self, host: Host | None = None) -> BootTruth:
        found = boot_truth.function(host or self.host)
        assert isinstance(found, BootTruth)
        return found

    def measure(self, host: Host | None = None, _entries: Iterable[ProbeEntry] = ()) -> Outcome:
        where = host or self.host
        found = {
            "sysctl.boot": taken(self.boot_truth(where)),
            "sysctl.listeners": taken(
                Listeners(
                    sockets=(Listener(address="0.0.0.0", port=80, backlog=128, waiting=0, owner="nginx"),),
                    local_ports_in_use=3,
                )
            ),
            "sysctl.node-agents": taken(self.agents),
            "sysctl.owner": taken(KernelOwner(ours=self.ours, writable=True, clues=("a clue",))),
        }
        if isinstance(where, WhatIfHost):
            return Outcome(found)
        values = sysctls.function(where)
        found["sysctl.values"] = taken(values)
        found["sysctl.swap"] = taken(
            SwapSpace(total_bytes=1 << 30, used_bytes=0, pages_in_since_boot=0, pages_out_since_boot=0)
        )
        found["sysctl.huge-pages"] = taken(HugePages(enabled="madvise", defrag="madvise"))
        names = TcpCounters.__dataclass_fields__
        found["sysctl.tcp-counters"] = taken(TcpCounters(**dict.fromkeys(names, 0)))
        room = dict.fromkeys(
            (
                "lowest_service_limit",
                "lowest_service",
                "fullest_service",
                "fullest_service_open",
                "fullest_service_limit",
            )
        )
        files_max = int(values.values.get("fs.file-max", "0")[:18])
        found["sysctl.open-files"] = taken(FileHandles(allocated=1000, maximum=files_max, **room))
        if "net.netfilter.nf_conntrack_max" in values.values:
            table = int(values.values["net.netfilter.nf_conntrack_max"])
            found["sysctl.conntrack-table"] = taken(Conntrack(count=0, maximum=table))
        return Outcome(found)

    def judge(self, measurements: Measurements) -> Judged:
        return judge(catalogue(), rules(*self.profiles), measurements, TODAY)

    @property
    def judged(self) -> Judged:
        return self.judge(self.measure().measurements)

    @property
    def verdicts(self) -> dict[str, Verdict]:
        return {finding.name: finding.verdict for finding in self.judged.findings}

    # What is done

    @property
    def desk(self) -> Desk:
        return at_desk(self, KernelSettings(str(self.settings)))

    def bench(self, **more: Any) -> Bench:
        plain: dict[str, Any] = {
            "host": self.host,
            "catalogue": catalogue(),
            "entries": [],
            "desk": self.desk,
            "judge": self.judge,
            "measure": self.measure,
            "stopped": lambda: False,
            "say": lambda _line: None,
            "stated_by": lambda check_id, source: ruleset.stated_by(self.profiles, catalogue(), check_id, source),
        }
        return Bench(**(plain | more))

    def fix(self, **more: Any) -> FixRecord:
        return self.fixed(**more).record

    def fixed(self, *, yes: bool = True, dry_run: bool = False, **more: Any) -> Result:
        return carried_out(self.bench(**more), self.measure().measurements, Terms(yes, dry_run, ("vdscheck", "--fix")))

    def undo(self, desk: Desk | None = None) -> tuple[str, ...] | None:
        """Undo the latest fix; the keys that were left, or None where there was nothing."""
        work = desk or self.desk
        journal = Journal.opened(self.host, work.kinds)
        if journal is None:
            return None
        try:
            journal.lock()
            found = undo(journal, work)
        finally:
            journal.close()
        return None if found is None else tuple(each.key for each in found.left)

    def states(self) -> list[str]:
        """The states of the journal's entries."""
        journal = Journal.opened(self.host, self.desk.kinds)
        if journal is None:
            return []
        try:
            return [entry.state for entry in journal.entries()]
        finally:
            journal.close()

    def gone(self) -> None:
        shutil.rmtree(self.root)


KINDS = {kernel_settings.name: kernel_settings}


def at_desk(machine: Machine, settings: KernelSettings) -> Desk:
    """Where fixes of a machine work, with settings of a kernel that may misbehave."""
    return Desk(machine.host, True, VERSION, {settings.name: settings})


def scatter(machine: Machine, seed: int) -> None:
    """A state that people have left: settings by hand, and files of every kind of precedence."""
    chosen = random.Random(seed)

    def line(key: str) -> str:
        name = OTHER_NAMES.get(key, key) if chosen.random() < 0.3 else key
        name = name.replace(".", "/") if chosen.random() < 0.2 else name
        if chosen.random() < 0.05:
            return f"-{name}\n"
        return (
            f"{'-' if chosen.random() < 0.1 else ''}{name}{chosen.choice((' = ', '='))}{chosen.choice(VALUES[key])}\n"
        )

    for key, values in VALUES.items():
        if chosen.random() < 0.5:
            machine.write(key, " ".join(chosen.choice(values).split()).lstrip("0") or "0")
    for names, share in ((EARLIER, 0.6), (LATER, 0.25), (("90-vdscheck.conf",), 0.3)):
        for name in names:
            if chosen.random() < share:
                keys = chosen.sample(sorted(VALUES), chosen.randint(0, 4))
                lines = [line(key) for key in keys]
                if chosen.random() < 0.2:
                    lines.append(f"{chosen.choice(GLOBS)} = {chosen.choice('012')}\n")
                machine.file(f"etc/sysctl.d/{name}", "# by hand\n" + "".join(lines))
    if chosen.random() < 0.1:
        machine.path("net.netfilter.nf_conntrack_max").unlink(missing_ok=True)


def mentioned_later(machine: Machine) -> str:
    """All that files say which are read after ours."""
    files: Mapping[str, bytes] = machine.files
    later = [
        text
        for name, text in files.items()
        if name.startswith("etc/sysctl.d/") and Path(name).name > "90-vdscheck.conf"
    ]
    return b"\n".join(later).decode().replace("/", ".")
