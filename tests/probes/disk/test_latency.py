"""The disk instruments on real file systems: what they find, what they refuse, and that nothing is left behind."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.lab.processes import need
from tests.support.project import PROJECT
from vdscheck.codec import convert
from vdscheck.measurements import DiskLatency
from vdscheck.model.absence import Reason
from vdscheck.plugin import Host
from vdscheck.probes.disk import files, reads, whole_disk
from vdscheck.probes.disk.appends import APPEND_BYTES, Log
from vdscheck.probes.disk.latency import latency
from vdscheck.probes.disk.subject import DiskPath
from vdscheck.probes.disk.where_to_write import places

WORKER = (sys.executable, "-m", "tests.probes.disk.worker")
WHILE_S = 0.4
AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount")


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder on the machine's own disk: /tmp may be memory."""
    made = Path(tempfile.mkdtemp(prefix="vdscheck-test-", dir="/var/tmp"))
    yield made
    shutil.rmtree(made)


@pytest.fixture
def held(folder: Path) -> Iterator[int]:
    """The same folder as what finds a place for the files gives it on."""
    descriptor = os.open(folder, os.O_PATH | os.O_DIRECTORY)
    yield descriptor
    os.close(descriptor)


def answer(stdout: str) -> dict[str, Any]:
    return dict(json.loads(stdout.splitlines()[-1]))


def worker(path: Path | str, *more: str, before: tuple[str, ...] = (), while_s: float = WHILE_S) -> dict[str, Any]:
    command = [*before, *WORKER, str(path), str(while_s), *more]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return answer(done.stdout)


