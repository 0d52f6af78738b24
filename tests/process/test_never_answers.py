"""A file system that never answers, wherever the program looks: it ends by itself in one line, and at a signal."""

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from tests.fix.test_fix import OLD
from tests.support import dead_mount
from tests.support.fix_namespace import in_namespace
from tests.support.program import PROGRAM, children, wait_for
from tests.support.project import PROJECT
from vdscheck.cli import reference

pytestmark = dead_mount.needs_fuse

DEAD = "DEAD"
"""Stands for the folder that never answers."""
RUN = (*PROGRAM, "--passive", "-q", "--only", "sysctl.somaxconn")
CALLS: dict[str, tuple[tuple[str, ...], dict[str, Any]]] = {
    "HOME": (RUN, {"env": {"HOME": DEAD}}),
    "the current folder": ((sys.executable, "-P", *RUN[1:]), {"cwd": DEAD}),
    "--config": ((*RUN, "--config", f"{DEAD}/c.toml"), {}),
    "VDSCHECK_CONFIG": (RUN, {"env": {"VDSCHECK_CONFIG": f"{DEAD}/c.toml"}}),
    "-o": ((*RUN, "-o", f"json={DEAD}/report.json"), {}),
    "-o in a folder": ((*RUN, "-o", f"json={DEAD}/reports/report.json"), {}),
    "--root": ((*RUN, "--root", DEAD), {}),
    "judge": ((*PROGRAM, "judge", f"{DEAD}/report.json"), {}),
    "-f": ((*PROGRAM, "cluster", "--offline", "-f", f"{DEAD}/manifest.yaml"), {}),
    "-f, found and opened": (
        (*PROGRAM, "cluster", "--offline", "-f", f"{DEAD}/manifest.yaml"),
        {"env": {dead_mount.DIES_AT_READ: "1"}},
    ),
    "judge, standard input": (
        ("sh", "-c", f'exec "$@" <{DEAD}/report.json', "sh", *PROGRAM, "judge", "-"),
        {"env": {dead_mount.DIES_AT_READ: "1"}},
    ),
    "-f, standard input": (
        ("sh", "-c", f'exec "$@" <{DEAD}/manifest.yaml', "sh", *PROGRAM, "cluster", "--offline", "-f", "-"),
        {"env": {dead_mount.DIES_AT_READ: "1"}},
    ),
    "--config, found and opened": (
        (*RUN, "--config", f"{DEAD}/c.toml"),
        {"env": {dead_mount.DIES_AT_READ: "1"}},
    ),
    "--kubeconfig": ((*PROGRAM, "cluster", "--kubeconfig", f"{DEAD}/config"), {}),
    "KUBECONFIG": ((*PROGRAM, "cluster"), {"env": {"KUBECONFIG": f"{DEAD}/config"}}),
    "--node-reports": ((*PROGRAM, "cluster", "--offline", "-f", "/dev/null", "--node-reports", DEAD), {}),
    "undo --root": ((*PROGRAM, "undo", "--root", DEAD), {}),
}

EVERY_DAY = {"HOME"}


def started(folder: Path, name: str, *more: str, **options: Any) -> "subprocess.Popen[str]":
    words, about = CALLS[name]

    def named(text: str) -> str:
        return text.replace(DEAD, str(folder))

    about = {**about, "env": {key: named(value) for key, value in about.get("env", {}).items()}}
    if "cwd" in about:
        about["cwd"] = named(about["cwd"])
    return dead_mount.popen(folder, [*map(named, words), *more], **about, **options)


def ended(running: "subprocess.Popen[str]") -> tuple[int, str, list[str]]:
    try:
        stdout, stderr = running.communicate(timeout=60)
    finally:
        running.kill()
        running.wait()
    return running.returncode, stdout, stderr.splitlines()


NAMES = [name if name in EVERY_DAY else pytest.param(name, marks=pytest.mark.slow) for name in CALLS]


