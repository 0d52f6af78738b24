"""The lab itself: what it promises, tried cheaply; whatever boots a server is marked slow."""

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from .cache import built
from .container import run_in_container
from .debian import SUITES, Suite, rootfs, sources
from .facts import JOB, Kind, facts, kinds, table
from .oracle import Question, ask_many, ask_procps, ask_systemd_sysctl
from .processes import LabError, missing, must, run
from .product import PYTHONS, dependencies, python
from .vm import Disk, Nic, boot

KEYS = {
    "kernel/pid_max": "before",
    "net/core/somaxconn": "before",
    "net/ipv4/conf/all/rp_filter": "before",
    "net/ipv4/conf/eth0.100/rp_filter": "before",
    "vm/swappiness": "before",
}
DRIVERS: Mapping[Nic | Disk, str] = {
    "virtio": "virtio",
    "e1000": "e1000",
    "nvme": "nvme",
    "ide": "ata_piix",
}
CLOCKS: Mapping[Suite, tuple[str, ...]] = {"bookworm": ("hpet",), "trixie": ("tsc", "hpet")}
"""Linux 6.1 finds the emulated time stamp counters out of step; 6.12 takes them."""


def tree(folder: Path, files: Mapping[str, str]) -> Path:
    """Write a machine's files into a folder."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return folder


def processes(word: str) -> list[int]:
    """Return the processes that have an argument which ends in this word."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            arguments = path.read_bytes().decode("utf-8", "replace").split("\0")
            if any(argument.split()[-1:] == [word] for argument in arguments):
                found.append(int(path.parent.name))
    return found


def wait_until(true: Callable[[], bool], timeout_s: float = 20.0) -> None:
    """Wait for what is about to happen."""
    deadline = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


# --- processes and the cache


def test_a_program_is_ended_at_its_deadline_with_all_that_it_started() -> None:
    """The program and its children are gone, and its caller is told."""
    script = "sleep 321.25 & trap '' TERM; sleep 321.25"
    started = time.monotonic()
    with pytest.raises(LabError, match=r"sh had not ended after 0\.5 s"):
        run(["sh", "-c", script], timeout_s=0.5)
    assert time.monotonic() - started < 5
    wait_until(lambda: not processes("321.25"))


def test_a_program_that_must_succeed_says_why_it_did_not() -> None:
    """The end of its complaint is in the message."""
    with pytest.raises(LabError, match="sh ended with 3: no luck"):
        must(["sh", "-c", "echo no luck >&2; exit 3"], timeout_s=10)


def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A program that is not here is named by the package that brings it."""
    monkeypatch.setattr("shutil.which", lambda name, path: None if name == "runc" else path)
    assert missing("runc", "unshare") == ["runc"]
    assert tmp_path.is_dir()


def test_the_same_recipe_is_built_once_whoever_asks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Several callers at once get one folder; another recipe gets another."""
    monkeypatch.setenv("VDSCHECK_LAB_CACHE", str(tmp_path))
    builds: list[int] = []
    started = threading.Barrier(4)

    def make(folder: Path) -> None:
        builds.append(threading.get_ident())
        time.sleep(0.3)
        (folder / "done").touch()

    def ask(_: int) -> Path:
        started.wait()
        return built("thing", "a recipe", make)

    with ThreadPoolExecutor(4) as pool:
        places = set(pool.map(ask, range(4)))
    assert len(builds) == len(places) == 1
    assert (places.pop() / "done").exists()
    assert built("thing", "another recipe", make) != built("thing", "a recipe", make)


def test_a_build_that_fails_leaves_nothing_that_counts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The next caller builds afresh, without the rest of the last try."""
    monkeypatch.setenv("VDSCHECK_LAB_CACHE", str(tmp_path))

    def fail(folder: Path) -> None:
        (folder / "half").touch()
        message = "no space left"
        raise LabError(message)

    with pytest.raises(LabError, match="no space left"):
        built("thing", "recipe", fail)
    place = built("thing", "recipe", lambda folder: (folder / "whole").touch())
    assert [entry.name for entry in place.iterdir()] == ["whole"]


def test_sources_are_of_the_suite_that_was_asked_for() -> None:
    """They are this machine's own, with the other name in them."""
    assert all(suite in sources(suite) for suite in SUITES)