def mounted(script: str) -> dict[str, Any]:
    """Run a script in a mount namespace of its own, which takes all its mounts with it; $WORKER is the worker."""
    shell = ("unshare", "--mount", "--propagation", "private", "sh", "-euc", script)
    environment = {**os.environ, "WORKER": " ".join(WORKER), "WHILE": str(WHILE_S)}
    done = subprocess.run(shell, cwd=PROJECT, capture_output=True, text=True, timeout=90, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    return answer(done.stdout)


def measured(found: dict[str, Any]) -> DiskLatency:
    assert found["absent"] is None, found["absent"]
    value = convert(found["value"], DiskLatency)
    assert isinstance(value, DiskLatency)
    return value


def refused(found: dict[str, Any], kind: str, reason: str | None, *words: str) -> None:
    assert (found["absent"]["kind"], found["absent"]["reason"]) == (kind, reason)
    for word in words:
        assert word in found["absent"]["detail"]
    assert "\n" not in found["absent"]["detail"]


# What they find


def test_every_snapshot_holds_all_three_and_they_agree_with_each_other(folder: Path) -> None:
    host = Host(ends_at=time.monotonic() + 1.0)
    snapshots = list(latency.function(host, DiskPath(str(folder), asked_for=True)))
    assert len(snapshots) >= 3
    counts = [each.fdatasync.count for each in snapshots]
    assert counts == sorted(set(counts))
    for each in snapshots:
        assert each.read is not None
        assert each.reads_per_s is not None
        assert each.iops is not None
        assert each.iops_method == "Linux AIO"
        # one at a time, so many a second as their mean time allows, and many at once no fewer
        assert 0.3 < each.reads_per_s * each.read.mean_us / 1e6 <= 1.001
    last = snapshots[-1]
    assert 0 < last.file_bytes <= files.MOST_BYTES
    assert last.warm_up_reads > 0
    assert last.warm_up_syncs > 0
    assert (last.named, last.stands_for, last.folder) == (False, None, str(folder))
    assert last.prepared_s >= 0
    assert os.listdir(folder) == []


def test_all_files_together_keep_to_the_contract() -> None:
    gib = 1 << 30
    assert files.allowed_bytes(1 * gib) == gib // 20
    assert files.allowed_bytes(100 * gib) == 256 << 20


def test_what_is_written_cannot_be_compressed_and_no_block_is_there_twice(held: int) -> None:
    import zlib

    file = files.made(held)
    size = files.filled(file, 4 << 20, time.monotonic() + 5)
    content = os.pread(file.descriptor, size, 0)
    file.close()
    assert len(zlib.compress(content)) > 0.99 * size
    blocks = [content[start : start + 4096] for start in range(0, size, 4096)]
    assert size == 4 << 20
    assert len(set(blocks)) == len(blocks)


def test_preparation_ends_when_its_time_is_up_and_has_written_something(held: int) -> None:
    file = files.made(held)
    assert files.filled(file, 1 << 30, time.monotonic()) == 1 << 20
    file.close()


def test_a_log_that_is_full_goes_on_in_a_new_file(folder: Path, held: int) -> None:
    log = Log(held, 3 * APPEND_BYTES)
    assert len(log.append(0.2)) > 3
    log.close()
    assert os.listdir(folder) == []


@pytest.mark.parametrize("by", [reads.Qd32ByAio, reads.Qd32ByThreads])
def test_many_reads_at_once_are_more_than_one_at_a_time(held: int, by: Any) -> None:
    file = files.made(held)
    assert files.past_the_cache(file) is None
    size = files.filled(file, 32 << 20, time.monotonic() + 5)
    qd32_reader = reads.qd32_reader(file.descriptor, size, by)
    rate = qd32_reader.run(0.2)
    qd32_reader.close()
    took, _ = reads.qd1_reads(file.descriptor, size, 0.2)
    file.close()
    assert isinstance(qd32_reader, by)
    assert rate.count > len(took) > 0


@pytest.mark.parametrize("by", [reads.Qd32ByAio, reads.Qd32ByThreads])
def test_a_read_beyond_the_end_is_an_error_and_nothing_stays_under_way(held: int, by: Any) -> None:
    file = files.made(held)
    files.past_the_cache(file)
    files.filled(file, 1 << 20, time.monotonic() + 5)
    qd32_reader = reads.qd32_reader(file.descriptor, 8 << 20, by)
    with pytest.raises(OSError, match="Input/output error"):
        qd32_reader.run(0.2)
    file.close()


@AS_ROOT
@pytest.mark.parametrize("unnamed", [True, False])
def test_a_folder_that_is_exchanged_meanwhile_leads_no_file_elsewhere(
    folder: Path, monkeypatch: pytest.MonkeyPatch, *, unnamed: bool
) -> None:
    """Its owner can lead the name to a small file system, of which the free space was never looked at."""
    (folder / "big").mkdir()
    if not unnamed:
        monkeypatch.setattr(os, "O_TMPFILE", os.O_DIRECTORY | os.O_WRONLY)  # EISDIR, as where there is none
    with ExitStack() as opened:
        (place,) = places(DiskPath(str(folder / "big"), asked_for=True), opened)
        (folder / "big").rename(folder / "moved")
        (folder / "big").symlink_to("/dev/shm")
        file = files.made(place.descriptor)
        assert os.fstat(file.descriptor).st_dev == folder.stat().st_dev
        assert file.named is not unnamed
        file.close()


def test_without_aio_threads_take_its_place(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setattr(reads, "_CALLS", {})
    host = Host(ends_at=time.monotonic() + 0.3)
    *_, last = latency.function(host, DiskPath(str(folder), asked_for=True))
    assert last.iops_method == "32 threads"
    assert last.iops is not None
    assert last.iops > 0


@AS_ROOT
def test_a_whole_disk_is_found_by_its_number_and_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = folder / "image"
    with image.open("wb") as file:
        file.truncate(64 << 20)
    loop = subprocess.run(
        ["losetup", "--find", "--show", image], capture_output=True, text=True, check=True
    ).stdout.strip()
    try:
        name = loop.removeprefix("/dev/")
        assert whole_disk._node(Host(), name) == loop
        found = whole_disk.opened(Host(), name)
        assert isinstance(found, whole_disk.WholeDisk)
        assert (found.name, found.size_bytes) == (name, 64 << 20)
        took, _ = reads.qd1_reads(found.descriptor, found.size_bytes, 0.05)
        found.close()
        assert took
        monkeypatch.setattr(whole_disk, "_node", lambda *_: loop)
        monkeypatch.setattr(os, "open", denied)
        absent = whole_disk.opened(Host(), name)
        assert not isinstance(absent, whole_disk.WholeDisk)
        assert absent.reason is Reason.PERMISSION
    finally:
        subprocess.run(["losetup", "--detach", loop], check=True)


def denied(*_: object, **__: object) -> int:
    raise PermissionError(1, "Operation not permitted")


# What they refuse


def test_bad_paths_are_refused_in_one_sentence_that_says_what_to_do(folder: Path) -> None:
    file = folder / "file"
    file.touch()
    os.mkfifo(folder / "fifo")
    refused(worker(folder / "no"), "unmeasured", "unsupported", "there is no", "--disk")
    refused(worker(file / "below"), "unmeasured", "unsupported", "there is no")
    refused(worker(file), "unmeasured", "unsupported", "is a file", "name the folder")
    refused(worker(folder / "fifo"), "unmeasured", "unsupported", "is no folder")
    refused(worker("/dev/shm"), "not-applicable", None, "in memory (tmpfs)", "--disk")
    refused(worker("/proc"), "unmeasured", "unsupported", "are free")


@AS_ROOT
def test_a_small_or_a_read_only_file_system_is_left_alone(folder: Path) -> None:
    need("mke2fs", "unshare")
    small = f"cd {folder}; truncate -s 300M i; mke2fs -qt ext4 i; mkdir m; mount -o loop i m; cd {PROJECT}; "
    refused(mounted(f"{small} $WORKER {folder}/m $WHILE"), "unmeasured", "unsupported", "less than 1 GiB is free")
    read_only = f"mount --bind {folder} {folder}; mount -o remount,bind,ro {folder}; "
    refused(mounted(f"{read_only} $WORKER {folder} $WHILE"), "unmeasured", "unsupported", "is read-only")


EXT4 = "cd {0}; truncate -s 3G i; mke2fs -qt ext4 {1} i; mkdir m; mount -o loop{2} i m; cd {3}; "


@AS_ROOT
def test_without_o_direct_only_fdatasync_is_measured(folder: Path) -> None:
    need("mke2fs", "unshare")
    made = EXT4.format(folder, "", ",data=journal", PROJECT)
    found = measured(mounted(f"{made} $WORKER {folder}/m $WHILE; ls -A {folder}/m | grep -v lost+found && exit 1 || :"))
    assert found.read is None
    assert found.iops is None
    assert found.read_absent is not None
    assert "no O_DIRECT" in found.read_absent.detail
    assert found.fdatasync.count > 0
    assert found.file_bytes == 0


@AS_ROOT
def test_a_quota_that_is_used_up_is_said(folder: Path) -> None:
    need("mkfs.btrfs", "unshare")
    made = f"cd {folder}; truncate -s 3G i; mkfs.btrfs -q i 2>/dev/null; mkdir m; mount -o loop i m; cd {PROJECT}; "
    limit = f"btrfs quota enable {folder}/m; btrfs qgroup limit 20M {folder}/m; "
    found = mounted(f"{made} {limit} $WORKER {folder}/m $WHILE")
    refused(found, "unmeasured", "unsupported", "has a quota, which is used up")


MADE = {
    "xfs": "mkfs.xfs -q i; mkdir m; mount -o loop i m",
    "btrfs": "mkfs.btrfs -q i 2>/dev/null; mkdir m; mount -o loop i m",
    "fuse": "mke2fs -qt ext4 i; mkdir m; fuse2fs -o fakeroot i m 2>/dev/null",
    "overlay": "mkdir m u w l; mount -t overlay -o lowerdir=l,upperdir=u,workdir=w overlay m",
}


@AS_ROOT
@pytest.mark.parametrize("kind", MADE)
def test_other_file_systems_are_measured_and_left_as_they_were(folder: Path, kind: str) -> None:
    need("mkfs.xfs", "mkfs.btrfs", "fuse2fs", "unshare")
    prepared = f"cd {folder}; truncate -s 3G i; {MADE[kind]}; cd {PROJECT}; ls -A {folder}/m >{folder}/before; "
    after = f"ls -A {folder}/m | cmp - {folder}/before"
    found = measured(mounted(f"{prepared} $WORKER {folder}/m $WHILE >{folder}/said; {after}; cat {folder}/said"))
    assert found.fdatasync.count > 0
    assert found.read is not None or found.read_absent is not None
    assert found.named is (kind == "fuse")


# Who may not write


@AS_ROOT
def test_an_ordinary_user_measures_in_another_folder_of_the_same_disk() -> None:
    found = measured(worker("/var/lib", "--usual", "--as-user"))
    assert found.stands_for == "/var/lib"
    assert os.stat(found.folder).st_dev == os.stat("/var/lib").st_dev
    assert found.device is None
    assert found.device_absent is not None
    assert "sudo vdscheck may" in found.device_absent.detail


@AS_ROOT
def test_a_folder_that_a_user_asks_for_and_may_not_write_is_not_replaced() -> None:
    refused(worker("/var/lib", "--as-user"), "unmeasured", "permission", "may not write in /var/lib:", "sudo")


@AS_ROOT
def test_without_any_folder_on_the_device_the_usual_one_is_unknown(folder: Path) -> None:
    made = EXT4.format(folder, "", "", PROJECT) + f"chmod 755 {folder}; mount --bind {folder}/m /var/lib; "
    found = mounted(f"{made} HOME=/ $WORKER /var/lib $WHILE --usual --as-user")
    refused(found, "unmeasured", "permission", "nor in another folder on its device", "sudo")


# Errors in the middle


INJECTED = [
    ("pwritev", "EIO", 3, "error", "gave an I/O error"),
    ("pwritev", "ENOSPC", 3, "unsupported", "is full"),
    ("pwritev", "EDQUOT", 3, "unsupported", "has a quota"),
    ("preadv", "EIO", 40, "error", "gave an I/O error"),
    ("fdatasync", "EIO", 1, "error", "gave an I/O error"),
    ("fdatasync", "EIO", 12, "error", "gave an I/O error"),
    ("write", "ENOSPC", 12, "unsupported", "is full"),
    ("fallocate", "ENOSPC", 1, "unsupported", "is full"),
]


CALLS = {"pwritev": "pwritev,pwritev2", "preadv": "preadv,preadv2"}
"""The C library calls the newer one where it was built with it."""


@pytest.mark.parametrize(("call", "error", "when", "reason", "said"), INJECTED)
def test_an_error_in_the_middle_is_the_answer_and_nothing_is_left(
    folder: Path, call: str, error: str, when: int, reason: str, said: str
) -> None:
    need("strace")
    calls = CALLS.get(call, call)
    fault = f"inject={calls}:error={error}:when={when}+"
    trace = ("strace", "-qq", "-o", "/dev/null", "-e", f"trace={calls}", "-e", fault)
    # It ends with the error: a busy machine has time to come that far.
    found = worker(folder, before=trace, while_s=20)
    refused(found, "unmeasured", reason, str(folder), said)
    assert os.listdir(folder) == []


def test_where_the_file_system_cannot_set_blocks_aside_it_goes_on_without(folder: Path) -> None:
    need("strace")
    trace = ("strace", "-qq", "-o", "/dev/null", "-e", "trace=fallocate", "-e", "inject=fallocate:error=EOPNOTSUPP")
    assert measured(worker(folder, before=trace)).fdatasync.count > 0


# Interrupted and killed


def test_interrupted_the_program_reports_all_three_and_leaves_no_file(folder: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "vdscheck",
        "run",
        "--only",
        "disk.*",
        "--disk",
        str(folder),
        "--thorough",
        "--json",
    ]
    with subprocess.Popen(
        command, cwd=PROJECT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as running:
        until = time.monotonic() + 60
        while not any(_holds_files(int(name), folder) for name in os.listdir("/proc") if name.isdecimal()):
            assert time.monotonic() < until
            time.sleep(0.05)
        time.sleep(6)
        running.send_signal(signal.SIGINT)
        said, _ = running.communicate(timeout=30)
    assert running.returncode == 130
    report = json.loads(said)
    value = report["measurements"][f"disk.latency[{folder}]"]["value"]
    assert value["read"]["count"] > 0
    assert value["fdatasync"]["count"] > 0
    assert value["iops"] > 0
    assert report["run"]["complete"] is False
    verdicts = {each["id"]: each["verdict"] for each in report["findings"]}
    assert verdicts["disk.fsync-latency"] in {"pass", "fail", "unknown"}
    assert os.listdir(folder) == []


@pytest.mark.parametrize("tenth", range(7))
def test_killed_at_any_moment_it_leaves_no_file(folder: Path, tenth: int) -> None:
    command = [*WORKER, str(folder), "5"]
    with subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        if tenth >= 3:
            assert running.stdout.readline() == "ready\n"
            time.sleep((tenth - 3) * 0.07)
        else:
            while not _holds_files(running.pid, folder):
                time.sleep(0.002)
            time.sleep(tenth * 0.05)
        assert _holds_files(running.pid, folder)
        running.send_signal(signal.SIGKILL)
        running.wait(timeout=10)
    assert os.listdir(folder) == []


def _holds_files(pid: int, folder: Path) -> bool:
    found = []
    with suppress(OSError):
        for name in os.listdir(f"/proc/{pid}/fd"):
            with suppress(OSError):
                found.append(os.readlink(f"/proc/{pid}/fd/{name}"))
    return any(each.startswith(f"{folder}/") and each.endswith("(deleted)") for each in found)
