# Writes what a machine is, one "name: value" a line, to ./out/facts, and more beside it.
# Run as root in a fresh server (vm.boot), in a container, or anywhere; it needs python3 alone.
mkdir -p out
modprobe cpuid 2>/dev/null
sysctl -a >out/sysctl-a 2>/dev/null
lscpu >out/lscpu 2>/dev/null
cat /proc/cpuinfo >out/cpuinfo
cat /proc/self/mountinfo >out/mountinfo
cp /proc/1/environ out/environ-1 2>/dev/null
lsmod >out/modules 2>/dev/null
ip -details link >out/links 2>/dev/null
find /etc/sysctl.conf /etc/sysctl.d /run/sysctl.d /usr/local/lib/sysctl.d /usr/lib/sysctl.d \
    -ls >out/sysctl-files 2>/dev/null
python3 - >out/facts <<'PYTHON'
import ctypes, glob, os, struct, subprocess

def text(path):
    try:
        with open(path, "rb") as file:
            return " ".join(file.read(4096).decode("utf-8", "replace").split())
    except OSError as error:
        return f"({error.strerror})"

def said(*argv):
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"({error})"
    return (done.stdout + done.stderr).strip().split("\n")[0]

def link(path):
    return os.path.basename(os.path.realpath(path)) if os.path.exists(path) else "-"

def chain(path):
    real, drivers = os.path.realpath(path), []
    while real.startswith("/sys/devices/"):
        if os.path.exists(real + "/driver"):
            drivers.append(link(real + "/driver"))
        real = os.path.dirname(real)
    return " < ".join(drivers) or "-"

def leaf(number):
    try:
        with open("/dev/cpu/0/cpuid", "rb", buffering=0) as file:
            file.seek(number)
            return struct.unpack("<4I", file.read(16))
    except OSError as error:
        return error.strerror

def name(registers, order):
    return repr(struct.pack("<3I", *(registers[index] for index in order)).decode("latin-1"))

print("kernel:", os.uname().release)
print("python:", said("python3", "-V"))
print("systemd:", said("systemctl", "--version"))
print("detect-virt:", said("systemd-detect-virt"))
print("detect-virt -v:", said("systemd-detect-virt", "--vm"))
print("detect-virt -c:", said("systemd-detect-virt", "--container"))
for field in ("sys_vendor", "product_name", "product_version", "bios_vendor", "bios_version",
              "board_vendor", "chassis_vendor", "chassis_type"):
    print(f"dmi {field}:", text(f"/sys/class/dmi/id/{field}"))
print("hypervisor folder:", text("/sys/hypervisor/type"))
for file in ("current", "available"):
    print(f"clocksource {file}:", text(f"/sys/devices/system/clocksource/clocksource0/{file}_clocksource"))
basic, features, vendor = leaf(0), leaf(1), leaf(0x40000000)
print("cpuid 0:", basic if isinstance(basic, str) else name(basic, (1, 3, 2)))
print("cpuid 1 hypervisor bit:", features if isinstance(features, str) else features[2] >> 31)
print("cpuid 40000000:", vendor if isinstance(vendor, str) else
      f"{name(vendor, (1, 2, 3))} max leaf {vendor[0]:#x}")
info = text("/proc/cpuinfo")
with open("/proc/cpuinfo") as file:
    lines = dict(line.split(":", 1) for line in file if ":" in line)
cpu = {key.strip(): value.strip() for key, value in lines.items()}
flags = set(cpu.get("flags", cpu.get("Features", "")).split())
print("cpu model:", cpu.get("model name", "-"))
print("cpu flags:", " ".join(flag for flag in ("hypervisor", "cx16", "lahf_lm", "popcnt", "sse4_1",
      "sse4_2", "ssse3", "aes", "avx", "avx2", "bmi2", "fma", "avx512f", "constant_tsc",
      "nonstop_tsc", "tsc_known_freq") if flag in flags))
