"""Runs vdscheck on an image whose name leads to the running system every other moment.

`python root_race.py DIR COUNT` works in a private mount namespace: DIR/image is exchanged with DIR/link, a link to /,
as fast as it goes, while `--fix --yes --root DIR/image` and `undo --root DIR/image` run COUNT times each. One JSON line
a run says how it ended, what the running system holds, and what the image does.
"""

import ctypes
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

RENAME_EXCHANGE = 2
"""renameat2(2)."""
AT_FDCWD = -100
FIX = ("--fix", "--yes", "--passive", "--only", "sysctl.*", "-q")


@contextmanager
def exchanged(first: Path, second: Path) -> Iterator[None]:
    """Two names change places again and again; what was the first is there again at the end."""
    libc = ctypes.CDLL(None, use_errno=True)
    names = os.fsencode(first), os.fsencode(second)
    ended = threading.Event()

    def exchange() -> None:
        while not ended.is_set():
            for _ in range(2):
                assert libc.renameat2(AT_FDCWD, names[0], AT_FDCWD, names[1], RENAME_EXCHANGE) == 0

    thread = threading.Thread(target=exchange)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def run(*words: str) -> tuple[int, str]:
    done = subprocess.run([sys.executable, "-m", "vdscheck", *words], capture_output=True, text=True, check=False)
    return done.returncode, done.stderr.strip()


def held(root: Path) -> dict[str, list[str]]:
    """What a fix would have left below a root."""
    folders = ("etc/sysctl.d", "var/lib/vdscheck/journal")
    names = {folder: sorted(os.listdir(root / folder)) for folder in folders if (root / folder).is_dir()}
    return {folder: [name for name in found if name != "99-sysctl.conf"] for folder, found in names.items()}


def main(folder: Path, count: int) -> None:
    image, link = folder / "image", folder / "link"
    link.symlink_to("/")
    for words in [(*FIX, "--root", str(image)), ("undo", "--root", str(image))] * count:
        with exchanged(image, link):
            code, said = run(*words)
        print(json.dumps([words[0], code, said, held(Path("/")), held(image)]), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
