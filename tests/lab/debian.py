"""Fresh Debian systems as folders, made from the package sources that this machine has itself."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal

from .cache import built
from .processes import LabError, must, need, need_root

Suite = Literal["bookworm", "trixie"]
SUITES: Final[tuple[Suite, ...]] = ("bookworm", "trixie")
"""Debian 12 (systemd 252, Python 3.11) and Debian 13 (systemd 257, Python 3.13)."""

BOOTSTRAP_TIMEOUT_S: Final = 1200.0

_ROOTFS_PACKAGES: Final = ("systemd", "procps", "python3", "iproute2", "kmod")
_ROOTFS_REVISION: Final = "1"


def rootfs(suite: Suite) -> Path:
    """A Debian userland with systemd, procps and Python, for a container or a chroot.

    It is shared and cached: nobody may write into it.
    """

    def make(folder: Path) -> None:
        bootstrap(suite, _ROOTFS_PACKAGES, folder / "root", slim=True)

    recipe = f"{_ROOTFS_REVISION} {suite} {_ROOTFS_PACKAGES}"
    return built(f"rootfs-{suite}", recipe, make) / "root"


def bootstrap(suite: Suite, packages: Sequence[str], root: Path, *, slim: bool = False) -> None:
    """Fill a folder with a minimal Debian and these packages; `slim`: less to read."""
    need_root()
    need("mmdebstrap")
    listed = root.parent / "sources"
    listed.write_text(sources(suite), encoding="utf-8")
    less = ("man", "doc", "locale", "info") if slim else ()
    must(
        [
            *("mmdebstrap", "--quiet", "--mode=root", "--variant=minbase"),
            *(f"--dpkgopt=path-exclude=/usr/share/{kind}/*" for kind in less),
            f"--include={','.join(packages)}",
            *(suite, str(root), str(listed)),
        ],
        timeout_s=BOOTSTRAP_TIMEOUT_S,
    )
    listed.unlink()


def sources(suite: Suite) -> str:
    """This machine's own package sources, for another suite.

    Raises LabError where this machine is no Debian, or has no sources.
    """
    release = Path("/etc/os-release").read_text(encoding="utf-8")
    ours = re.search(r'^VERSION_CODENAME="?([a-z]+)', release, re.MULTILINE)
    for name in ("/etc/apt/sources.list.d/debian.sources", "/etc/apt/sources.list"):
        path = Path(name)
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        if ours and ours[1] in text:
            return text.replace(ours[1], suite)
    message = "no Debian package sources here: the lab needs a Debian machine"
    raise LabError(message)
