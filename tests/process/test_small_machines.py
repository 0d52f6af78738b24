"""Where little is allowed or there, what can be measured is, and the rest is told with the limit that stopped it."""

import errno
import itertools
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from tests.support.program import PROGRAM, environment, plugin, vdscheck
from tests.support.small_machines import USER, cgroup, run
from vdscheck.cli import reference
from vdscheck.model.absence import UnavailableError
from vdscheck.probes.net import counters
from vdscheck.process import limits, nowhere
from vdscheck.target.host import KERNEL_READ_LIMIT_BYTES, READ_LIMIT_BYTES, Host

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can make cgroups and namespaces")

SCHEMA = json.loads(reference.schema())
ALL = 24
"""How many of the measurements of a passive run this machine bears at least."""


def examined(*words: str, code: int = 0, **surroundings: Any) -> dict[str, Any]:
    """The report of a run there, passive by default, checked against the schema; nothing else may be said."""
    effort = () if "--quick" in words else ("--passive",)
    done = run(*effort, "--json", *words, **surroundings)
    assert (done.returncode, done.stderr) == (code, "")
    report: dict[str, Any] = json.loads(done.stdout)
    jsonschema.Draft202012Validator(SCHEMA).validate(report)
    return report


def taken(report: dict[str, Any]) -> set[str]:
    """What was measured."""
    return {key for key, each in report["measurements"].items() if each["absent"] is None}


def lost(report: dict[str, Any]) -> dict[str, str]:
    """What a limit stopped, and which one."""
    absences = {key: each["absent"] for key, each in report["measurements"].items() if each["absent"]}
    return {key: absent["limit"] for key, absent in absences.items() if absent["limit"]}


def assert_whole(report: dict[str, Any]) -> None:
    """Nothing was lost to a limit."""
    assert lost(report) == {}
    assert report["run"]["complete"]
    assert len(taken(report)) >= ALL, {key: each["absent"] for key, each in report["measurements"].items()}


def assert_limited(report: dict[str, Any], limit: str, *, still: int) -> None:
    """Some measurements were lost to that limit and no other, so many others were taken, and the report says so."""
    assert set(lost(report).values()) == {limit}
    assert len(taken(report)) >= still
    assert report["score"]["provisional"]
    count = f"{len(lost(report))} of {len(report['measurements'])} measurements"
    assert f"{limit} stopped {count}: the score is provisional; run again without this limit" in report["warnings"]


def first_line(*words: str, **surroundings: Any) -> str:
    """The first line of the report as text."""
    return run("--passive", *words, **surroundings).stdout.partition("\n")[0]


# Processes


def test_with_three_processes_all_that_needs_no_further_one_is_measured_one_after_the_other() -> None:
    with cgroup("pids", pids_max=3) as cell:
        report = examined(cell=cell)
        assert_limited(report, "the limit of processes (pids.max 3)", still=ALL - 3)
        line = first_line("-q", cell=cell)
    assert line.startswith("LIMITED The limit of processes (pids.max 3) stopped ")


def test_with_two_processes_the_one_that_keeps_the_deadlines_measures_itself() -> None:
    with cgroup("pids", pids_max=2) as cell:
        assert_limited(examined(cell=cell), "the limit of processes (pids.max 2)", still=ALL - 3)


@pytest.mark.slow
@pytest.mark.parametrize("most", [4, 5, 20])
def test_with_four_processes_and_more_nothing_is_lost(most: int) -> None:
    with cgroup("pids", pids_max=most) as cell:
        assert_whole(examined(cell=cell))


@pytest.mark.slow
def test_with_three_processes_the_instruments_that_need_more_are_named() -> None:
    with cgroup("pids", pids_max=3) as cell:
        done = run("--quick", "--json", cell=cell)
    report = json.loads(done.stdout)
    assert done.returncode == 0
    assert {"disk.latency[/var/lib]", "host.load"} <= taken(report)
    assert {"cpu.spin", "cpu.loopback"} <= set(lost(report))