# --- the oracle


@pytest.mark.parametrize("suite", SUITES)
def test_the_judge_of_boot_truth_is_the_real_one(suite: Suite, tmp_path: Path) -> None:
    """Precedence, masking, globs, and dots in names, as that suite's systemd-sysctl does them."""
    files = {
        "usr/lib/sysctl.d/50-a.conf": "net.core.somaxconn = 5\nvm.swappiness = 50\n",
        "etc/sysctl.d/50-a.conf": "net.core.somaxconn = 6\n",
        "run/sysctl.d/60-b.conf": "kernel.pid_max = 7\n",
        "etc/sysctl.d/70-c.conf": "net.ipv4.conf.*.rp_filter = 1\n",
        "etc/sysctl.d/80-d.conf": "net/ipv4/conf/eth0.100/rp_filter = 2\n",
    }
    (tree(tmp_path, files) / "etc/sysctl.d/60-b.conf").symlink_to("/dev/null")
    assert ask_systemd_sysctl(tmp_path, KEYS, chroot=rootfs(suite)) == {
        "kernel/pid_max": "before",
        "net/core/somaxconn": "6",
        "net/ipv4/conf/all/rp_filter": "1",
        "net/ipv4/conf/eth0.100/rp_filter": "2",
        "vm/swappiness": "before",
    }


@pytest.mark.parametrize(("suite", "value"), [("bookworm", "9"), ("trixie", "before")])
def test_the_two_systems_differ_where_lib_is_a_folder_of_its_own(suite: Suite, value: str, tmp_path: Path) -> None:
    """Debian 12's systemd reads /lib/sysctl.d beside /usr/lib/sysctl.d; Debian 13's does not."""
    tree(tmp_path, {"lib/sysctl.d/50-a.conf": "vm.swappiness = 9\n"})
    assert ask_systemd_sysctl(tmp_path, KEYS, chroot=rootfs(suite))["vm/swappiness"] == value


@pytest.mark.parametrize("suite", SUITES)
def test_procps_reads_one_file_more(suite: Suite, tmp_path: Path) -> None:
    """`sysctl --system` ends with /etc/sysctl.conf, which systemd-sysctl leaves alone."""
    files = {
        "etc/sysctl.conf": "vm.swappiness = 1\n",
        "etc/sysctl.d/99-z.conf": "vm.swappiness = 2\n",
    }
    tree(tmp_path, files)
    root = rootfs(suite)
    assert ask_procps(tmp_path, KEYS, chroot=root)["vm/swappiness"] == "1"
    assert ask_systemd_sysctl(tmp_path, KEYS, chroot=root)["vm/swappiness"] == "2"


@pytest.mark.parametrize("suite", SUITES)
def test_the_kernel_command_line_is_no_affair_of_systemd_sysctl(suite: Suite, tmp_path: Path) -> None:
    """`sysctl.*` there is the kernel's own to apply, before init: the program does not read it."""
    line = "quiet sysctl.vm.swappiness=3"
    root = rootfs(suite)
    assert ask_systemd_sysctl(tmp_path, KEYS, chroot=root, cmdline=line) == KEYS


def test_many_trees_are_answered_in_order(tmp_path: Path) -> None:
    """Each answer belongs to its question, whichever process gave it."""
    trees = [
        tree(tmp_path / str(number), {"etc/sysctl.d/a.conf": f"vm.swappiness = {number}\n"}) for number in range(41)
    ]
    answers = ask_many(Question(folder, KEYS) for folder in trees)
    assert [answer.values["vm/swappiness"] for answer in answers] == [str(n) for n in range(41)]
    assert ask_many([]) == []


