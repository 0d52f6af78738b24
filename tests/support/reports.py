"""Reports as examples for the tests of renderers: an ordinary host, a perfect one, hostile text, and the like."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from vdscheck.fixes.sysctl import kernel_settings
from vdscheck.judge.gates import gates
from vdscheck.judge.score import score, with_points
from vdscheck.model.absence import Reason
from vdscheck.model.fixes import FixNote, SettingFix
from vdscheck.model.judgement import Confidence, Evidence, Expected, Finding, Observed, Severity, Verdict, Waiver
from vdscheck.model.report import Report, RulesetNote, Run, TargetNote, Tool
from vdscheck.render import shell

HOSTILE = "\x1b[2J\x1b]0;owned\x07[red]\u202eevil\u202c[/red]\nsecond line\r\x9b31m\u200b\ud800\u2028"
"""Terminal escapes, a title, markup, direction marks, newlines, a C1 escape, a zero-width space, half a pair."""

ETCD = "etcd: https://etcd.io/docs/v3.5/faq/ (p99 of fdatasync under 10 ms)"
ORIGIN = "origin: CoolVDS, Microservices Patterns That Won't Wake You Up at 3 AM"
HOUSE = "house: a page that comes back from swap is a request that waits for the disk; 256 are 1 MiB"


def finding(check_id: str, verdict: Verdict, summary: str, **more: Any) -> Finding:
    """A finding with everything else as plain as it can be."""
    severity = more.pop("severity", Severity.MEDIUM)
    plain: dict[str, Any] = {
        "id": check_id,
        "subject": None,
        "area": check_id.partition(".")[0],
        "title": "Something is as it should be",
        "severity": severity,
        "weight": severity.weight,
        "verdict": verdict,
        "reason": None,
        "summary": summary,
        "observed": None,
        "expected": None,
        "evidence": (),
        "points_lost": 0.0,
        "confidence": Confidence.HIGH,
        "fix": None,
        "waiver": None,
        "docs": f"vdscheck explain {check_id}",
    }
    return Finding(**(plain | more))


def sets(key: str, value: str, before: str) -> FixNote:
    """The note of a fix that sets a key, as the judge writes it."""
    change = SettingFix("sysctl", key, value, before)
    summary = f"set {key} to {value}, now and at every boot"
    return FixNote(
        f"sysctl:{key}",
        safe=True,
        summary=summary,
        commands=kernel_settings.commands(change),
        undo=kernel_settings.undo(change),
    )


def script(made: Report) -> bytes:
    """The plan of a report as a shell script."""
    return shell.script(made, {kernel_settings.name: kernel_settings})


def by_hand(summary: str, *commands: str) -> FixNote:
    """The note of a fix that only a person can make."""
    return FixNote("by-hand", safe=False, summary=summary, commands=commands, undo=())


def report(findings: Sequence[Finding], **more: Any) -> Report:
    """A report of these findings, scored as the judge does."""
    scored = with_points(list(findings))
    plain: dict[str, Any] = {
        "schema_version": 1,
        "tool": Tool("vdscheck", "0.1.0"),
        "ruleset": RulesetNote("web@0.1.0 7f3a91", ("web",), {}),
        "run": Run("4f1c22aa90b1", "2026-11-23T09:14:07Z", 11.6, complete=True, command=("vdscheck",)),
        "target": TARGET,
        "score": score(scored),
        "gates": (),
        "findings": scored,
        "fix": None,
        "measurements": {},
        "warnings": (),
    }
    return Report(**(plain | more))


TARGET = TargetNote(
    kind="host",
    name="vds-osl-17",
    machine_id=None,
    boot_id=None,
    os="Debian GNU/Linux 12 (bookworm)",
    kernel="6.1.0-28-amd64",
    virtualization="kvm",
    cpu_model="AMD EPYC 7543 32-Core Processor",
    cpus=4,
    memory_bytes=8_326_959_104,
    root=None,
)

PASSING = (
    ("cpu.pressure", "the share of the last minute in which a task waited for a CPU is 0.31 %", Severity.MEDIUM),
    ("memory.available", "71.2 % of memory is available (5.52 GiB), at least 10 % wanted (house)", Severity.MEDIUM),
    ("memory.swap", "0 pages were read back from swap in 1 s, at most 0 pages wanted (house)", Severity.MEDIUM),
    ("sysctl.file-handles", "use of fs.file-max is 0.012 %, at most 80 % wanted (house)", Severity.MEDIUM),
    ("sysctl.port-range", "net.ipv4.ip_local_port_range holds 28,232 ports, at least 28,000 wanted", Severity.MEDIUM),
    ("sysctl.somaxconn", "net.core.somaxconn is 4,096, at least 1,024 connections wanted (origin)", Severity.HIGH),
    ("sysctl.syn-backlog", "net.ipv4.tcp_syncookies is 1, at least 1 wanted (kernel)", Severity.MEDIUM),
    ("time.sync", "the clock is synchronised by chrony", Severity.HIGH),
    ("virt.clocksource", "the clock source is kvm-clock, and one read takes 31 ns", Severity.HIGH),
    ("virt.hypervisor", "a KVM guest: hardware virtualisation", Severity.CRITICAL),
    ("virt.multiqueue", "eth0 has 4 queues for 4 CPUs, at least 4 queues wanted (house)", Severity.MEDIUM),
    ("virt.virtio", "vda (virtio_blk), eth0 (virtio_net): none is emulated", Severity.HIGH),
)


def passes() -> list[Finding]:
    """What passes on every host of the examples."""
    return [finding(name, Verdict.PASS, said, severity=severity) for name, said, severity in PASSING]


def exactly(value: float, unit: str | None = None) -> Observed:
    """An exact number."""
    return Observed(value, float(value), float(value), None, unit)


def at_most(limit: float, unit: str, source: str, fail: float | None = None) -> Expected:
    """A limit from above."""
    return {"op": "at-most", "pass": limit, "fail": limit if fail is None else fail, "unit": unit, "source": source}


SLOW_DISK = finding(
    "disk.fsync-latency",
    Verdict.FAIL,
    "fdatasync p99 is 41.8 ms [38.2, 47.5], at most 10 ms wanted (etcd). "
    "Every commit of a database or a broker waits this long.",
    subject="/var/lib",
    severity=Severity.HIGH,
    observed=Observed(41.8, 38.2, 47.5, 412, "ms"),
    expected=at_most(10, "ms", ETCD),
    evidence=(Evidence("fdatasync_p50_ms", 12.1, "ms", "the same samples"),),
    fix=by_hand("ask the provider whether this is local NVMe or network storage"),
)
"""Of an instrument that is to come: a percentile with its interval."""

EMULATED = finding(
    "virt.virtio",
    Verdict.FAIL,
    "eth0 (e1000): emulated, where a paravirtual driver would do. "
    "An emulated card stops the whole guest for each of its registers: CPU time, and latency of every packet.",
    severity=Severity.HIGH,
    evidence=(
        Evidence("eth0", "e1000 (emulated)", None, "Nics"),
        Evidence("vda", "virtio_blk (paravirtual)", None, "BlockDevices"),
    ),
    fix=by_hand("ask the provider for virtio devices"),
)

TW_REUSE = finding(
    "sysctl.tcp-tw-reuse",
    Verdict.FAIL,
    "net.ipv4.tcp_tw_reuse is 2 (for loopback only), 1 wanted (origin): "
    "9,214 of 28,232 local ports are in TIME_WAIT. "
    "A gateway that opens a connection for each request runs out of local ports.",
    observed=exactly(2),
    expected={"op": "one-of", "pass": 1, "fail": 1, "unit": None, "source": ORIGIN},
    evidence=(
        Evidence("time_wait", 9214, None, "/proc/net/sockstat now"),
        Evidence("local_ports", 28232, None, "/proc/sys/net/ipv4/ip_local_port_range"),
    ),
    fix=sets("net.ipv4.tcp_tw_reuse", "1", "2"),
)

LOST_AT_BOOT = "What was set by hand is gone after a reboot, which comes when nobody is looking."


def persistence(key: str, verdict: Verdict, summary: str, **more: Any) -> Finding:
    """What is said of one key and the next boot."""
    why = f" {LOST_AT_BOOT}" if verdict in (Verdict.WARN, Verdict.FAIL) else ""
    return finding("sysctl.persistence", verdict, summary + why, subject=key, severity=Severity.HIGH, **more)


def persistences() -> list[Finding]:
    """A host on which somebody tuned by hand."""
    unset = "{} is {} now; nobody sets it on disk, and the default of this kernel is not known"
    unknown = {"vm.overcommit_memory": 0, "vm.max_map_count": 65530, "fs.inotify.max_user_watches": 62114}
    return [
        persistence(
            "net.core.somaxconn",
            Verdict.WARN,
            "net.core.somaxconn is 4096 now and 1024 after the next boot: "
            "set now, lost at reboot; /etc/sysctl.d/99-tuning.conf:3 sets the other.",
            fix=by_hand(
                "let /etc/sysctl.d/99-tuning.conf:3 say net.core.somaxconn = 4096: "
                "that file is read after 90-vdscheck.conf and overrides it"
            ),
        ),
        persistence(
            "vm.swappiness",
            Verdict.WARN,
            "vm.swappiness is 10 now and 60 after the next boot: "
            "set now, lost at reboot; nobody sets it on disk (kernel default).",
            fix=sets("vm.swappiness", "10", "10"),
        ),
        *(
            persistence(key, Verdict.PASS, f"{key} is the same now and after the next boot (kernel default)")
            for key in ("net.ipv4.tcp_tw_reuse", "net.ipv4.tcp_syncookies", "fs.nr_open", "net.ipv4.ip_forward")
        ),
        *(
            persistence(key, Verdict.UNKNOWN, unset.format(key, value), reason=Reason.UNSUPPORTED)
            for key, value in unknown.items()
        ),
    ]


SWAPPING = finding(
    "memory.swap",
    Verdict.WARN,
    "41 pages were read back from swap in 1 s, at most 0 pages wanted (house). "
    "A page that was swapped out makes a request wait for the disk.",
    observed=exactly(41, "pages"),
    expected=at_most(0, "pages", HOUSE, 256),
    evidence=(Evidence("swap_used_bytes", 312_475_648, "B", "/proc/meminfo"),),
)

NOT_HERE = (
    finding("memory.contract", Verdict.NOT_APPLICABLE, "the configuration has no [offer]: what was bought is not said"),
    finding("disk.contract", Verdict.NOT_APPLICABLE, "the configuration has no [offer]: what was bought is not said"),
    finding("sysctl.conntrack", Verdict.NOT_APPLICABLE, "connections are not tracked here: nf_conntrack is not loaded"),
)

UNSEEN = finding(
    "virt.balloon",
    Verdict.UNKNOWN,
    "virtio_balloon does not say on this kernel what it holds (Linux 6.16 and later do): "
    "compare MemTotal with what was bought",
    reason=Reason.UNSUPPORTED,
    severity=Severity.LOW,
)

FORBIDDEN = finding(
    "sysctl.inotify",
    Verdict.UNKNOWN,
    "/proc/sys/fs/inotify/max_user_watches: permission denied; run it as root: sudo vdscheck",
    reason=Reason.PERMISSION,
)

ACCEPTED = finding(
    "disk.space",
    Verdict.WAIVED,
    "8.12 % of it is free, at least 10 % wanted (house). A full disk stops databases and logs at once.",
    subject="/var/cache",
    severity=Severity.HIGH,
    waiver=Waiver("disk.space[/var/cache]", "a cache that empties itself", "2027-01-31"),
)


def middling() -> Report:
    """An ordinary rented server: some of it tuned, a card emulated, a few things unseen."""
    well = [each for each in passes() if each.id not in ("virt.virtio", "memory.swap")]
    found = [*well, EMULATED, TW_REUSE, *persistences(), SWAPPING, *NOT_HERE, UNSEEN, FORBIDDEN, ACCEPTED]
    made = report(found, warnings=("configuration: /etc/vdscheck/config.toml",))
    return replace(made, gates=gates(made.findings, made.score, min_score=80, min_coverage=None, fail_on=("unknown",)))


def perfect() -> Report:
    """Nothing wrong, everything seen."""
    return report(passes(), run=replace(report([]).run, duration_s=0.44))


def container() -> Report:
    """A container: the kernel is another's, and much does not apply."""
    theirs = "{} belongs to a kernel that is not this machine's own: ask who runs the host"
    keys = {
        "sysctl.overcommit": "vm.overcommit_memory",
        "sysctl.swappiness": "vm.swappiness",
        "sysctl.max-map-count": "vm.max_map_count",
    }
    found = [
        finding(
            "virt.hypervisor",
            Verdict.FAIL,
            "this is a container (lxc) on a KVM guest, not a server with a kernel of its own. "
            "A shared kernel has the settings and the load of strangers.",
            severity=Severity.CRITICAL,
            fix=by_hand("ask the provider for a virtual machine"),
        ),
        *(finding(name, Verdict.NOT_APPLICABLE, theirs.format(key)) for name, key in keys.items()),
        *(each for each in passes() if each.area in ("memory", "time")),
        finding("cpu.pressure", Verdict.UNKNOWN, "/proc/pressure/cpu: not supported", reason=Reason.UNSUPPORTED),
    ]
    target = replace(TARGET, name="ct-4711", virtualization="lxc", cpus=2, memory_bytes=1 << 30)
    return report(found, target=target)


