"""Fresh Debian servers in full emulation: built once, booted with any disk, network card and CPU.

No KVM is needed, and their clocks mean nothing; their states, files, drivers and reboots do. One
boot runs one job as root and brings back what it leaves in the folder `out`.
"""

import io
import re
import shutil
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from .cache import built
from .debian import Suite, bootstrap
from .processes import LabError, end_session, must, need

Disk = Literal["nvme", "virtio", "ide", "scsi", "virtio-scsi"]
Nic = Literal["virtio", "e1000", "e1000e", "rtl8139", "vmxnet3"]

BOOT_TIMEOUT_S: Final = 400.0
"""A boot takes 25-50 s on an idle machine; several at once on a busy one take much longer."""

_REVISION: Final = "2"
_BUILD_TIMEOUT_S: Final = 600.0
_POLL_S: Final = 0.1
_BEGIN_TIMEOUT_S: Final = 240.0
"""An emulated server has hung before its first program now and then: one that has not come to the job by then is
switched off and on again, once."""
_BEGUN: Final = "THE JOB BEGINS"
_ENDED: Final = "THE JOB HAS ENDED AND IS ON DISK"
_DISK_BYTES: Final = 20 << 30
"""Sparse: what it holds is about 1 GB."""
_RESULT_BYTES: Final = 256 << 20
_PACKAGES: Final = (
    *("systemd-sysv", "udev", "linux-image-amd64", "python3", "python3-venv", "git", "procps"),
    *("kmod", "iproute2", "ifupdown", "isc-dhcp-client", "systemd-timesyncd", "dbus"),
    *("dmsetup", "e2fsprogs"),
)
_PACKAGES_OF: Final[Mapping[Suite, tuple[str, ...]]] = {
    "bookworm": _PACKAGES,
    "trixie": (*_PACKAGES, "linux-sysctl-defaults"),
}
"""What each suite's own systemd recommends is there, as on an installed server."""
_CONSOLE: Final = (
    "console=ttyS0 root=LABEL=vroot rw quiet systemd.mask=serial-getty@ttyS0.service systemd.mask=getty@tty1.service"
)
_FILES: Final[Mapping[str, str]] = {
    "etc/hostname": "fresh-vds\n",
    "etc/hosts": "127.0.0.1 localhost\n127.0.1.1 fresh-vds\n",
    "etc/machine-id": "0123456789abcdef0123456789abcdef\n",
    "etc/fstab": "LABEL=vroot / ext4 defaults 0 1\n",
    "etc/network/interfaces": ("auto lo\niface lo inet loopback\nauto /e*=uplink\niface uplink inet dhcp\n"),
    "etc/systemd/system/lab-job.service": """\
[Unit]
After=multi-user.target systemd-sysctl.service network-online.target
[Service]
Type=exec
StandardOutput=tty
StandardError=tty
TTYPath=/dev/ttyS0
ExecStart=/bin/sh /etc/lab-job
ExecStopPost=/bin/systemctl poweroff --no-block
""",
    "etc/lab-job": f"""\
echo {_BEGUN}
rm -rf /job
mkdir -p /job/out
cd /job
for disk in /dev/disk/by-id/*lab-in*; do tar -xf "$disk"; break; done
sh ./job.sh
echo $? >out/.rc
for disk in /dev/disk/by-id/*lab-out*; do tar -cf "$disk" -C out .; break; done
sync
echo {_ENDED}
""",
}
_WANTED: Final = "etc/systemd/system/multi-user.target.wants/lab-job.service"

_NETS: Final[Mapping[Nic, str]] = {"virtio": "virtio-net-pci"}
_BUSES: Final[Mapping[Disk, tuple[str, ...]]] = {
    "scsi": ("-device", "lsi53c895a,id=bus0"),
    "virtio-scsi": ("-device", "virtio-scsi-pci,id=bus0"),
}
_DRIVES: Final[Mapping[Disk, str]] = {
    "nvme": "nvme",
    "virtio": "virtio-blk-pci",
    "ide": "ide-hd",
    "scsi": "scsi-hd,bus=bus0.0",
    "virtio-scsi": "scsi-hd,bus=bus0.0",
}
_IDE_PLACES: Final[Mapping[str, str]] = {
    "root": ",bus=ide.0,unit=0",
    "lab-in": ",bus=ide.0,unit=1",
    "lab-out": ",bus=ide.1,unit=1",
}