def test_what_the_program_says_and_returns_is_kept(tmp_path: Path) -> None:
    """A line without "=" is an error of the program, a key that does not exist is not."""
    tree(tmp_path, {"etc/sysctl.d/a.conf": "no.such = 1\nnonsense\nvm.swappiness = 4\n"})
    (answer,) = ask_many([Question(tmp_path, KEYS)])
    assert answer.code == 1
    assert "no/such" in answer.said
    assert "a.conf:2" in answer.said
    assert answer.values["vm/swappiness"] == "4"


def test_values_that_are_not_text_come_back_as_they_are(tmp_path: Path) -> None:
    """Bytes that are no UTF-8 survive, as surrogates."""
    path = tree(tmp_path, {"etc/sysctl.d/a.conf": ""}) / "etc/sysctl.d/a.conf"
    path.write_bytes(b"vm.swappiness = \xff\xfe\n")
    assert ask_systemd_sysctl(tmp_path, KEYS)["vm/swappiness"] == "\udcff\udcfe"


def test_a_program_that_blocks_is_killed_and_the_next_tree_is_asked(tmp_path: Path) -> None:
    """A FIFO where a file should be stops systemd-sysctl for ever."""
    stuck = tree(tmp_path / "stuck", {"etc/sysctl.d/a.conf": "vm.swappiness = 1\n"})
    os.mkfifo(stuck / "etc/sysctl.d/b.conf")
    fine = tree(tmp_path / "fine", {"etc/sysctl.d/a.conf": "vm.swappiness = 1\n"})
    first, second = ask_many([Question(stuck, KEYS, timeout_s=0.5), Question(fine, KEYS)], workers=1)
    assert first.code == -signal.SIGKILL
    assert first.values == KEYS
    assert second.values["vm/swappiness"] == "1"


def test_this_machine_is_not_touched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A real key keeps its value, and no mount is left."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    key = Path("/proc/sys/vm/swappiness")
    before = key.read_text()
    asked = tree(tmp_path / "tree", {"etc/sysctl.d/a.conf": "vm.swappiness = 1\n"})
    assert ask_systemd_sysctl(asked, {"vm/swappiness": "x"}) == {"vm/swappiness": "1"}
    assert key.read_text() == before
    assert str(tmp_path) not in Path("/proc/self/mounts").read_text()
    assert [path.name for path in tmp_path.iterdir()] == ["tree"]


def test_a_tree_that_is_not_there_is_said(tmp_path: Path) -> None:
    """The path is in the message."""
    with pytest.raises(LabError, match="nowhere is no folder"):
        ask_systemd_sysctl(tmp_path / "nowhere", KEYS)


# --- the product in another Python


@pytest.mark.parametrize(("suite", "version"), PYTHONS.items())
def test_what_the_product_needs_loads_in_both_pythons(suite: Suite, version: str) -> None:
    """The wheels for that Python import in that Python, compiled modules included."""
    site = dependencies(suite)
    code = (
        f"import sys; sys.path.insert(0, {str(site)!r})\n"
        "import msgspec._core, psutil, rich.console, typer\n"
        "print('.'.join(map(str, sys.version_info[:2])), psutil.cpu_count() > 0)"
    )
    assert must([*python(suite), "-c", code], timeout_s=60).split() == [version, "True"]
    assert next(site.glob("typer/__pycache__/*.pyc"), None)


# --- the container


def test_a_container_has_everything_of_its_own() -> None:
    """Users, processes, network and mounts; the host's kernel read-only."""
    script = (
        "cat /proc/self/uid_map; ls /sys/class/net; readlink /proc/self/ns/user; cat /proc/1/comm;"
        "echo 1 >/proc/sys/net/core/somaxconn; echo $?; grep -c '^[^ ]* /proc/sys .*ro,'"
        " /proc/mounts; touch /made && ls /made"
    )
    done = run_in_container(["sh", "-c", script])
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["0", "100000", "65536"]
    assert lines[1] == "lo"
    assert lines[2] != "user:[4026531837]"
    assert lines[3:] == ["sh", "2", "1", "/made"]
    assert "Read-only file system" in done.stderr


