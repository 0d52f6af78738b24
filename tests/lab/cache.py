"""What is expensive to build, built once: under a lock, and put in place in one step."""

import fcntl
import hashlib
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from .processes import LabError

LOCK_TIMEOUT_S: Final = 1800.0
"""How long to wait for another process that builds the same thing."""


def cache() -> Path:
    """The folder of the lab's own cache (VDSCHECK_LAB_CACHE moves it)."""
    moved = os.environ.get("VDSCHECK_LAB_CACHE")
    base = Path(moved) if moved else Path.home() / ".cache" / "vdscheck-lab"
    base.mkdir(parents=True, exist_ok=True)
    return base


def digest(*parts: str) -> str:
    """A short name for a recipe: another recipe has another one."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def built(name: str, recipe: str, make: Callable[[Path], None]) -> Path:
    """The folder `name`, filled by `make` unless a folder of the same recipe is there already.

    Safe under concurrent callers; a build that dies leaves nothing that counts as built.
    """
    place = cache() / f"{name}-{digest(recipe)}"
    if place.is_dir():
        return place
    with _locked(cache() / f"{name}.lock"):
        if place.is_dir():
            return place
        unfinished = cache() / f"{name}.unfinished"
        _discard(unfinished)
        unfinished.mkdir()
        make(unfinished)
        unfinished.rename(place)
    return place


def _discard(folder: Path) -> None:
    """Remove the rest of a build that did not end; never through something mounted in it."""
    if not folder.exists():
        return
    mounted = Path("/proc/self/mounts").read_text(encoding="utf-8", errors="replace")
    if f" {folder}/" in mounted:
        message = f"{folder} still has something mounted in it: umount it first"
        raise LabError(message)
    shutil.rmtree(folder)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the lock of that file, waiting no longer than LOCK_TIMEOUT_S for it."""
    deadline = time.monotonic() + LOCK_TIMEOUT_S
    with path.open("w", encoding="utf-8") as lock:
        while not _taken(lock.fileno()):
            if time.monotonic() > deadline:
                message = f"{path}: another process has held it for {LOCK_TIMEOUT_S:g} s"
                raise LabError(message)
            time.sleep(0.2)
        yield


def _taken(lock: int) -> bool:
    """Whether the lock could be taken at once."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
