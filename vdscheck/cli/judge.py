"""`vdscheck judge`: a saved report judged again."""

import errno
import os
import resource
import select
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from vdscheck import __version__, codec
from vdscheck.catalogue.catalogue import Catalogue, load
from vdscheck.cli import config
from vdscheck.cli.deliver import Drawn, draw, or_early, report_of, write
from vdscheck.cli.request import RULES, USUAL_PROFILE, Asked, Settings, UsageError, answered, settle
from vdscheck.judge import judge
from vdscheck.model.absence import UnavailableError
from vdscheck.model.report import Report
from vdscheck.process.guard import LostChildError, NoAnswerError, in_child
from vdscheck.process.limits import hold_to
from vdscheck.process.signals import StoppedError
from vdscheck.process.streams import is_file
from vdscheck.ruleset import profile, ruleset
from vdscheck.target.host import Host
from vdscheck.target.secrets import redact, without_secrets
from vdscheck.target.text import absolute, safe_text

UNKNOWN_SHOWN, ID_SHOWN = 5, 60
SAVED_LIMIT_BYTES = 32 << 20
"""Of a saved report: that of a host has some 100 kB, that of a cluster of 5,000 nodes a few MB."""
JUDGE_LIMIT_S = 8
"""Of processor time, for judging a saved report, which may come from anybody: a busy machine refuses no more."""
JUDGE_PATIENCE_S = 60.0
JUDGE_LIMIT_BYTES = 384 << 20
"""Of address space, for the same."""
INTERRUPTED_EVERY_S = 0.1
"""How often a wait for standard input looks whether it was interrupted."""


def judge_saved(asked: Asked, received: Sequence[int]) -> int:
    """Judge the measurements of a saved report again."""
    return or_early(asked, received, "host", lambda: _judge_saved(asked, asked.said["saved"], received))


def _judge_saved(asked: Asked, file: str, received: Sequence[int]) -> int:
    settings = settle(asked, None)
    catalogue = load()
    content = _saved(file, received)
    terminal, ours = settings.terminal, os.getpid()

    def judged() -> "Drawn":
        # A report may come from anybody, and be made so that it is never judged.
        if os.getpid() != ours:
            hold_to(resource.RLIMIT_AS, JUDGE_LIMIT_BYTES)
            hold_to(resource.RLIMIT_CPU, JUDGE_LIMIT_S)
        report, its_settings = _judged_again(settings, catalogue, file, content)
        return draw(report, its_settings, replace(terminal, kinds=catalogue.kinds))

    try:
        drawn = in_child(judged, JUDGE_PATIENCE_S)
    except (NoAnswerError, LostChildError, MemoryError) as error:
        message = (
            f"{file}: not a report that can be judged: it takes more than {JUDGE_LIMIT_S} s "
            f"or {JUDGE_LIMIT_BYTES >> 20} MiB of memory"
        )
        raise UsageError(message) from error
    return write(drawn, settings, received)


def _judged_again(settings: Settings, catalogue: Catalogue, file: str, content: bytes) -> tuple[Report, Settings]:
    """The report of what a saved one measured, and the settings by which it was judged."""
    types = {probe_id: entry.provides for probe_id, entry in catalogue.probes.items()}
    try:
        saved = codec.decode_report(content, types, catalogue.formerly)
    except codec.CodecError as error:
        message = f"{file}: not a report that can be judged: {error}"
        raise UsageError(message) from error
    old = settings.file is None
    of_the_report = _plausible(saved.ruleset.overrides, file) if old else {}
    overrides = {**of_the_report, **settings.overrides}
    if old:
        # A pull request can bring a report as well as a configuration.
        settings = replace(settings, file=file, values=of_the_report, found=True)
    elif settings.found and saved.ruleset.overrides:
        settings = replace(settings, instead_of=f"what {file} says of limits and waivers")
    if not settings.first("profile"):
        settings = replace(settings, brought=_unusual_profiles(saved, "" if old else f", as {file} says"))
    profiles = list(settings.first("profile", saved.ruleset.profiles))
    rules = ruleset.build(catalogue, profiles, _plausible(overrides, file), __version__, saved.target.kind, saved=old)
    said = [redact(warning) for warning in _said_of_the_run(saved, catalogue, file)]
    said += _of_nobody(saved, catalogue)
    run = replace(saved.run, command=tuple(map(without_secrets, saved.run.command)))
    said += [] if settings.instead_of is None else settings.of_the_configuration
    return report_of(settings, catalogue, rules, run, saved.target, saved.measurements, said), settings