@pytest.mark.slow
@pytest.mark.parametrize(("most", "still"), [(2, ALL - 3), (3, ALL - 3), (5, ALL)])
def test_an_ordinary_user_without_a_name_may_have_few_processes(most: int, still: int) -> None:
    report = examined(user=USER, limits={resource.RLIMIT_NPROC: most})
    assert len(taken(report)) >= still
    assert set(lost(report).values()) <= {f"the limit of processes (ulimit -u {most})"}


@pytest.mark.parametrize("plan", [(), ("--fix", "--dry-run")])
def test_a_run_that_may_not_start_one_process_measures_nothing_and_is_4(plan: tuple[str, ...]) -> None:
    with cgroup("pids", pids_max=1) as cell:
        report = examined(*plan, cell=cell, code=4)
    assert_limited(report, "the limit of processes (pids.max 1)", still=0)
    assert not report["run"]["complete"]
    assert (report["score"]["value"], report["score"]["coverage"]) == (None, 0)


PROBES = '''
import os, time
from vdscheck.plugin import Evidence, Host, Judgement, Severity, Verdict, check, measurement, probe

@measurement
class First:
    """A number."""
    x: int

@measurement
class Second:
    """Another one."""
    x: int

DOC = """It is fine.

Why: It is.
False positives: None.
By hand: none
Sources: none
"""

@probe("acme.first", deadline_s=20)
def first(host: Host) -> First:
    """Counts."""
    FIRST
    return First(x=1)

@probe("acme.second", deadline_s=20)
def second(host: Host) -> Second:
    """Counts as well."""
    SECOND
    return Second(x=1)

@check("acme.check", severity=Severity.LOW, doc=DOC)
def judged(one: First, two: Second) -> Judgement:
    return Judgement(verdict=Verdict.PASS, summary="fine")
'''


def probes(folder: Path, first: str, second: str = "pass") -> dict[str, str]:
    """The environment in which a plugin has two probes with these bodies."""
    source = PROBES.replace("FIRST", first).replace("SECOND", second)
    return environment(PYTHONPATH=str(plugin(folder, source)))


def test_what_lacked_a_process_beside_another_one_is_tried_again_alone(tmp_path: Path) -> None:
    marks = tmp_path / "marks"
    marks.mkdir()
    forks = "pid = os.fork()\n    if pid == 0:\n        os._exit(0)\n    os.waitpid(pid, 0)"
    beside = f"open({str(marks / 'begun')!r}, 'w').close()\n    time.sleep(1)"
    waits = f"while not os.path.exists({str(marks / 'begun')!r}):\n        time.sleep(0.01)\n    {forks}"
    with cgroup("pids", pids_max=4) as cell:
        report = examined("--only", "acme.*", cell=cell, env=probes(tmp_path, beside, waits))
    assert [each["verdict"] for each in report["findings"]] == ["pass"]
    assert lost(report) == {}


# Descriptors


def test_with_seven_descriptors_nothing_is_lost() -> None:
    assert_whole(examined(limits={resource.RLIMIT_NOFILE: 7}))


@pytest.mark.slow
@pytest.mark.parametrize("most", [8, 9, 10, 16])
def test_with_more_descriptors_nothing_is_lost_either(most: int) -> None:
    assert_whole(examined(limits={resource.RLIMIT_NOFILE: most}))


@pytest.mark.parametrize("most", [pytest.param(5, marks=pytest.mark.slow), 6])
def test_with_fewer_descriptors_nothing_is_measured_the_limit_is_named_and_it_is_4(most: int) -> None:
    report = examined(limits={resource.RLIMIT_NOFILE: most}, code=4)
    assert_limited(report, f"the limit of open files (ulimit -n {most})", still=0)