@pytest.mark.parametrize(("suite", "version"), PYTHONS.items())
def test_a_container_can_run_the_product(suite: Suite, version: str) -> None:
    """Its own Python finds what the product needs where it is bound."""
    code = "import sys, typer, msgspec; print(*sys.version_info[:2], sep='.')"
    env = {"PYTHONPATH": "/site"}
    done = run_in_container(["python3", "-c", code], suite=suite, binds={"/site": dependencies(suite)}, env=env)
    assert (done.stdout.strip(), done.stderr, done.returncode) == (version, "", 0)


def test_a_privileged_container_may_write_what_is_its_own() -> None:
    """With users of its own that is its own network's keys, and none of the host's."""
    before = Path("/proc/sys/vm/swappiness").read_text()
    script = (
        "echo 1 >/proc/sys/net/ipv4/tcp_tw_reuse; cat /proc/sys/net/ipv4/tcp_tw_reuse;"
        "echo 1 >/proc/sys/vm/swappiness; echo $?"
    )
    done = run_in_container(["sh", "-c", script], privileged_sys=True)
    assert done.stdout.split() == ["1", "2"]
    assert Path("/proc/sys/vm/swappiness").read_text() == before


def test_a_container_may_share_the_hosts_users() -> None:
    """As Docker's do unless told otherwise: the namespace is the first one."""
    done = run_in_container(["readlink", "/proc/self/ns/user"], userns=False)
    assert done.stdout.strip() == str(Path("/proc/self/ns/user").readlink())


def test_a_container_is_ended_at_its_deadline_and_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its processes, cgroups, mounts and folder are gone; those of other containers are nobody's business here."""
    mine = uuid.uuid4()
    monkeypatch.setattr(uuid, "uuid4", lambda: mine)
    name = f"vdscheck-lab-{mine.hex[:12]}"
    script = "setsid sleep 432.125 & trap '' TERM INT; sleep 432.125"
    with pytest.raises(LabError, match="had not ended after"):
        run_in_container(["sh", "-c", script], timeout_s=2)
    wait_until(lambda: not processes("432.125"))
    cgroups = {Path(folder).name for folder, _, _ in os.walk("/sys/fs/cgroup")}
    assert name not in cgroups
    assert not list(Path(tempfile.gettempdir()).glob(f"{name}*"))
    assert name not in Path("/proc/self/mounts").read_text()


def test_a_container_whose_program_is_not_there_is_said() -> None:
    """It is the runtime's error, not the program's."""
    with pytest.raises(LabError, match="no such file or directory"):
        run_in_container(["/no/such/program"])


def test_the_facts_can_be_taken_in_a_container() -> None:
    """It says what a container should say."""
    script = "cd /tmp && sh /facts.sh && cat out/facts"
    done = run_in_container(["sh", "-c", script], binds={"/facts.sh": JOB}, timeout_s=120)
    found = dict(line.split(": ", 1) for line in done.stdout.splitlines() if ": " in line)
    assert found["detect-virt -c"] not in ("none", "")
    assert found["uid_map"] == "0 100000 65536"
    assert "'/proc/sys', 'ro" in found["mounts at /proc/sys and /sys"]


def test_the_table_of_facts_has_a_column_for_each_machine() -> None:
    """A fact that only one of them has leaves the other's cell empty."""
    lines = list(table({"a": {"x": "1", "y": "p|q"}, "b": {"x": "2"}}))
    assert lines == ["| fact | a | b |", "|---|---|---|", "| x | 1 | 2 |", "| y | p\\|q |  |"]


# --- the servers


@pytest.mark.xdist_group("server")
@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("kind", kinds()[::5], ids=lambda kind: kind.name)
def test_a_fresh_server_has_the_hardware_that_was_asked_for(kind: Kind, tmp_path: Path) -> None:
    """Three of them have each suite, disk, network card and CPU: drivers, and the emulator's marks."""
    found = facts(kind, tmp_path)
    assert found["detect-virt"] == "qemu"
    assert found["clocksource current"] in CLOCKS[kind.suite]
    assert "TCGTCGTCGTCG" in found["cpuid 40000000"]
    assert found["dmi sys_vendor"] == "QEMU"
    assert ("avx2" in found["cpu flags"]) == (kind.cpu == "max")
    cards = [value for name, value in found.items() if name.startswith("nic e")]
    assert len(cards) == 1
    assert cards[0].startswith(DRIVERS[kind.nic])
    assert " up " in cards[0]
    assert any(name.startswith("disk sr") for name in found)
    drivers = " ".join(value for name, value in found.items() if name.startswith("disk "))
    assert DRIVERS[kind.disk] in drivers
    assert (found["/etc/sysctl.conf"].startswith("there")) == (kind.suite == "bookworm")


