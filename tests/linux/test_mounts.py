"""The mount table, whatever the names of mounts hold."""

import re
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from vdscheck import testing
from vdscheck.linux import mounts

ESCAPED = " \t\n#,=\\"


@given(st.text(alphabet=f"{ESCAPED}ab0134", max_size=20))
@example("\\040")
@example("\\\\134040")
def test_a_name_comes_back_as_the_kernel_was_given_it(name: str) -> None:
    written = "".join(f"\\{ord(each):03o}" if each in ESCAPED else each for each in name)
    assert mounts._plain(written) == name


@given(st.text(alphabet="\\01234567 ab", max_size=24))
def test_what_no_kernel_writes_is_read_as_octal_or_left(text: str) -> None:
    codes = "|".join(f"{ord(each):03o}" for each in ESCAPED)
    plain = re.sub(rf"\\({codes})", lambda found: chr(int(found[1], 8)), text)
    assert mounts._plain(text) == plain


def test_a_comma_in_an_option_is_part_of_it() -> None:
    line = r"1 2 0:30 / / rw - overlay overlay rw,lowerdir=/a\054b\075c,upperdir=/u"
    assert mounts.parsed(line)[0].details == ("rw", "lowerdir=/a,b=c", "upperdir=/u")


TABLE = """22 1 254:0 / / rw - ext4 /dev/vda1 rw
23 22 0:5 / /dev rw - devtmpfs udev rw
24 22 0:22 / /proc rw - proc proc rw
25 22 0:23 / /sys rw - sysfs sysfs rw
26 22 0:24 / /run rw - tmpfs tmpfs rw
27 22 254:16 / /data rw - ext4 /dev/vdb rw
28 22 254:32 / /usr rw - ext4 /dev/vdc rw
"""


@pytest.mark.parametrize(
    ("real", "late"),
    [
        ("/dev/null", None),
        ("/proc/sys/kernel/x", None),
        ("/usr/share/x.conf", None),
        ("/etc/x.conf", None),
        ("/data/x.conf", "/data"),
        ("/srv/x.conf", "/srv"),
    ],
)
@pytest.mark.parametrize("fstab", ["L=r / ext4\n/d /srv ext4\n", "udev /dev devtmpfs\nproc /proc proc\n/s /srv x\n"])
def test_what_the_init_mounts_before_all_else_is_there_when_settings_are_read(
    tmp_path: Path, real: str, late: str | None, fstab: str
) -> None:
    """A link to /dev/null is how a file of settings is masked (sysctl.d(5))."""
    machine = testing.host(tmp_path, {"/proc/self/mountinfo": TABLE, "/etc/fstab": fstab})
    assert mounts.Emptied.before_mounts(machine).late(real, "/etc/sysctl.d/50-default.conf") == late
