"""Chains of fixes, undos and edits by hand, in which runs are killed, interrupted and stopped at random.

`python -m tests.fix.chains SEED FIRST COUNT` prints one line of JSON a chain, and `wrong` says what did not hold. It is
to be run in a mount and a network namespace of its own whose /etc/sysctl.d and /var/lib/vdscheck are empty file
systems. A chain is known by the seed and its number: `SEED NUMBER 1` runs it again.
"""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.fix.crashes import CALLS, DROP_IN, FILES, OLD, TIMEOUT_S, Surroundings, refuse_the_machine_itself
from tests.support.fix_hosts import KINDS
from tests.support.program import environment
from vdscheck.fix.journal import OPEN, UNFINISHED, Entry, Journal, unfinished
from vdscheck.target.host import Host

SEED = 20261129
OURS = "90-vdscheck.conf"
FIX = ("--fix", "--yes", "--passive", "--only", "sysctl.*", "--json")
WORDS = {"fix": FIX, "undo": ("undo", "--json")}
BY_HAND = {
    "net.ipv4.tcp_tw_reuse": ("0", "2"),
    "net.ipv4.conf.all.rp_filter": ("0",),
    "net.core.somaxconn": ("64",),
}
"""Values that people set in between: as before the fix, and neither that nor the wanted one."""
ENDS = {"INT": 130, "TERM": 143, "HUP": 129}
"""The signals after which the program ends by itself, with its exit codes."""
RUN_S = 1.5
"""About how long a run takes: what comes at a random time comes within it."""

Values = Mapping[str, str]


@dataclass
class Interruption:
    """How a run is disturbed: a signal at a system call of the program's own, or signals after a time."""

    signals: Sequence[str] = ()
    call: str = ""
    number: int = 0
    after_s: float = 0.0

    @classmethod
    def drawn(cls, chosen: random.Random) -> "Interruption":
        kind = chosen.choice(("KILL", "KILL", "TERM", "INT", "HUP", "STOP", "STOP-KILL", "none"))
        if kind == "none":
            return cls()
        if kind.startswith("STOP"):
            return cls(("STOP", "CONT", *kind.split("-")[1:]), after_s=round(chosen.uniform(0, RUN_S), 3))
        if chosen.random() < 0.3:
            return cls((kind,), after_s=round(chosen.uniform(0, RUN_S), 3))
        call = chosen.choice(("write", "fsync", "renameat", "unlinkat", "fchmod", "openat", "read", "close"))
        return cls((kind,), call, chosen.randint(1, 12 if call in CALLS else 400))

    def program(self, words: Sequence[str]) -> list[str]:
        """The command line that is disturbed so."""
        plain = [sys.executable, "-m", "vdscheck", *words]
        if not self.call:
            return plain
        what = f"{self.call}:signal={self.signals[0]}:when={self.number}"
        return ["strace", "-o", "/dev/null", "-e", f"trace={self.call}", "-e", f"inject={what}", *plain]

    def strike(self, process: subprocess.Popen[str]) -> None:
        """Send what comes after a time."""
        if self.call or not self.signals:
            return
        time.sleep(self.after_s)
        for name in self.signals:
            with suppress(ProcessLookupError):
                process.send_signal(getattr(signal, f"SIG{name}"))
                time.sleep(0.05)

    @property
    def last(self) -> str:
        """The signal that decides how the run ends; empty where none does."""
        return "" if not self.signals or self.signals[-1] == "CONT" else self.signals[-1]


