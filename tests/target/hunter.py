"""Runs the program many times in one process that has imported it: each run is a fork, so it costs what it does.

Reads what to run as JSON from standard input, and writes what came of it; it can take redactions away first.
"""

import importlib
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

AT_ONCE = 4
MUTATED = {
    "identity": lambda value, *_rest, **_more: value,
    "nothing": lambda *_words, **_more: None,
    "none": lambda *_words, **_more: (),
    "text": lambda error, *_rest: str(error),
    "alone": lambda value: {value},
    "a moment": 1.0,
    "true": property(lambda _self: True),
    "address": lambda server, context: (server, f"{server} {context}"),
    "sent": lambda self, _session: {"Authorization": f"Bearer {self.login.chosen.secrets[0]}"},
    "user": property(lambda self: self.username or "default"),
}
"""What a redaction can be replaced by."""


def mutate(where: str, how: str) -> None:
    """Replace `module:name` or `module:class.name`."""
    module, _, path = where.partition(":")
    place: Any = importlib.import_module(module)
    *outer, name = path.split(".")
    for each in outer:
        place = getattr(place, each)
    assert hasattr(place, name), where
    setattr(place, name, MUTATED[how])


def prepare() -> None:
    """Import what the runs need, so that each of them does not."""
    for name in ("kubernetes.config", "redis.connection", "vdscheck.cli.cluster", "vdscheck.render.text.report"):
        importlib.import_module(name)
    importlib.import_module("vdscheck.catalogue.catalogue").load()


def start(asked: dict[str, Any]) -> tuple[int, Path]:
    """One run in a fork with folders of its own: its number and where they are."""
    place = Path(tempfile.mkdtemp(prefix="hunt-"))
    for name in ("home", "tmp", "cwd"):
        (place / name).mkdir()
    pid = os.fork()
    if pid == 0:
        try:
            begin(asked, place)
        finally:
            os._exit(99)
    return pid, place


def came(status: int, place: Path) -> dict[str, Any]:
    """All that a run wrote anywhere."""
    files = [file for file in place.rglob("*") if file.is_file()]
    written = {str(file.relative_to(place)): file.read_text(errors="replace") for file in files}
    shutil.rmtree(place)
    return {"code": os.waitstatus_to_exitcode(status), "written": written}


def run_all(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What came of each run, a few of them at once: most of their time they wait for an answer."""
    found: dict[int, dict[str, Any]] = {}
    going: dict[int, tuple[int, Path]] = {}
    for number in range(len(runs) + AT_ONCE):
        if number < len(runs):
            pid, place = start(runs[number])
            going[pid] = (number, place)
        if going and (len(going) == AT_ONCE or number >= len(runs)):
            pid, status = os.wait()
            ended, place = going.pop(pid)
            found[ended] = came(status, place)
    return [found[number] for number in range(len(runs))]


def begin(asked: dict[str, Any], place: Path) -> None:
    """In the fork: the streams, the environment and the folders of a user, then the program."""
    for number, name in ((0, os.devnull), (1, place / "stdout"), (2, place / "stderr")):
        opened = os.open(name, os.O_RDWR | os.O_CREAT, 0o600)
        os.dup2(opened, number)
        os.close(opened)
    os.chdir(place / "cwd")
    kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
    os.environ.clear()
    os.environ.update(kept | {"HOME": str(place / "home"), "TMPDIR": str(place / "tmp")} | asked["environment"])
    tempfile.tempdir = None
    sys.argv = ["vdscheck", *(word.replace("{place}", str(place)) for word in asked["words"])]
    from vdscheck.cli.app import program

    os._exit(program((), sys.argv[1:]))


def main() -> None:
    """Read, run, write."""
    asked = json.load(sys.stdin)
    prepare()
    for where, how in asked["mutations"]:
        mutate(where, how)
    json.dump(run_all(asked["runs"]), sys.stdout)


if __name__ == "__main__":
    main()