@dataclass(frozen=True, slots=True)
class Server:
    """A built server: what the emulator starts from."""

    kernel: Path
    initrd: Path
    disk: Path


@dataclass(frozen=True, slots=True)
class Machine:
    """The hardware that is emulated around it."""

    disk: Disk = "nvme"
    nic: Nic = "virtio"
    cpu: str = "max"
    """A CPU model of the emulator with its flags, as "qemu64" or "max,-hypervisor"."""
    options: tuple[str, ...] = ()
    """More arguments for the emulator, as ("-smbios", "type=1,manufacturer=Hetzner")."""


@dataclass(frozen=True, slots=True)
class Boot:
    """What one boot left behind."""

    rc: int
    """The exit code of the job."""
    out: Path
    """The folder with what the job left under ./out."""
    console: str
    """All that the server wrote to its serial console, the job's own output included."""


def server(suite: Suite) -> Server:
    """Return the fresh server of a suite, built where that was not done yet (about 100 s)."""

    def make(folder: Path) -> None:
        _build(suite, folder)

    recipe = repr((_REVISION, suite, _PACKAGES_OF[suite], sorted(_FILES.items())))
    folder = built(f"vm-{suite}", recipe, make)
    return Server(folder / "vmlinuz", folder / "initrd", folder / "disk")


def boot(  # each is a property of the boot that a test may want to vary
    suite: Suite,
    *,
    job: str,
    out: Path,
    disk: Disk = "nvme",
    nic: Nic = "virtio",
    cpu: str = "max",
    files: Mapping[str, bytes | Path] | None = None,
    state: Path | None = None,
    keep: bool = True,
    kernel_cmdline: str = "",
    options: Sequence[str] = (),
    cut_at: str | None = None,
    timeout_s: float = BOOT_TIMEOUT_S,
) -> Boot:
    """Boot a fresh server, run the job as root in /job, and power off.

    `files` lie beside the job, folders included. `state` is the disk, kept: where it does not exist
    yet it is a fresh one, and booting it again is a reboot. Without it, or where what this boot writes
    need not be kept (`keep`), the power is cut when the job has ended: an orderly shutdown would take
    8 s more and nobody would see it. With `cut_at` the power is cut as soon as the console shows that
    text. Raises LabError where the job never ended, with the console's last lines; the emulator is
    gone in any case.
    """
    machine = Machine(disk, nic, cpu, tuple(options))
    built_server = server(suite)
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="vdscheck-vm-") as name:
        folder = Path(name)
        _pack(folder / "in", job, files or {})
        with (folder / "out").open("wb") as result:
            result.truncate(_RESULT_BYTES)
        kept = state is not None and keep
        drive = f"file={_state(built_server, state)},snapshot={'off' if kept else 'on'}"
        argv = _emulator(built_server, machine, drive, folder, kernel_cmdline)
        power_cut = cut_at or (None if kept else _ENDED)
        try:
            ended = _powered(argv, folder / "console", power_cut, min(timeout_s, _BEGIN_TIMEOUT_S), timeout_s)
            if ended is None:
                ended = _powered(argv, folder / "console", power_cut, timeout_s, timeout_s)
        except BaseException as error:
            error.add_note(f"the console's last lines:\n{_console(folder)[-2000:]}")
            raise
        console = _console(folder)
        rc = _unpack(folder / "out", out)
    if rc is None and cut_at is None:
        how = "the server went down" if ended else f"{timeout_s:g} s went by"
        message = f"{how} before the job had ended; the console's last lines:\n{console[-2000:]}"
        raise LabError(message)
    return Boot(-9 if rc is None else rc, out, console)


def _build(suite: Suite, folder: Path) -> None:
    """Make the disk image, the kernel and the initrd in `folder`."""
    need("mke2fs")
    root = folder / "root"
    bootstrap(suite, _PACKAGES_OF[suite], root)
    for name, text in _FILES.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    wanted = root / _WANTED
    wanted.parent.mkdir(parents=True, exist_ok=True)
    wanted.symlink_to("../lab-job.service")
    shutil.copy(next(root.glob("boot/vmlinuz-*")), folder / "vmlinuz")
    shutil.copy(next(root.glob("boot/initrd.img-*")), folder / "initrd")
    disk = folder / "disk"
    with disk.open("wb") as image:
        image.truncate(_DISK_BYTES)
    now = "lazy_itable_init=0,lazy_journal_init=0"
    make = ["mke2fs", "-q", "-t", "ext4", "-E", now, "-L", "vroot", "-d", str(root), str(disk)]
    must(make, timeout_s=_BUILD_TIMEOUT_S)
    shutil.rmtree(root)


