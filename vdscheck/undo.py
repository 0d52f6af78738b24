"""What `vdscheck undo` does: gives back what the latest fix replaced, or lists the journal."""

import os
from collections.abc import Iterable

from vdscheck import output
from vdscheck.files import FixError
from vdscheck.fix import desk
from vdscheck.journal import FOLDER, Entry, Journal
from vdscheck.model import LeftAlone
from vdscheck.probes import ownership
from vdscheck.render.formats import say
from vdscheck.render.safe import harmless
from vdscheck.target import Host
from vdscheck.transaction import undo

DONE, LEFT = 0, 3
KEYS_SHOWN = 4


def undone(host: Host, version: str) -> int:
    """Give back the latest fix; 0 when all is given back or there is nothing, 3 when something is left."""
    try:
        journal = Journal.opened(host)
        if journal is None:
            return _said([f"nothing to undo: there is no journal ({FOLDER})"], DONE)
        try:
            return _undone(journal, host, version)
        finally:
            journal.close()
    except FixError as error:
        say(f"vdscheck: {error}")
        return LEFT


def _undone(journal: Journal, host: Host, version: str) -> int:
    if journal.latest() is None:
        return _said(["nothing to undo: every fix has been given back"], DONE)
    if host.live and os.geteuid() != 0:
        say("vdscheck: only root may give it back: sudo vdscheck undo")
        return LEFT
    why = ownership.refusal(ownership.look(host)) if host.live else None
    if why is not None:
        say(f"vdscheck: nothing was given back: {why}")
        return LEFT
    journal.lock()
    found = undo(journal, desk(host, version))
    if found is None:
        return _said(["nothing to undo: every fix has been given back"], DONE)
    entry, left = found
    return _said(_lines(entry, left, running=host.live), LEFT if left else DONE)


def _lines(entry: Entry, left: Iterable[LeftAlone], *, running: bool) -> Iterable[str]:
    stays = {each.key: each.why for each in left}
    before = "as it was before" if running else "as it was before, at the next boot"
    yield f"journal entry {entry.id} of {entry.at}: {'not all of it is' if stays else 'all of it is'} given back"
    for each in entry.settings:
        yield f"  {each.key}: {stays.get(each.key, before)}"


def listed(host: Host) -> int:
    """List the journal, the latest first."""
    try:
        journal = Journal.opened(host)
        if journal is None:
            return _said([f"the journal is empty ({FOLDER})"], DONE)
        try:
            entries = journal.entries()
        finally:
            journal.close()
    except FixError as error:
        say(f"vdscheck: {error}")
        return LEFT
    return _said((_line(entry) for entry in reversed(entries)), DONE)


def _line(entry: Entry) -> str:
    changes = [f"{each.key} {each.before or each.at_boot or '?'} -> {each.wanted}" for each in entry.settings]
    more = len(changes) - KEYS_SHOWN
    said = ", ".join(changes[:KEYS_SHOWN]) + (f" and {more} more" if more > 0 else "")
    return f"{entry.id:<12}  {entry.state:<10}  {entry.at}  {said}"


def _said(lines: Iterable[str], code: int) -> int:
    output.to_stdout("".join(f"{harmless(line, 1000)}\n" for line in lines).encode())
    return code
