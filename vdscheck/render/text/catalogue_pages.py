"""The catalogue as people read it: the list, one check explained, the profiles, and docs/checks.md."""

import re
from collections.abc import Iterable, Mapping, Sequence

from vdscheck.model.records import named
from vdscheck.render.safe import harmless
from vdscheck.render.text.canvas import Canvas

TEXT_LIMIT = 4000
ID_CELLS = 26
SEVERITY_CELLS = 9
HEADING_CELLS = 17
STACKED_BELOW = 60
"""On a narrower terminal a heading stands above its text, not beside it."""
NO_LOAD = "none: it only reads"


@named
class MeasuredBy:
    """A probe that a check is judged by."""

    probe: str
    method: str
    load: str
    """What it does to the host, in words; empty where it only reads."""


@named
class LimitRow:
    """One limit of one profile."""

    profile: str
    check: str
    name: str
    limit: str
    """In words: `at most 10 ms`."""
    source: str


@named
class CheckPage:
    """One check."""

    id: str
    title: str
    severity: str
    profiles: tuple[str, ...]
    """The profiles that judge it."""
    sections: Mapping[str, str]
    """By heading: Why, False positives, By hand, Sources."""
    measured_by: tuple[MeasuredBy, ...]
    limits: tuple[LimitRow, ...]
    fix: tuple[str, ...] = ()
    """What the tool proposes, a command a line; empty where it proposes nothing."""
    undo: tuple[str, ...] = ()


@named
class ProfilePage:
    """One profile."""

    name: str
    summary: str
    sources: str
    limits: tuple[LimitRow, ...]
    severities: tuple[tuple[str, str], ...] = ()
    """Check ids whose severity it changes, and to what."""


def listing(pages: Sequence[CheckPage], *, width: int, colour: bool, utf8: bool) -> bytes:
    """`vdscheck list`: a line for each check, by area."""
    canvas = Canvas(width=width, colour=colour, utf8=utf8)
    known = {profile for page in pages for profile in page.profiles}
    area = None
    for page in sorted(pages, key=lambda page: page.id):
        if area is not None and _area(page) != area:
            canvas.blank()
        area = _area(page)
        chosen = "" if set(page.profiles) == known else f" ({', '.join(page.profiles) or 'no profile'})"
        label = f"{harmless(page.id):<{ID_CELLS}} {page.severity:<{SEVERITY_CELLS}}"
        text = [(harmless(page.title), ""), (harmless(chosen), "dim")]
        if canvas.measure < STACKED_BELOW:
            canvas.prose([(label.rstrip(), "bold")], indent=0)
            canvas.prose(text, indent=2)
        else:
            canvas.prose(text, indent=len(label), label=(label, ""))
    canvas.blank()
    canvas.prose([("A check is judged by every profile, unless some are named in brackets.", "dim")], indent=0)
    canvas.prose([("vdscheck explain CHECK tells the rest.", "dim")], indent=0)
    return canvas.drawn()


def explanation(page: CheckPage, *, width: int, colour: bool, utf8: bool) -> bytes:
    """`vdscheck explain CHECK`: everything there is to know about one check."""
    canvas = Canvas(width=width, colour=colour, utf8=utf8)
    canvas.flow([[(harmless(page.id), "bold")], [(f"severity {page.severity}", "dim")]])
    canvas.prose([(harmless(f"{page.title}."), "")], indent=0)
    entries = _Entries(canvas)
    entries.text("Why", [page.sections.get("Why", "")])
    entries.text("False positives", [page.sections.get("False positives", "")])
    entries.commands("By hand", steps(page.sections.get("By hand", "")))
    entries.text("Measured by", (f"{each.probe}: {each.method}" for each in page.measured_by))
    entries.text("Load", _loads(page))
    entries.text("Limits", _limits_in_words(page.limits))
    entries.commands("Fix", page.fix)
    entries.commands("Undo", page.undo)
    entries.text("Sources", steps(page.sections.get("Sources", "")))
    return canvas.drawn()


def profiles(pages: Sequence[ProfilePage], *, width: int, colour: bool, utf8: bool) -> bytes:
    """`vdscheck profiles`: every limit of every profile, with its source."""
    canvas = Canvas(width=width, colour=colour, utf8=utf8)
    for page in pages:
        canvas.blank()
        name = harmless(page.name)
        canvas.prose([(harmless(page.summary, TEXT_LIMIT), "")], indent=len(name) + 2, label=(name, "bold"))
        canvas.prose([(harmless(f"sources: {page.sources}", TEXT_LIMIT), "dim")], indent=2)
        for row in page.limits:
            canvas.prose([(harmless(f"{row.check} {row.name}: "), ""), (harmless(row.limit), "bold")], indent=4)
            canvas.prose([(harmless(row.source, TEXT_LIMIT), "dim")], indent=6)
        if page.severities:
            changed = ", ".join(f"{check} {severity}" for check, severity in page.severities)
            canvas.prose([(harmless(f"other severities: {changed}", TEXT_LIMIT), "")], indent=4)
    return canvas.drawn()


class _Entries:
    """Headings with their texts beside them, or above them where it is narrow."""

    def __init__(self, canvas: Canvas) -> None:
        self._canvas = canvas
        self._beside = canvas.measure >= STACKED_BELOW
        self._indent = HEADING_CELLS if self._beside else 2

    def text(self, heading: str, paragraphs: Iterable[str]) -> None:
        """Text that is wrapped."""
        label = heading
        for paragraph in filter(None, (_joined(each) for each in paragraphs)):
            label = self._begin(label)
            shown = [(harmless(paragraph, TEXT_LIMIT), "")]
            self._canvas.prose(shown, indent=self._indent, label=(label, "bold"))
            label = ""

    def commands(self, heading: str, lines: Iterable[str]) -> None:
        """Lines that stay whole, so that they can be copied."""
        label = heading
        for line in lines:
            label = self._begin(label)
            self._canvas.command(line, indent=self._indent, label=label, style="")
            label = ""

    def _begin(self, heading: str) -> str:
        """Begin an entry where there is a heading; what of it still has to stand beside the text."""
        if heading:
            self._canvas.blank()
        if heading and not self._beside:
            self._canvas.prose([(heading, "bold")], indent=0)
            return ""
        return heading