def _state(fresh: Server, state: Path | None) -> Path:
    """Return the disk to boot from; a kept one that does not exist yet is copied from the fresh."""
    if state is None:
        return fresh.disk
    if not state.exists():
        copy = ["cp", "--sparse=always", str(fresh.disk), str(state)]
        must(copy, timeout_s=_BUILD_TIMEOUT_S)
    return state


def _pack(target: Path, job: str, files: Mapping[str, bytes | Path]) -> None:
    """Write the job and its files into the archive that the server reads as a disk."""
    with tarfile.open(target, "w", format=tarfile.GNU_FORMAT) as archive:
        for name, content in {"job.sh": job.encode(), **files}.items():
            if isinstance(content, Path):
                archive.add(content, name)
                continue
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            entry.mode = 0o755
            archive.addfile(entry, io.BytesIO(content))


def _unpack(result: Path, out: Path) -> int | None:
    """Take the job's results, and return its exit code where it came that far."""
    with result.open("rb") as disk:
        if not disk.read(512).strip(b"\0"):
            return None
    must(["tar", "--no-same-owner", "-C", str(out), "-xf", str(result)], timeout_s=_BUILD_TIMEOUT_S)
    code = out / ".rc"
    text = code.read_text(encoding="ascii") if code.exists() else ""
    code.unlink(missing_ok=True)
    return int(text) if text else None


def _console(folder: Path) -> str:
    """Return what the console and the emulator said."""
    parts = [folder / "console", folder / "emulator"]
    texts = [part.read_bytes().decode("utf-8", "replace") for part in parts if part.exists()]
    return re.sub(r"\r+\n", "\n", "".join(texts))


def _emulator(fresh: Server, machine: Machine, drive: str, folder: Path, kernel_cmdline: str) -> list[str]:
    """Return the emulator's command line; it dies with the program that has started it."""
    card = _NETS.get(machine.nic, machine.nic)
    return [
        *("setpriv", "--pdeathsig", "KILL", "qemu-system-x86_64"),
        *("-accel", "tcg,thread=multi", "-smp", "2", "-m", "2048", "-cpu", machine.cpu),
        *("-display", "none", "-monitor", "none", "-no-reboot"),
        *("-serial", f"file:{folder / 'console'}"),
        *("-kernel", str(fresh.kernel), "-initrd", str(fresh.initrd)),
        *("-append", f"{_CONSOLE} {kernel_cmdline}".strip()),
        *_BUSES.get(machine.disk, ()),
        *_attached(machine.disk, "root", f"{drive},cache=unsafe"),
        *_attached(machine.disk, "lab-in", f"file={folder / 'in'},snapshot=on"),
        *_attached(machine.disk, "lab-out", f"file={folder / 'out'}"),
        *("-device", "ide-cd,bus=ide.1,unit=0"),
        *("-netdev", "user,id=net0,restrict=on"),
        *("-device", f"{card},netdev=net0,romfile="),
        *machine.options,
    ]


def _attached(disk: Disk, serial: str, drive: str) -> list[str]:
    """Return the arguments for one disk; all of a server's disks are of one kind, as on a VPS."""
    backend = f"{drive},format=raw,if=none,id={serial}"
    place = _IDE_PLACES[serial] if disk == "ide" else ""
    device = f"{_DRIVES[disk]}{place},drive={serial},serial={serial}"
    return ["-drive", backend, "-device", device]


def _powered(
    argv: Sequence[str], console: Path, cut_at: str | None, begin_timeout_s: float, timeout_s: float
) -> bool | None:
    """Run the emulator until it ends, is cut off, or the time is up; whether it ended by itself.

    None where the server was switched off because its job had not begun in time.
    """
    need("qemu-system-x86_64")
    started = time.monotonic()
    console.unlink(missing_ok=True)
    with (
        console.with_name("emulator").open("wb") as said,
        subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=said, stderr=said, start_new_session=True) as process,
    ):
        try:
            while process.poll() is None and time.monotonic() - started < timeout_s:
                shown = console.read_bytes() if console.exists() else b""
                if cut_at and cut_at.encode() in shown:
                    return False
                if time.monotonic() - started > begin_timeout_s and _BEGUN.encode() not in shown:
                    return None
                time.sleep(_POLL_S)
            return process.poll() is not None
        finally:
            end_session(process.pid)