def incomplete() -> Report:
    """Ctrl-C while most was not measured yet."""
    early = "the run was ended before this was measured"
    found = [
        *passes()[4:7],
        *(
            finding(name, Verdict.UNKNOWN, early, reason=Reason.NOT_RUN, severity=severity)
            for name, _, severity in [*PASSING[:4], *PASSING[7:]]
        ),
    ]
    run = replace(report([]).run, complete=False, duration_s=1.2)
    return report(found, run=run, warnings=("process 4711 of disk.space could not be ended and was left behind",))


def undecided() -> Report:
    """A folder without a kernel: nothing at all could be decided."""
    found = [
        finding(name, Verdict.UNKNOWN, "only a running kernel knows this; run it on the host", reason=Reason.NOT_RUN)
        for name, _, _ in PASSING
    ]
    empty = dict.fromkeys(("os", "kernel", "virtualization", "cpu_model", "cpus", "memory_bytes"))
    target = replace(TARGET, name="unnamed", root="/mnt/image", **empty)  # type: ignore[arg-type]
    made = report(found, target=target)
    return replace(made, gates=gates(made.findings, made.score, min_score=70, min_coverage=None, fail_on=()))


def crowded() -> Report:
    """Three hundred findings, most of them wrong."""
    verdicts = (Verdict.FAIL, Verdict.WARN, Verdict.UNKNOWN, Verdict.PASS, Verdict.FAIL)
    found = []
    for number in range(300):
        verdict = verdicts[number % len(verdicts)]
        severity = tuple(Severity)[number % 7 % 5]
        said = f"the figure is {number}, at most 3 wanted (house)"
        bad = verdict in (Verdict.FAIL, Verdict.WARN)
        found.append(
            finding(
                f"area{number % 11}.check-{number % 23}",
                verdict,
                f"{said}. It costs time." if bad else said,
                subject=f"subject-{number}",
                severity=severity,
                reason=Reason.ERROR if verdict is Verdict.UNKNOWN else None,
                fix=by_hand("look at it", f"look --at subject-{number}") if bad else None,
            )
        )
    return report(found)