def steps(text: str) -> list[str]:
    """The parts of a text that stand between semicolons; one within quotes or brackets parts nothing."""
    parts, depth, quote, start = [], 0, "", 0
    text = _joined(text)
    for position, character in enumerate(text):
        if quote:
            quote = "" if character == quote else quote
        elif character in "'\"":
            quote = character if _opens(text, position) else ""
        elif character in "([{":
            depth += 1
        elif character in ")]}":
            depth -= 1
        elif character == ";" and depth <= 0 and text[position + 1 : position + 2] in ("", " "):
            parts.append(text[start:position].strip())
            start = position + 1
    parts.append(text[start:].strip())
    return [part for part in parts if part]


def _opens(text: str, position: int) -> bool:
    """Whether a quotation mark opens a quotation: not the one of `host's`, nor one that is never closed."""
    inside_word = position > 0 and text[position - 1].isalnum()
    return not inside_word and text[position] in text[position + 1 :]


def _loads(page: CheckPage) -> list[str]:
    return [f"{each.probe}: {each.load}" for each in page.measured_by if each.load] or [NO_LOAD]


def _limits_in_words(rows: Iterable[LimitRow]) -> list[str]:
    """Each limit once, with the profiles that share it."""
    shared: dict[str, list[str]] = {}
    for row in rows:
        shared.setdefault(f"{row.name} {row.limit}; {row.source}", []).append(row.profile)
    return [f"{', '.join(names)}: {said}" for said, names in shared.items()]


def _area(page: CheckPage) -> str:
    return page.id.partition(".")[0]


def _joined(text: str) -> str:
    return " ".join(text.split())


# docs/checks.md


def markdown(pages: Sequence[CheckPage]) -> bytes:
    """`docs/checks.md`: the pages of all checks, by area."""
    lines = ["# The checks", "", "Generated from the checks and profiles themselves; do not edit.", ""]
    by_id = sorted(pages, key=lambda page: page.id)
    lines += ["| check | severity | what holds |", "|---|---|---|"]
    lines += [f"| [{page.id}](#{_anchor(page.id)}) | {page.severity} | {_escaped(page.title)} |" for page in by_id]
    for page in by_id:
        lines += ["", f"## {page.id}", "", f"{_escaped(page.title)}. Severity: {page.severity}.", ""]
        lines += _paragraph("Why", page.sections.get("Why", ""))
        lines += _paragraph("False positives", page.sections.get("False positives", ""))
        lines += _block("By hand", steps(page.sections.get("By hand", "")))
        lines += _bullets("Measured by", [f"`{each.probe}`: {_escaped(each.method)}" for each in page.measured_by])
        lines += _paragraph("Load", "; ".join(_loads(page)))
        lines += _limits(page.limits)
        lines += _block("Fix", page.fix)
        lines += _block("Undo", page.undo)
        lines += _bullets("Sources", [_escaped(source) for source in steps(page.sections.get("Sources", ""))])
        lines.pop()
    return ("\n".join(lines) + "\n").encode()


@named
class OptionRow:
    """An option as docs/options.md lists it."""

    written: str
    commands: str
    key: str
    help: str


def options(rows: Sequence[OptionRow], offer: Sequence[tuple[str, str, str]]) -> bytes:
    """`docs/options.md`: every option, and the keys of `[offer]` each with the check that judges it and its unit."""
    lines = ["# The options", "", "Generated from the options themselves; do not edit.", ""]
    lines += ["| option | commands | key of the configuration | what it says |", "|---|---|---|---|"]
    lines += [f"| {row.written} | {row.commands} | {row.key} | {_escaped(row.help)} |" for row in rows]
    lines += ["", "A key with * is refused in a `vdscheck.toml` that is found in the current folder.", ""]
    lines += ["| key of `[offer]` | judged by | in |", "|---|---|---|"]
    lines += [f"| `{name}` | `{check_id}` | {unit} |" for name, check_id, unit in offer]
    return ("\n".join(lines) + "\n").encode()


def _paragraph(heading: str, text: str) -> list[str]:
    return [f"**{heading}.** {_escaped(_joined(text))}", ""] if text else []


def _block(heading: str, commands: Sequence[str]) -> list[str]:
    return [f"**{heading}.**", "", "```", *commands, "```", ""] if commands else []


def _bullets(heading: str, items: Sequence[str]) -> list[str]:
    return [f"**{heading}.**", "", *(f"- {item}" for item in items), ""] if items else []


def _limits(rows: Sequence[LimitRow]) -> list[str]:
    if not rows:
        return []
    table = [f"| {row.profile} | {row.name} | {_escaped(row.limit)} | {_escaped(row.source)} |" for row in rows]
    return ["| profile | limit | value | source |", "|---|---|---|---|", *table, ""]


def _escaped(text: str) -> str:
    """Text in which Markdown finds nothing to act on."""
    return re.sub(r"([\\`*_|<>\[\]])", r"\\\1", _joined(text))


def _anchor(check_id: str) -> str:
    """The anchor that code hosts give a heading: lower case, without the dots."""
    return check_id.lower().replace(".", "")