def test_a_probe_that_goes_on_without_what_it_could_not_open_has_measured_nothing(tmp_path: Path) -> None:
    keeps = (
        "kept = []\n    try:\n        while True:\n            kept.append(os.open('/', os.O_PATH))\n"
        "    except OSError:\n        pass\n    "
    )
    reads = keeps + "host.exists('/proc/version') and host.glob('/etc/*')"
    report = examined("--only", "acme.*", env=probes(tmp_path, reads), limits={resource.RLIMIT_NOFILE: 40})
    assert lost(report) == {"acme.first": "the limit of open files (ulimit -n 40)"}
    assert "acme.second" in taken(report)


# Memory


def test_in_32_mib_of_address_space_what_needs_more_is_named() -> None:
    report = examined(limits={resource.RLIMIT_AS: 32 << 20})
    assert len(taken(report)) >= ALL - 3
    assert set(lost(report).values()) <= {"the limit of memory (ulimit -v 32768)"}
    assert report["score"]["provisional"] is bool(lost(report)) or not lost(report)


def test_in_a_cgroup_of_32_mib_the_program_itself_is_not_ended() -> None:
    with cgroup("memory", memory_max=32 << 20) as cell:
        report = examined(cell=cell)
    assert len(taken(report)) >= ALL - 4
    assert set(lost(report).values()) <= {"the limit of memory (32 MiB for this cgroup)"}


def test_a_probe_that_takes_all_memory_of_a_cgroup_is_ended_before_the_program(tmp_path: Path) -> None:
    takes = "taken = bytearray(200 << 20)\n    taken[:: 4096] = b'x' * len(taken[:: 4096])"
    with cgroup("memory", memory_max=64 << 20) as cell:
        report = examined("--only", "acme.*", cell=cell, env=probes(tmp_path, takes))
    assert lost(report) == {"acme.first": "the limit of memory (64 MiB for this cgroup)"}
    assert "acme.second" in taken(report)
    assert report["score"]["provisional"]


def test_the_bound_that_a_measuring_process_sets_itself_is_no_limit_of_the_session(tmp_path: Path) -> None:
    report = examined("--only", "acme.*", env=probes(tmp_path, "bytearray(4 << 30)"))
    absent = report["measurements"]["acme.first"]["absent"]
    assert (absent["limit"], absent["reason"]) == (None, "error")
    assert "MemoryError" in absent["detail"]


# Missing file systems


def test_without_proc_what_needs_none_is_measured() -> None:
    report = examined(before="umount -l /proc")
    assert_limited(report, "the missing /proc", still=5)
    assert {"host.identity", "time.clock"} <= taken(report)


def test_without_sys_what_needs_none_is_measured() -> None:
    report = examined(before="umount -l /sys")
    assert_limited(report, "the missing /sys", still=12)
    assert "net.counters" in lost(report), "that no card was seen to drop a packet is not that none did"


@pytest.mark.slow
def test_proc_that_shows_only_processes_is_named() -> None:
    report = examined(before="mount -t proc -o subset=pid proc /proc")
    assert_limited(report, "the reduced /proc (subset=pid)", still=6)


@pytest.mark.slow
def test_proc_that_hides_the_processes_of_others_costs_no_measurement() -> None:
    assert_whole(examined(before="mount -t proc -o hidepid=2 proc /proc", user=USER))


def test_without_dev_null_nothing_is_lost() -> None:
    assert_whole(examined(before="mount -t tmpfs none /dev"))


@pytest.mark.slow
def test_a_regular_file_named_dev_null_is_not_written_to(tmp_path: Path) -> None:
    loud = probes(tmp_path, "print('loud', flush=True)")
    script = f"mount -t tmpfs none /dev; echo before > /dev/null; mount --bind {tmp_path} /mnt"
    assert_whole(examined(before=script))
    said = run(
        "--passive",
        "--json",
        "--only",
        "acme.*",
        before=script,
        env=loud,
        program=("sh", "-c", f'{" ".join(PROGRAM)} "$@" >/mnt/out; cat /dev/null', "sh"),
    )
    assert said.stdout == "before\n"


