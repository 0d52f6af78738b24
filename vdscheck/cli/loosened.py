"""What a configuration that was found by looking changes of what a gate of the command line rests on.

Whoever can bring a file to where one is looked for (with a pull request, into a checkout) must not open a gate in
silence. All that bears on a verdict is named, also what looks stricter: another limit may make a finding undecided.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from vdscheck.cli.config import key as key_of
from vdscheck.judge.score import USUAL_COVERAGE
from vdscheck.model.judgement import Gate
from vdscheck.plugin import Matter
from vdscheck.target.interface import TargetKind
from vdscheck.target.text import safe_text

_MORE = "thorough"
"""It measures more, so it is not named."""


def loosened(
    values: Mapping[str, Any], decided: Collection[str], target: TargetKind, today: str, *, measures: bool
) -> Iterator[str]:
    """What the values of such a file change, but for the keys that the command line has decided, `min-coverage` too.

    `measures` is False where a saved report is judged: only what changes the judging counts then.
    """
    matters = {Matter.JUDGING, Matter.MEASURING, Matter.REACH} if measures else {Matter.JUDGING}
    for name, value in values.items():
        key = key_of(name)
        if key is None:
            continue
        if name not in {*decided, _MORE} and key.matter in matters and key.target in {None, target}:
            yield from _said(name, key.matter, value, today)
    percent = values.get("min-coverage", USUAL_COVERAGE)
    if percent < USUAL_COVERAGE and "min-coverage" not in decided:
        yield f"min-coverage {percent} (without it {USUAL_COVERAGE})"


def hidden(other: str) -> str:
    """What is said of a found file that takes the place of another configuration, so that none does so in silence."""
    return f"was found first: {safe_text(other)} does not count"


def told(gates: Iterable[Gate]) -> Iterator[str]:
    """The same as lines: what must not go unseen where a report shows no gate that holds, or a program reads it."""
    for loosening in {gate.loosened_by for gate in gates if gate.loosened_by is not None}:
        yield f"vdscheck: {loosening.file}, not named with --config, changes what the gates judge:"
        yield from (f"  {each}" for each in loosening.what)


def _said(name: str, matter: Matter, value: Any, today: str) -> Iterator[str]:  # noqa: ANN401 - of any key
    if matter is Matter.REACH:
        yield name  # what it names may hold a password
    elif name == "waivers":
        live = [waiver for waiver in value if waiver["expires"] >= today]
        yield from (f"waiver of {waiver['check']} until {waiver['expires']}" for waiver in live)
    elif name == "limits":
        yield from (f"limit {check} {limit} {to}" for check, named in value.items() for limit, to in named.items())
    elif isinstance(value, dict):
        yield from (f"{name} {part} {to}" for part, to in value.items())
    elif isinstance(value, list):
        yield from (f"{name} {word}" for word in value)
    elif isinstance(value, bool):
        yield from [name] if value else []
    else:
        yield f"{name} {value}"