for nic in sorted(glob.glob("/sys/class/net/*")):
    queues = len(glob.glob(nic + "/queues/rx-*"))
    print(f"nic {os.path.basename(nic)}: {chain(nic + '/device')} {text(nic + '/operstate')}"
          f" speed {text(nic + '/speed')} rx-queues {queues} mtu {text(nic + '/mtu')}")
for disk in sorted(glob.glob("/sys/block/*")):
    queue = disk + "/queue/"
    print(f"disk {os.path.basename(disk)}: {chain(disk + '/device')} model {text(disk + '/device/model')}"
          f" rotational {text(queue + 'rotational')} removable {text(disk + '/removable')}"
          f" scheduler {text(queue + 'scheduler')} sectors {text(disk + '/size')}")
for device in sorted(glob.glob("/sys/bus/pci/devices/*")):
    print(f"pci {os.path.basename(device)}: {text(device + '/vendor')}:{text(device + '/device')}"
          f" class {text(device + '/class')} {link(device + '/driver')}")
for device in sorted(glob.glob("/sys/bus/virtio/devices/*")):
    print(f"virtio {os.path.basename(device)}: {text(device + '/device')} {link(device + '/driver')}")
for key in """net.core.somaxconn net.ipv4.tcp_tw_reuse net.ipv4.tcp_timestamps
    net.ipv4.ip_local_port_range net.ipv4.tcp_syncookies net.ipv4.tcp_max_syn_backlog
    net.ipv4.tcp_slow_start_after_idle net.ipv4.ip_forward net.ipv4.conf.all.rp_filter
    net.ipv4.conf.default.rp_filter net.ipv4.ping_group_range fs.file-max fs.nr_open fs.file-nr
    fs.inotify.max_user_watches fs.inotify.max_user_instances vm.swappiness vm.overcommit_memory
    vm.max_map_count vm.dirty_ratio vm.dirty_bytes kernel.pid_max kernel.core_pattern
    net.netfilter.nf_conntrack_max kernel.panic fs.protected_symlinks""".split():
    print(f"sysctl {key}:", text("/proc/sys/" + key.replace(".", "/")))
print("thp:", text("/sys/kernel/mm/transparent_hugepage/enabled"))
print("psi:", text("/proc/pressure/cpu"))
print("cgroup:", "v2" if os.path.exists("/sys/fs/cgroup/cgroup.controllers") else "v1 or none",
      text("/proc/self/cgroup")[:100])
print("cmdline:", text("/proc/cmdline"))
print("/etc/sysctl.conf:", "there" if os.path.exists("/etc/sysctl.conf") else "not there",
      "99-sysctl.conf ->", os.readlink("/etc/sysctl.d/99-sysctl.conf")
      if os.path.islink("/etc/sysctl.d/99-sysctl.conf") else "-")
print("uid_map:", text("/proc/self/uid_map"))
for space in ("pid", "user", "mnt", "net", "cgroup"):
    print(f"namespace {space}:", os.readlink(f"/proc/self/ns/{space}"))
print("pid 2:", text("/proc/2/comm"))
with open("/proc/self/mountinfo") as file:
    shown = [line.split() for line in file]
print("mounts at /proc/sys and /sys:", [(m[4], m[5]) for m in shown
      if m[4] in ("/sys", "/proc/sys", "/proc")])
print("marks:", [p for p in ("/.dockerenv", "/run/.containerenv", "/run/systemd/container",
      "/run/host/container-manager", "/proc/vz", "/dev/lxd") if os.path.exists(p)])
timex = (ctypes.c_long * 32)()
state = ctypes.CDLL(None, use_errno=True).adjtimex(timex)
status = ctypes.c_int.from_address(ctypes.addressof(timex) + 5 * ctypes.sizeof(ctypes.c_long)).value
print(f"adjtimex: state {state} status {status:#x} unsync {bool(status & 0x40)}"
      f" maxerror {timex[3]} us")
print("memory:", text("/proc/meminfo")[:40])
print("swap:", text("/proc/swaps")[38:] or "-")
PYTHON