@pytest.mark.slow
def test_with_nothing_of_the_kernel_there_is_still_a_report() -> None:
    report = examined(before="umount -l /sys; mount -t tmpfs none /dev; umount -l /proc")
    assert {"the missing /proc", "the missing /sys"} == set(lost(report).values())
    assert "host.identity" in taken(report)


# System calls


def test_what_may_not_bound_or_part_itself_measures_all_the_same() -> None:
    assert_whole(examined(refusing=("setrlimit,prlimit64,setsid,prctl", "EPERM")))


@pytest.mark.slow
@pytest.mark.parametrize("calls", ["setrlimit,prlimit64", "setsid", "prctl", "socketpair", "pidfd_open"])
def test_each_of_these_may_be_refused(calls: str) -> None:
    assert_whole(examined(refusing=(calls, "EPERM")))


def test_what_a_filter_of_system_calls_ends_is_named_and_the_rest_is_measured() -> None:
    report = examined(refusing=("socket", "kill"))
    assert_limited(report, "the filter of system calls (seccomp)", still=ALL - 2)
    assert "sysctl.listeners" in lost(report)


@pytest.mark.slow
def test_where_no_process_may_be_started_the_refusal_is_told_and_it_is_4() -> None:
    report = examined(refusing=("clone,fork,vfork,clone3", "EPERM"), code=4)
    assert_limited(report, "the refusal of a new process (Operation not permitted)", still=0)


@pytest.mark.slow
def test_where_the_process_that_keeps_the_deadlines_is_ended_the_limit_is_named_and_it_is_4() -> None:
    report = examined("--no-config", refusing=("setsid", "kill"), code=4)
    assert_limited(report, "the filter of system calls (seccomp)", still=0)
    assert not report["run"]["complete"]


# Files of the kernel


MANY_MOUNTS = """
mount -t tmpfs none /mnt
"$PYTHON" -c '
import ctypes, os
libc = ctypes.CDLL(None)
for number in range(1100):
    place = f"/mnt/{number}"
    os.mkdir(place)
    assert libc.mount(b"x" * 3900, place.encode(), b"tmpfs", 0, None) == 0
assert os.path.exists("/proc/self/mountinfo") and len(open("/proc/self/mountinfo").read()) > 4 << 20
'
"""


def test_a_mount_table_of_four_mebibytes_is_read() -> None:
    words = ("--quick", "--only", "disk.space", "--only", "disk.nvme", "--only", "disk.scheduler")
    few = examined(*words, env=environment(PYTHON=sys.executable))
    many = examined(*words, env=environment(PYTHON=sys.executable), before=MANY_MOUNTS)
    assert taken(many) >= taken(few) - {"disk.file-systems"}
    assert "disk.file-systems" in taken(many)
    verdicts = [{each["id"]: each["verdict"] for each in report["findings"]} for report in (few, many)]
    assert verdicts[0] == verdicts[1]


@pytest.mark.parametrize("path", ["/proc/cpuinfo", "/sys/devices/virtual/dmi/id/product_name"])
def test_a_file_of_the_kernel_may_be_longer_than_any_other(tmp_path: Path, path: str) -> None:
    file = tmp_path / path[1:]
    file.parent.mkdir(parents=True)
    (tmp_path / "etc").mkdir()
    for size, other in ((READ_LIMIT_BYTES + 1, tmp_path / "etc/other"), (KERNEL_READ_LIMIT_BYTES + 1, file)):
        file.write_bytes(b"x" * KERNEL_READ_LIMIT_BYTES)
        assert len(Host(str(tmp_path)).read(path)) == KERNEL_READ_LIMIT_BYTES
        other.write_bytes(b"x" * size)
        with pytest.raises(UnavailableError, match="is larger than"):
            Host(str(tmp_path)).read("/" + str(other.relative_to(tmp_path)))


