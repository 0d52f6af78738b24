"""A fix that is interrupted gives back what it changed, within a time of its own, and names what it could not."""

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.fix_hosts import KINDS, Machine, at_desk, in_memory
from vdscheck.fix import transaction
from vdscheck.fix.journal import Journal, unfinished
from vdscheck.fixes.sysctl import KernelSettings

REUSE, FILTER = "net.ipv4.tcp_tw_reuse", "net.ipv4.conf.all.rp_filter"


@pytest.fixture
def machine() -> Iterator[Machine]:
    with in_memory() as folder:
        yield Machine(folder / "root", "web")


class Stuck(KernelSettings):
    """A kernel in which something happens when one key is given back."""

    def __init__(self, machine: Machine, act: Callable[[], object]) -> None:
        super().__init__(str(machine.settings))
        self.act = act

    def write(self, key: str, value: str) -> None:
        if (key, value) == (FILTER, "0"):  # the first that is set, and so the last that is given back
            self.act()
        super().write(key, value)


@pytest.mark.parametrize(
    ("act", "limit_s", "said"),
    [(lambda: time.sleep(600), 0.5, "does not answer within 0.5 s"), (lambda: os._exit(9), 20, "exit code 9")],
    ids=["hangs", "dies"],
)
def test_a_give_back_that_does_not_end_is_given_up_and_says_what_is_left(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, act: Callable[[], object], limit_s: float, said: str
) -> None:
    monkeypatch.setattr(transaction, "GIVE_BACK_LIMIT_S", limit_s)
    before = machine.values, machine.files
    desk = at_desk(machine, Stuck(machine, act))
    record = machine.fix(desk=desk, stopped=lambda: machine.read(REUSE) == "1")
    assert record.outcome == "given-back"
    assert record.detail.startswith("interrupted; what was changed could not be given back: ")
    assert f"{FILTER} is not 0" in record.detail
    assert f"{REUSE} is not" not in record.detail, "what could be given back was"
    assert said in record.detail
    assert {each.key: each.outcome for each in record.changes}[FILTER] == "left"
    assert "ended in the middle" in (unfinished(machine.host, KINDS) or "")
    assert machine.undo() == ()
    assert (machine.values, machine.files) == before


def test_an_interruption_after_it_was_verified_keeps_the_fix(machine: Machine) -> None:
    kept: list[bool] = []
    advance = Journal.advance

    def noticed(self: Journal, entry: object, state: object) -> object:
        kept.append(True)  # the signal comes while it is written that the fix holds
        return advance(self, entry, state)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Journal, "advance", noticed)
        record = machine.fix(stopped=lambda: bool(kept))
    assert record.outcome == "applied"
    assert machine.states() == ["held"]
    assert machine.read(REUSE) == "1"


def test_where_memory_runs_out_a_fix_is_the_last_to_be_ended(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is asked of the kernel, in which order: to be heard takes CAP_SYS_RESOURCE, which root need not have."""
    done: list[str] = []

    class Watched(KernelSettings):
        def write(self, key: str, value: str) -> None:
            done.append("set")
            super().write(key, value)

    before = Path("/proc/self/oom_score_adj").read_text()
    monkeypatch.setattr("vdscheck.process.guard._adjust", lambda file, text: done.append(f"{file} {text}"))
    record = machine.fix(desk=at_desk(machine, Watched(str(machine.settings))))
    assert record.outcome == "applied"
    assert done[0] == "/proc/self/oom_score_adj -1000"
    assert done[-1] == f"/proc/self/oom_score_adj {before}"
    assert set(done[1:-1]) == {"set"}
