"""`run --fix` between a report and the next one: what is shown, what is asked, and what the report says of it."""

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol

from vdscheck.cli import output
from vdscheck.fix.files import FixError
from vdscheck.fix.flow import Bench, Terms, carried_out, recovered, would_not
from vdscheck.linux import ownership
from vdscheck.model.fixes import FixRecord
from vdscheck.model.report import Measurements, Report
from vdscheck.plugin import Terminal
from vdscheck.render.formats import FORMATS, plan, show
from vdscheck.render.text.question import can_ask, confirmed
from vdscheck.report.build import NOT_BEGUN, fix_of_nothing


class Made(Protocol):
    """What makes a report of measurements."""

    def __call__(self, measurements: Measurements, warnings: Sequence[str], *, complete: bool) -> Report:
        """Judge measurements, and report them with these warnings."""
        ...


Outcome = Literal["refused", "undecided", "declined"]


@dataclass
class Mender:
    """One run's fix."""

    bench: Bench
    terms: Terms
    terminal: Terminal
    shows_first: bool
    """Whether a person sees the report before the question."""
    draw: Callable[[Report], object]
    """Draws a report in every format that was asked for."""
    _refused: str | None = field(default=None, init=False)
    _recovered: bool = field(default=False, init=False)
    """Whether something was given back: then it cannot be said that nothing was changed."""
    _foreseen: str | None = field(default=None, init=False)
    """Why a fix would be refused that is only planned."""

    def recovered(self) -> list[str]:
        """Give back what an earlier run left behind, before anything is measured; what is to be said of it."""
        if self._may_change_nothing():
            return []
        try:
            said, self._recovered = recovered(self.bench)
        except FixError as error:
            self._refused = str(error)
            return []
        return said

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

    def mended(self, first: Report, made: Made) -> tuple[Report, bool]:
        """The report after the fix, with what it did, or the first one, with why not; and if the measuring failed."""
        if self._refused is not None:
            return replace(first, fix=fix_of_nothing("refused", self._refused, first.score.value)), False
        self.bench.ask = lambda record: self._asked(first, record)
        self.bench.rehearse = lambda record: self.draw(replace(first, fix=record))
        result = carried_out(self.bench, first.measurements, self.terms)
        if self._foreseen is not None:
            result.record = replace(result.record, detail=would_not(self._foreseen))
        said = [*first.warnings, *result.warnings]
        if result.measurements is first.measurements:
            run = replace(first.run, complete=not self.bench.stopped())
            return replace(first, fix=result.record, warnings=tuple(said), run=run), result.failed
        after = made(result.measurements, said, complete=result.complete and not self.bench.stopped())
        return replace(after, fix=result.record, warnings=tuple(dict.fromkeys(after.warnings))), result.failed

    def not_begun(self, first: Report, *, interrupted: bool) -> Report:
        """The report of a run that was ended before anything was planned, with the word that this is so."""
        outcome: Outcome = "declined" if interrupted else "undecided"
        why = f"what an earlier run had left behind was given back; {NOT_BEGUN}" if self._recovered else NOT_BEGUN
        if self._refused is not None:
            outcome, why = "refused", self._refused
        return replace(first, fix=fix_of_nothing(outcome, why, first.score.value))

    def _asked(self, first: Report, record: FixRecord) -> bool | None:
        if not can_ask():
            return None
        if self.shows_first and os.isatty(1):
            # What cannot be written here is told when the report is delivered.
            with suppress(output.OutputError):
                output.to_stdout(FORMATS["text"].function(first, self.terminal))
        show(plan(record, replace(self.terminal, colour=self.terminal.colour and os.isatty(2))))
        return confirmed("Apply?", self.bench.stopped)