@pytest.mark.slow
@pytest.mark.parametrize("name", CALLS)
def test_it_ends_by_itself_in_one_line(tmp_path: Path, name: str) -> None:
    code, stdout, said = ended(started(tmp_path, name))
    assert (code, stdout) == (2, "")
    assert len(said) == 1
    assert said[0].startswith("vdscheck: ")
    assert "does not answer within 5 s" in said[0]


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (signal.SIGTERM, 143),
        pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow),
        pytest.param(signal.SIGHUP, 129, marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("name", NAMES)
def test_a_signal_ends_it_at_once(tmp_path: Path, name: str, number: signal.Signals, code: int) -> None:
    more = () if name == "undo --root" else ("--json",)
    running = started(tmp_path, name, *more)
    # One child serves the file system, the other one waits for it.
    wait_for(lambda: running.poll() is not None or len(children(running.pid)) > 1)
    running.send_signal(number)
    ended_with, stdout, said = ended(running)
    assert ended_with == code
    if more:
        assert said == []
        found = json.loads(stdout)
        jsonschema.Draft202012Validator(json.loads(reference.schema())).validate(found)
        assert (found["run"]["complete"], found["findings"], found["score"]["value"]) == (False, [], None)
        assert found["warnings"] == ["interrupted before anything was examined"]


WRITTEN = {
    "standard output": ((), '"$@" 1<>{}/report'),
    "standard output, as -o": (("-o", "json=/dev/stdout"), '"$@" 1<>{}/report'),
    "a descriptor that was given": (("-o", "json=/dev/fd/7"), '"$@" 7<>{}/report'),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", WRITTEN)
def test_a_report_into_a_file_that_never_takes_it_ends_in_one_line(tmp_path: Path, name: str) -> None:
    code, _, said = ended(written(tmp_path, name))
    assert code == 4
    assert [line for line in said if "does not answer within 30 s" in line] == said


@pytest.mark.slow
@pytest.mark.parametrize("name", WRITTEN)
def test_a_signal_ends_what_is_written_into_a_file_that_never_takes_it(tmp_path: Path, name: str) -> None:
    running = written(tmp_path, name)
    wait_for(lambda: running.poll() is not None or is_writing(running.pid))
    running.terminate()
    code, _, said = ended(running)
    assert (code, len(said)) == (143, 1)
    assert "interrupted while it was waited for" in said[0]


def test_what_is_wrong_is_said_into_a_file_that_never_takes_it(tmp_path: Path) -> None:
    argv = ("sh", "-c", f'exec "$@" 2<>{tmp_path}/errors', "sh", *PROGRAM, "--no-such-option")
    running = dead_mount.popen(tmp_path, argv, env={dead_mount.DIES_AT_READ: "1"})
    wait_for(lambda: running.poll() is not None or is_writing(running.pid))
    running.terminate()
    assert ended(running)[0] == 2


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["link", "fifo", "file"])
@pytest.mark.parametrize("answers", range(9))
def test_a_file_system_that_dies_between_two_looks_at_an_output_holds_up_nobody(
    tmp_path: Path, kind: str, answers: int
) -> None:
    argv = (*RUN, "-o", f"json={tmp_path}/{1 if kind == 'file' else 'report'}")
    running = dead_mount.popen(tmp_path, argv, env={dead_mount.ANSWERS: f"{answers} {kind}"})
    code, _, said = ended(running)
    assert code in (2, 4)
    assert len(said) == 1


@pytest.mark.slow
def test_lines_for_a_file_that_never_takes_them_wait_for_it_once(tmp_path: Path) -> None:
    """Each of them would take its 30 s else, and there may be a thousand."""
    waivers = "".join(
        f'[[waivers]]\ncheck = "{name}"\nreason = "x"\nexpires = 2999-01-01\n'
        for name in ("sysctl.somaxconn", "sysctl.thp", "sysctl.swappiness")
    )
    (tmp_path / "vdscheck.toml").write_text(waivers)
    dead = tmp_path / "dead"
    dead.mkdir()
    argv = ("sh", "-c", f'cd {tmp_path}; exec "$@" 2<>{dead}/errors', "sh", *RUN, "--fail-on", "warn")
    running = dead_mount.popen(dead, argv, env={dead_mount.DIES_AT_READ: "1"})
    code, _, _ = ended(running)
    assert code in (0, 1)


def written(folder: Path, name: str) -> "subprocess.Popen[str]":
    more, script = WRITTEN[name]
    argv = ("sh", "-c", f"exec {script.format(folder)}", "sh", *RUN, *more)
    return dead_mount.popen(folder, argv, env={dead_mount.DIES_AT_READ: "1"})


def is_writing(pid: int) -> bool:
    """Whether a child of it waits in the kernel for an answer, where no signal reaches it."""
    states = (Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[0] for child in children(pid))
    return "D" in states


@pytest.mark.slow
def test_the_way_out_of_a_dead_home_is_one_that_is_said(tmp_path: Path) -> None:
    _, _, said = ended(started(tmp_path, "HOME"))
    assert said[0].endswith(": --no-config looks at none")
    code, stdout, said = ended(started(tmp_path, "HOME", "--no-config", "--json"))
    assert (code, said, json.loads(stdout)["run"]["complete"]) == (0, [], True)


# In a fix


def on_a_dead_folder(folder: str, words: str) -> tuple[list[str], list[str], str]:
    """Run it in a namespace where a folder of the system never answers: its lines, those of the keys, and errors."""
    done = in_namespace(
        f"""
        PYTHONPATH={PROJECT} "$PYTHON" -m tests.support.dead_mount {folder} / "$PYTHON" -m vdscheck {words}; code
        echo ----; keys; umount -l {folder}; ls -A /etc/sysctl.d /var/lib/vdscheck
        """
    )
    lines, rest = done.stdout.split("----\n")
    return lines.splitlines(), rest.splitlines(), done.stderr


UNTOUCHED = [*OLD, "/etc/sysctl.d:", "", "/var/lib/vdscheck:"]


@pytest.mark.slow
def test_a_fix_where_the_folder_of_its_file_never_answers_changes_nothing() -> None:
    lines, after, said = on_a_dead_folder("/etc/sysctl.d", "--fix --yes --passive -q --only 'sysctl.*'")
    assert (lines[-1], said) == ("code 3", "")
    assert any(line.startswith("FIX  undecided") for line in lines)
    assert after == UNTOUCHED


@pytest.mark.slow
@pytest.mark.parametrize("words", ["--fix --yes --passive -q --only 'sysctl.*'", "undo"])
def test_a_fix_where_the_journal_never_answers_changes_nothing(words: str) -> None:
    lines, after, said = on_a_dead_folder("/var/lib/vdscheck", words)
    assert lines[-1] == "code 3"
    why = "the journal /var/lib/vdscheck/journal cannot be opened: does not answer within 5 s"
    assert why in " ".join(" ".join([*lines, said]).split())
    assert after == UNTOUCHED


@pytest.mark.slow
def test_a_run_where_the_journal_never_answers_is_whole_and_says_so() -> None:
    lines, _, said = on_a_dead_folder("/var/lib/vdscheck", "--passive --json --only sysctl.somaxconn")
    assert (lines[-1], said) == ("code 0", "")
    found = json.loads(lines[0])
    assert found["warnings"] == ["the journal /var/lib/vdscheck/journal: does not answer within 5 s"]
    assert found["run"]["complete"]