def _unusual_profiles(saved: codec.SavedReport, whose: str) -> tuple[str, ...]:
    """The profiles of a saved report, where they are others than it would be judged by if it named none."""
    names = dict.fromkeys(saved.ruleset.profiles)
    if set(names) == {USUAL_PROFILE[saved.target.kind]}:
        return ()
    return tuple(f"profile {safe_text(name[:ID_SHOWN])}{whose}" for name in names) or (f"no profile{whose}",)


def _said_of_the_run(saved: codec.SavedReport, catalogue: Catalogue, file: str) -> list[str]:
    """The warnings of a saved report, less those that its own judging made: the new judging makes its own."""
    if not saved.warnings:
        return []
    note = saved.ruleset
    try:
        overrides = _plausible(note.overrides, file)
        rules = ruleset.build(catalogue, note.profiles, overrides, __version__, saved.target.kind, saved=True)
    except (UsageError, profile.RulesetError):
        return list(saved.warnings)
    judged = judge.judge(catalogue, rules, saved.measurements, saved.run.started_at[:10])
    return [warning for warning in saved.warnings if warning not in judged.warnings]


def _of_nobody(saved: codec.SavedReport, catalogue: Catalogue) -> list[str]:
    """What is said of measurements whose probes are not installed: they count for nothing."""
    names = dict.fromkeys(key.partition("[")[0] for key in saved.measurements)
    unknown = [safe_text(name[:ID_SHOWN]) for name in names if name not in catalogue.probes]
    more = len(unknown) - UNKNOWN_SHOWN
    listed = ", ".join(unknown[:UNKNOWN_SHOWN]) + (f" and {more} more" if more > 0 else "")
    return [f"no probe that is installed measures {listed}: nothing is judged by it"] if unknown else []


def _plausible(overrides: Mapping[str, Any], file: str) -> Mapping[str, Any]:
    """The overrides of a saved report, checked as a configuration's are: a report may come from anybody.

    What changes no ruleset is left out: no report of ours has it there, and it may be an address with a password.
    """
    try:
        checked = config.checked_values(overrides)
        return {key: value for key, value in checked.items() if key in (*RULES, "only", "skip")}
    except ValueError as error:
        message = f"{file}: ruleset.overrides: {error}"
        raise UsageError(message) from error


def from_standard_input(received: Sequence[int]) -> bytes:
    """All of it. Raises StoppedError where a signal comes before its end, UsageError where it cannot be read."""
    try:
        if is_file(0):
            return answered(lambda: _content_of(0, received), "/dev/stdin")
        return _content_of(0, received)
    except OSError as error:
        message = f"standard input cannot be read: {os.strerror(error.errno or errno.EIO).lower()}"
        raise UsageError(message) from error


def _content_of(descriptor: int, received: Sequence[int]) -> bytes:
    """All that can be read from it; from a pipe as it comes, since a read alone would be taken up after a signal."""
    content = bytearray()
    while len(content) <= SAVED_LIMIT_BYTES:
        if received:
            raise StoppedError
        if select.select([descriptor], [], [], INTERRUPTED_EVERY_S)[0]:
            piece = os.read(descriptor, 1 << 20)
            if not piece:
                break
            content += piece
    return bytes(content)


def _saved(file: str, received: Sequence[int]) -> bytes:
    if file == "-":
        content = from_standard_input(received)
        if len(content) > SAVED_LIMIT_BYTES:
            message = f"standard input is larger than {SAVED_LIMIT_BYTES:,} bytes: not a report"
            raise UsageError(message)
        return content
    try:
        return answered(lambda: Host().read_bytes(absolute(file), limit_bytes=SAVED_LIMIT_BYTES), file)
    except UnavailableError as error:
        raise UsageError(error.absent.detail) from error