@dataclass
class Chain:
    """One chain, with what it expects of each step."""

    where: Surroundings
    wanted: Values
    chosen: random.Random
    wrong: list[str] = field(default_factory=list)
    steps: list[str] = field(default_factory=list)
    added: list[str] = field(default_factory=list)
    """Lines that people added to our file."""

    def run(self) -> None:
        """Three to five steps, then a run that nobody disturbs, then undos until nothing is left."""
        for step in ["fix", *self.chosen.choices(("fix", "undo", "edit", "line"), k=self.chosen.randint(2, 4))]:
            if step == "edit":
                self.edit()
            elif step == "line":
                self.add_a_line()
            else:
                self.act(step, Interruption.drawn(self.chosen))
        self.act(self.chosen.choice(("fix", "undo")), Interruption())
        for _ in range(20):
            if not self.open_entries():
                break
            self.act("undo", Interruption())
        expected, found = FILES[OURS] + "".join(self.added), self.where.drop_in() or ""
        # A line of ours that others stand behind comes back where it was found, not where it stood once.
        if sorted(found.splitlines()) != sorted(expected.splitlines()):
            self.wrong.append(f"in the end our file holds {found!r}, not {expected!r}")

    # What people do

    def edit(self) -> None:
        key = self.chosen.choice(sorted(BY_HAND))
        value = self.chosen.choice(BY_HAND[key])
        self.where.set({key: value})
        self.steps.append(f"{key}={value}")

    def add_a_line(self) -> None:
        line = f"kernel.panic = {self.chosen.randint(1, 99)}\n"
        path = self.where.root / DROP_IN
        path.write_text((path.read_text() if path.exists() else "") + line)
        self.added.append(line)
        self.steps.append("line")

    # What we do

    def open_entries(self) -> list[Entry]:
        journal = Journal.opened(Host(), KINDS)
        if journal is None:
            return []
        try:
            return [entry for entry in journal.entries() if entry.state in OPEN]
        finally:
            journal.close()

    def act(self, action: str, how: Interruption) -> None:
        before, entries = self.where.values(), self.open_entries()
        recovered, after = before, before
        for entry in reversed(entries if action == "fix" else entries[-1:]):
            if action == "undo" or entry.state in UNFINISHED:
                recovered = back(recovered, entry)
        after = recovered if action == "undo" else {**recovered, **self.wanted}
        self.steps.append(f"{action}({' '.join(how.signals)}{f' at {how.call}:{how.number}' if how.call else ''})")
        was_said = unfinished(Host(), KINDS)
        done = disturbed(WORDS[action], how)
        found = self.where.values()
        self.judge(action, how, done, found, (before, recovered, after), was_said)

    def judge(
        self,
        action: str,
        how: Interruption,
        done: tuple[int, str, str],
        found: Values,
        states: tuple[Values, Values, Values],
        was_said: str | None,
    ) -> None:
        code, out, err = done
        said = unfinished(Host(), KINDS)
        before, _, after = states
        killed = code in (-signal.SIGKILL, 128 + signal.SIGKILL)
        unready = how.last in ENDS and code == -getattr(signal, f"SIG{how.last}")
        if unready or (how.last == "INT" and "KeyboardInterrupt" in err):
            # It came before the program had said how it takes signals.
            if found != before:
                self.fail("ended as it began, and changed something", done)
            return
        ended = killed or (how.last in ENDS and code == ENDS[how.last])
        if killed:
            for key, value in found.items():
                if value not in {each[key] for each in states}:
                    self.fail(f"{key} is {value}, which it never was", done)
            if found not in states and said is None:
                self.fail("half done, and nobody says so", done)
            return
        if found not in states or (not ended and found != after):
            self.fail(f"ended with {code} in another state: {differing(found, before, after)}", done)
        # Ended by a signal before its first step it leaves what another run had left, and that is still said.
        if said is not None and not (ended and found == before and said == was_said):
            self.fail(f"ended with {code} and left something half done: {said}", done)
        if not ended and code not in (0, 3):
            self.fail("ended with another code", done)
        self.told(action, out, err, found, states)

    def told(self, action: str, out: str, err: str, found: Values, states: tuple[Values, Values, Values]) -> None:
        """Whether a run that ended by itself says what state it left."""
        before, _, after = states
        try:
            document = json.loads(out)
        except ValueError:
            if found != before or before == after:
                return
            if not err and not out:
                return  # ended before it had begun
            self.fail("what it printed is no JSON", (0, out, err))
            return
        if action == "undo":
            told = document["undo"]["outcome"]
            fits = found == after and told in ("given-back", "left", "nothing-to-do")
            # Interrupted before its first step it says of each setting that it stays.
            fits = fits or (found == before and told in ("left", "refused"))
        else:
            told = None if document["fix"] is None else document["fix"]["outcome"]
            fits = told in ("applied", "nothing-to-do") if found == after else told != "applied"
            fits = fits or found == before
        if not fits:
            self.fail(f"says {told}", (0, "", err))

    def fail(self, why: str, done: tuple[int, str, str]) -> None:
        code, out, err = done
        self.wrong.append(f"{why} (code {code}; stderr {err[-300:]!r}; stdout {out[-300:]!r})")


def back(values: Values, entry: Entry) -> dict[str, str]:
    """Three-way, as `undo` promises it: what is neither the fix's nor as before stays."""
    result = dict(values)
    for each in entry.settings:
        if each.now and each.before is not None and values.get(each.key) == each.wanted:
            result[each.key] = each.before
    return result


def differing(found: Values, before: Values, after: Values) -> dict[str, tuple[str, str, str]]:
    return {key: (before[key], value, after[key]) for key, value in found.items() if value != after[key]}


def disturbed(words: Sequence[str], how: Interruption) -> tuple[int, str, str]:
    """The exit code of a run, what it wrote on standard output, and on standard error."""
    with subprocess.Popen(
        how.program(words),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
        cwd="/",
        start_new_session=True,
    ) as process:
        how.strike(process)
        out, err = process.communicate(timeout=TIMEOUT_S)
    return process.returncode, out, err


def chains(seed: int, first: int, count: int) -> Iterator[dict[str, Any]]:
    where = Surroundings(Path("/"))
    where.begin()
    done = where.fix()
    assert done.returncode == 0, (done.stdout[-2000:], done.stderr)
    wanted = {key: value for key, value in where.values().items() if value != OLD[key]}
    for number in range(first, first + count):
        where.begin()
        chain = Chain(where, wanted, random.Random(f"{seed}-{number}"))
        chain.run()
        yield {"seed": seed, "number": number, "steps": chain.steps, "wrong": chain.wrong}


def main(arguments: list[str]) -> int:
    refuse_the_machine_itself()
    seed, first, count = map(int, arguments)
    for chain in chains(seed, first, count):
        print(json.dumps(chain), flush=True)
    return 0


if __name__ == "__main__":
    for name in [name for name in os.environ if name.startswith(("COVERAGE", "COV_", "VDSCHECK_CONFIG"))]:
        del os.environ[name]
    sys.exit(main(sys.argv[1:]))
