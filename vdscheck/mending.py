"""`run --fix` between a report and the next one: what is shown, what is asked, and what the report says of it."""

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Literal

from vdscheck import output
from vdscheck.files import FixError
from vdscheck.fix import Bench, Terms, carried_out, recovered, would_not
from vdscheck.model import FixRecord, Measurements, Report
from vdscheck.probes import ownership
from vdscheck.render.formats import FORMATS, Terminal, plan, show
from vdscheck.render.question import can_ask, confirmed

Made = Callable[[Measurements, Sequence[str]], Report]
Outcome = Literal["refused", "undecided", "declined"]
NOT_BEGUN = "the run was ended before anything was planned"


@dataclass
class Mender:
    """One run's fix."""

    bench: Bench
    terms: Terms
    terminal: Terminal
    shows_first: bool
    """Whether a person sees the report before the question."""
    _refused: str | None = field(default=None, init=False)
    _foreseen: str | None = field(default=None, init=False)
    """Why a fix would be refused that is only planned."""

    def recovered(self) -> list[str]:
        """Give back what an earlier run left behind, before anything is measured; what is to be said of it."""
        if self._may_change_nothing():
            return []
        try:
            return recovered(self.bench)
        except FixError as error:
            self._refused = str(error)
            return []

    def _may_change_nothing(self) -> bool:
        """Whether nothing is given back or fixed here: by the call, or as the kernel or the root is another's."""
        if not self.bench.host.live:
            return self.terms.dry_run
        found = ownership.look(self.bench.host)
        if found.kernel is None:
            # The plan leaves every key alone then, and names it.
            return True
        why = ownership.refusal(found)
        if self.terms.dry_run:
            self._foreseen = why
        elif found.root is not None or os.geteuid() == 0:
            self._refused = why
        return self.terms.dry_run or why is not None or os.geteuid() != 0

    def mended(self, first: Report, made: Made) -> Report:
        """The report after the fix, with what it did; or the first one, with why not."""
        if self._refused is not None:
            return replace(first, fix=_nothing("refused", self._refused, first))
        self.bench.ask = lambda record: self._asked(first, record)
        result = carried_out(self.bench, first.measurements, self.terms)
        if self._foreseen is not None:
            result.record = replace(result.record, detail=would_not(self._foreseen))
        said = [*first.warnings, *result.warnings]
        if result.measurements is first.measurements:
            run = replace(first.run, complete=not self.bench.stopped())
            return replace(first, fix=result.record, warnings=tuple(said), run=run)
        after = made(result.measurements, said)
        return replace(after, fix=result.record, warnings=tuple(dict.fromkeys(after.warnings)))

    def not_begun(self, first: Report, *, interrupted: bool) -> Report:
        """The report of a run that was ended before anything was planned, with the word that this is so."""
        outcome: Outcome = "declined" if interrupted else "undecided"
        return replace(first, fix=_nothing(outcome, NOT_BEGUN, first))

    def _asked(self, first: Report, record: FixRecord) -> bool | None:
        if not can_ask():
            return None
        if self.shows_first and os.isatty(1):
            # What cannot be written here is told when the report is delivered.
            with suppress(output.OutputError):
                output.to_stdout(FORMATS["text"](first, self.terminal))
        show(plan(record, replace(self.terminal, colour=self.terminal.colour and os.isatty(2))))
        return confirmed("Apply?", self.bench.stopped)


def _nothing(outcome: Outcome, why: str, first: Report) -> FixRecord:
    """A fix that came to no plan."""
    return FixRecord(
        id=None,
        outcome=outcome,
        detail=why,
        score_before=first.score.value,
        score_promised=None,
        changes=(),
        left_alone=(),
    )