# No report


@pytest.mark.parametrize(
    ("module", "source", "said"),
    [
        ("msgspec", "raise ImportError('no msgspec')", "no report: ImportError: no msgspec; install vdscheck again"),
        ("typer", "import no_such_module", "no report: ModuleNotFoundError: No module named 'no_such_module'; install"),
        ("selectors", "raise SystemExit(3)", "no report: SystemExit at "),
        ("msgspec", "raise MemoryError", "no report: the limit of memory"),
        ("msgspec", "def f(): f()\nf()", "no report: RecursionError at "),
        ("msgspec", "syntax error", "no report: SyntaxError at "),
    ],
)
def test_what_cannot_be_imported_is_one_line_and_4(tmp_path: Path, module: str, source: str, said: str) -> None:
    (tmp_path / f"{module}.py").write_text(source)
    done = vdscheck("--passive", "--min-score", "50", "--json", env={"PYTHONPATH": str(tmp_path)})
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (4, "", 1)
    assert done.stderr.startswith(f"vdscheck: {said}")


@pytest.mark.parametrize("kib", [20_000, 24_000, 28_000, 30_000])
def test_too_little_memory_to_start_is_one_line_and_4(kib: int) -> None:
    done = run("--passive", "--json", limits={resource.RLIMIT_AS: kib << 10})
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (4, "", 1)
    assert done.stderr.startswith("vdscheck: no report: the limit of memory")


# Standard streams, and other limits of a session


@pytest.mark.slow
@pytest.mark.parametrize("closed", [each for count in (1, 2, 3) for each in itertools.combinations((0, 1, 2), count)])
def test_any_of_the_standard_streams_may_be_closed(closed: tuple[int, ...]) -> None:
    shut = " ".join(f"{number}>&-" for number in closed)
    done = subprocess.run(
        ["sh", "-c", f'exec "$@" {shut}', "sh", *PROGRAM, "--passive", "--json"],
        capture_output=True, text=True, timeout=60, check=False, cwd="/", env=environment(),
    )  # fmt: skip
    if 1 in closed:
        assert (done.returncode, done.stdout) == (4, "")
        assert done.stderr == ("" if 2 in closed else "vdscheck: standard output is closed\n")
    else:
        assert (done.returncode, done.stderr) == (0, "")
        assert_whole(json.loads(done.stdout))


@pytest.mark.slow
def test_where_no_file_may_be_written_the_disk_is_not_measured_and_the_limit_named() -> None:
    done = run("--quick", "--json", "--only", "disk.*", limits={resource.RLIMIT_FSIZE: 0})
    report = json.loads(done.stdout)
    assert done.returncode == 0
    assert lost(report) == {"disk.latency[/var/lib]": "the limit of a file's size (ulimit -f 0)"}


@pytest.mark.slow
def test_a_probe_that_uses_up_its_cpu_time_is_named(tmp_path: Path) -> None:
    env = probes(tmp_path, "while True: pass")
    done = run("--thorough", "--json", "--only", "acme.*", env=env, limits={resource.RLIMIT_CPU: 2})
    assert lost(json.loads(done.stdout)) == {"acme.first": "the limit of CPU time (ulimit -t 2)"}


@pytest.mark.slow
@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"LC_ALL": "C", "HOME": "/no/such"},
        {"LC_ALL": "POSIX", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
        {"LC_ALL": "xx_YY.nonsense", "PATH": ""},
        {"TMPDIR": "/no/such", "LANG": "de_DE.ISO-8859-1"},
    ],
    ids=["none", "C", "POSIX", "nonsense", "no TMPDIR"],
)
def test_no_environment_costs_a_measurement(variables: dict[str, str]) -> None:
    assert_whole(examined(env=variables))