@pytest.mark.xdist_group("server")
@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("suite", SUITES)
def test_a_kept_disk_makes_the_next_boot_a_reboot(suite: Suite, tmp_path: Path) -> None:
    """What the first boot wrote rules the second, as the oracle foretells."""
    state, out = tmp_path / "disk", tmp_path / "out"
    conf = "vm.swappiness = 41\nnet.core.somaxconn = 1234\n"
    first = "mkdir -p out; cp a.conf /etc/sysctl.d/a.conf; cat /proc/sys/vm/swappiness; exit 5"
    show = "cd /proc/sys; cat vm/swappiness net/core/somaxconn kernel/panic >/job/out/now"
    files = {"a.conf": conf.encode()}
    line = "sysctl.kernel.panic=17 sysctl.vm.swappiness=3"
    assert boot(suite, job=first, out=out, files=files, state=state).rc == 5
    again = boot(suite, job=show, out=out, state=state, keep=False, kernel_cmdline=line)
    assert again.rc == 0
    tree(tmp_path / "tree", {"etc/sysctl.d/a.conf": conf})
    keys = {"vm/swappiness": "3", "net/core/somaxconn": "4096", "kernel/panic": "17"}
    told = ask_systemd_sysctl(tmp_path / "tree", keys, chroot=rootfs(suite))
    assert (out / "now").read_text().split() == [told[key] for key in keys]
    assert told == {"vm/swappiness": "41", "net/core/somaxconn": "1234", "kernel/panic": "17"}


@pytest.mark.xdist_group("server")
@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_power_can_be_cut(tmp_path: Path) -> None:
    """What was synchronised before is there afterwards, and the job never ended."""
    state = tmp_path / "disk"
    job = "echo kept >/kept; sync; echo NOW CUT; sleep 600"
    cut = boot("bookworm", job=job, out=tmp_path / "1", state=state, cut_at="NOW CUT")
    assert cut.rc == -9
    assert "NOW CUT" in cut.console
    job = "cp /kept out/"
    assert boot("bookworm", job=job, out=tmp_path / "2", state=state, keep=False).rc == 0
    assert (tmp_path / "2/kept").read_text() == "kept\n"


@pytest.mark.xdist_group("server")
@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_time_is_kept_and_no_emulator_is_left(tmp_path: Path) -> None:
    """A boot that does not come to its end is an error that shows the console."""
    marker = "vdscheck_marker_timeout"
    with pytest.raises(LabError, match="3 s went by before the job had ended"):
        boot("bookworm", job="true", out=tmp_path, kernel_cmdline=marker, timeout_s=3)
    wait_until(lambda: not processes(marker))


@pytest.mark.xdist_group("server")
@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_test_leaves_no_emulator(end: signal.Signals, tmp_path: Path) -> None:
    """Neither Ctrl-C nor the death of the program that started it."""
    marker = f"vdscheck_marker_{end.name}"
    package = __name__.rpartition(".")[0]
    code = (
        f"from pathlib import Path; from {package}.vm import boot\n"
        f"boot('bookworm', job='true', out=Path({str(tmp_path)!r}), kernel_cmdline={marker!r})"
    )
    root = Path(__file__).parents[package.count(".") + 1]
    env = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen([sys.executable, "-c", code], cwd=root, env=env, stderr=subprocess.DEVNULL) as program:
        wait_until(lambda: len(processes(marker)) == 1)
        program.send_signal(end)
        assert program.wait(20) != 0
    wait_until(lambda: not processes(marker))