def _hostile(text: str) -> Report:
    """Every field that holds text holds this one."""

    def bad(verdict: Verdict, **more: Any) -> Finding:
        fix = FixNote(text, safe=True, summary=text, commands=(text, f"echo {text}"), undo=(text,))
        return finding(
            text,
            verdict,
            f"{text}. {text}",
            area=text,
            title=text,
            observed=Observed(text, None, None, None, text),
            expected={"op": "stated", "pass": text, "fail": text, "unit": text, "source": text},
            evidence=(Evidence(text, text, text, text),),
            docs=text,
            fix=fix,
            waiver=Waiver(text, text, text) if verdict is Verdict.WAIVED else None,
            **more,
        )

    found = [
        *(bad(verdict, subject=f"{text}{number}") for verdict in Verdict for number in range(2)),
        *(replace(bad(verdict), id=f"{text}2") for verdict in Verdict),
    ]
    texts = {"os": text, "kernel": text, "virtualization": text, "cpu_model": text, "root": text}
    target = replace(TARGET, name=text, machine_id=text, boot_id=text, **texts)  # type: ignore[arg-type]
    made = report(
        found,
        tool=Tool(text, text),
        ruleset=RulesetNote(text, (text, text), {text: text}),
        run=replace(report([]).run, id=text, started_at=text, command=(text,)),
        target=target,
        warnings=(text, text),
    )
    return replace(made, gates=gates(made.findings, made.score, min_score=50, min_coverage=None, fail_on=("fail",)))


def hostile() -> Report:
    """Whoever named things here meant harm."""
    return _hostile(HOSTILE)


def huge() -> Report:
    """Ten thousand characters in every field."""
    return _hostile("x" * 5000 + "\x1b[31m" * 1000)


EXAMPLES = {
    "middling": middling,
    "perfect": perfect,
    "container": container,
    "incomplete": incomplete,
    "undecided": undecided,
    "crowded": crowded,
    "hostile": hostile,
    "huge": huge,
}