@pytest.mark.slow
def test_a_user_without_a_name_and_a_home_loses_nothing_to_a_limit() -> None:
    assert_whole(examined(user=USER, env={"PATH": os.environ["PATH"]}))


@pytest.mark.slow
def test_read_only_folders_for_temporary_files_cost_no_passive_measurement() -> None:
    assert_whole(examined(before="mount -t tmpfs -o ro none /tmp; mount -t tmpfs -o ro none /var/tmp"))


@pytest.mark.slow
def test_the_first_process_of_a_container_measures_and_leaves_nothing_behind() -> None:
    program = ("unshare", "--fork", "--pid", "--mount-proc", *PROGRAM)
    assert_whole(examined(program=program))


# What the words are made of


def test_an_error_is_a_limit_also_where_another_one_was_raised_for_it() -> None:
    def raised(error: BaseException, cause: BaseException) -> BaseException:
        error.__cause__ = cause
        return error

    few = f"the limit of open files (ulimit -n {resource.getrlimit(resource.RLIMIT_NOFILE)[0]})"
    assert limits.limit_of(raised(ValueError("x"), OSError(errno.EMFILE, "y"))) == few
    assert limits.limit_of(OSError(errno.ENOENT, "y")) is None
    assert limits.limit_of(ImportError(f"libx.so: cannot open: {os.strerror(errno.EMFILE)}")) == few
    assert limits.limit_of(ImportError("no module x")) is None
    loop = ValueError("x")
    loop.__context__ = raised(KeyError("y"), loop)
    assert limits.limit_of(loop) is None


def test_a_socket_that_has_nothing_to_say_is_no_limit_of_processes() -> None:
    assert limits.limit_of(BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))) is None


def test_how_a_process_ended_tells_the_limit_only_where_it_is_one() -> None:
    assert limits.limit_of_death(None, 0) is None
    assert limits.limit_of_death(0, 0) is None
    assert limits.limit_of_death(signal.SIGKILL, limits.oom_kills()) is None
    assert limits.limit_of_death(signal.SIGSYS, 0) == "the filter of system calls (seccomp)"
    assert re.match(r"the limit of CPU time \(ulimit -t", limits.limit_of_death(signal.SIGXCPU, 0) or "")


def test_what_leads_nowhere_is_empty_and_what_stands_in_for_it_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (os.devnull, "/no/such/file", __file__):
        monkeypatch.setattr(os, "devnull", name)
        descriptor = nowhere.opened()
        try:
            assert os.read(descriptor, 10) == b""
            assert not os.get_inheritable(descriptor)
        finally:
            os.close(descriptor)


# A loaded machine


def test_a_window_that_a_loaded_machine_missed_still_gives_a_measurement() -> None:
    over = Host(ends_at=time.monotonic() - 1)
    assert len(list(over.looks(0.5))) == 1
    assert len(list(counters.counters.function(over))) == 1


def test_a_window_is_looked_at_until_it_ends() -> None:
    host = Host(ends_at=time.monotonic() + 0.2)
    assert len(list(host.looks(0.05))) >= 2
    assert host.time_left_s == 0


def test_no_compiled_module_is_written_so_none_is_cut_off_by_a_full_disk(tmp_path: Path) -> None:
    for name, package in (("vdscheck", "vdscheck"), ("checks", "vdscheck_checks")):
        source = Path(limits.__file__).parents[2] / name
        shutil.copytree(source, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    variables = environment(PYTHONPATH=str(tmp_path))
    variables.pop("PYTHONDONTWRITEBYTECODE", None)
    done = subprocess.run([*PROGRAM, "list"], cwd="/", env=variables, capture_output=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, b"")
    # These two the interpreter loads before the first line of ours is run.
    assert {each.name.partition(".")[0] for each in tmp_path.rglob("*.pyc")} <= {"__init__", "__main__"}
    assert not list(tmp_path.glob("vdscheck/*/__pycache__/*.pyc"))
