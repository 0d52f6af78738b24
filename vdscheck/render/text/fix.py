"""What `--fix` would do or did, as people read it: the plan as a table, what is left alone, what came of it."""

from collections.abc import Sequence

from vdscheck.model.fixes import FixChange, FixRecord
from vdscheck.render.safe import harmless
from vdscheck.render.text.canvas import Canvas, Span
from vdscheck.units import counted

INDENT = 2
VALUE_LIMIT = 24
WHY_ROOM = 32
"""The least that the column of reasons is worth having."""

_HEADS = ("key", "now", "after boot", "wanted")


def fix_text(record: FixRecord, *, width: int, colour: bool, utf8: bool) -> bytes:
    """A record alone, as it is shown before the question."""
    canvas = Canvas(width=width, colour=colour, utf8=utf8)
    fix_section(canvas, record)
    return canvas.drawn()


def fix_section(canvas: Canvas, record: FixRecord) -> None:
    """A record as a part of a report."""
    canvas.blank()
    _head(canvas, record)
    if record.changes:
        canvas.blank()
        if record.outcome in ("applied", "given-back"):
            _outcomes(canvas, record.changes)
        else:
            _table(canvas, record.changes)
    _left_alone(canvas, record)
    _foot(canvas, record)


def _head(canvas: Canvas, record: FixRecord) -> None:
    parts = [counted(len(record.changes), "change")]
    if record.left_alone:
        parts.append(f"{len(record.left_alone)} left alone")
    changes = ", ".join(parts)
    said = {
        "planned": f"{changes}; nothing is changed yet",
        "declined": f"{changes}; nothing was changed" if record.changes else "no fix was begun",
        "refused": "nothing was changed",
        "undecided": "undecided: not all settings could be seen, and nothing was changed",
        "nothing-to-do": "nothing to do" + (f", {parts[1]}" if record.left_alone else ""),
        "given-back": "it did not hold: what was changed has been given back",
        "applied": changes,
    }[record.outcome]
    if record.outcome == "given-back" and any(each.outcome == "left" for each in record.changes):
        said = "it did not hold, and not all of it is as it was"
    bad = record.outcome in ("refused", "given-back", "undecided")
    canvas.prose([("FIX", "bold red" if bad else "bold"), (f"  {said}", "")], indent=0)
    if record.detail:
        canvas.prose([(harmless(record.detail, 1000), "")], indent=INDENT)


def _table(canvas: Canvas, changes: Sequence[FixChange]) -> None:
    rows = [_HEADS, *map(_row, changes)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADS))]
    used = INDENT + sum(widths) + 2 * len(widths)
    if used > canvas.measure:
        for each in changes:
            _stacked(canvas, each)
        return
    whys = ["why", *(_why(each) for each in changes)]
    beside = canvas.measure - used >= WHY_ROOM
    for number, (row, why) in enumerate(zip(rows, whys, strict=True)):
        line = "  ".join(f"{cell:<{wide}}" for cell, wide in zip(row, widths, strict=True))
        style = "dim" if number == 0 else ""
        if beside:
            label: Span = (f"{'':<{INDENT}}{line}", style)
            canvas.prose([(harmless(why), style)], indent=used, label=label)
        else:
            canvas.spans((f"{'':<{INDENT}}{line}".rstrip(), style))
            if number:
                canvas.prose([(harmless(why), "dim")], indent=2 * INDENT)


def _row(change: FixChange) -> tuple[str, str, str, str]:
    return harmless(change.key, 60), _value(change.before), _value(change.at_boot), _value(change.wanted)


def _stacked(canvas: Canvas, change: FixChange) -> None:
    """A change where the table is too wide."""
    canvas.prose([(harmless(change.key, 60), "bold")], indent=INDENT)
    said = f"now {_value(change.before)}, after boot {_value(change.at_boot)}, wanted {_value(change.wanted)}"
    canvas.prose([(harmless(said), "")], indent=2 * INDENT)
    canvas.prose([(harmless(_why(change)), "dim")], indent=2 * INDENT)


def _value(value: str | None) -> str:
    return "-" if value is None else harmless(value, VALUE_LIMIT)


def _why(change: FixChange) -> str:
    said = change.why
    if change.file is None:
        said += "; now only: the next boot does so already"
    if change.may_restart:
        said += f"; may profit from a restart: {', '.join(change.may_restart)}"
    return said


def _outcomes(canvas: Canvas, changes: Sequence[FixChange]) -> None:
    for each in changes:
        good = each.outcome == "applied"
        mark: Span = (canvas.mark(good=good), "" if good else "bold red")
        before = _value(each.before if each.before is not None else each.at_boot)
        said = {
            "applied": f"{each.key} {before} → {_value(each.wanted)}, read back {_value(each.after)}",
            "given-back": f"{each.key} is {_value(each.after)} again",
            "left": f"{each.key} stays {_value(each.after)}",
            "planned": f"{each.key} {before} → {_value(each.wanted)}",
        }[each.outcome]
        canvas.prose([mark, (f" {harmless(said)}", "")], indent=INDENT)
        if good and each.may_restart:
            listed = ", ".join(harmless(name, 40) for name in each.may_restart)
            canvas.prose([(f"may profit from a restart: {listed}", "dim")], indent=2 * INDENT)


def _left_alone(canvas: Canvas, record: FixRecord) -> None:
    if record.left_alone:
        canvas.blank()
    for each in record.left_alone:
        canvas.prose([(f"left alone: {harmless(each.key, 80)}: {harmless(each.why, 500)}", "")], indent=INDENT)


def _foot(canvas: Canvas, record: FixRecord) -> None:
    if not record.changes:
        return
    canvas.blank()
    score = f"{_score(record.score_before)} → {_score(record.score_promised)}"
    files = sorted({each.file for each in record.changes if each.file is not None})
    if record.outcome == "applied":
        parts = [f"journal entry {record.id}", "undo: vdscheck undo"]
    elif record.outcome == "given-back":
        parts = [f"journal entry {record.id}"]
    else:
        writes = f"writes {', '.join(files)}" if files else "writes no file"
        parts = [writes, f"score {score} if nothing else changes", "undo: vdscheck undo"]
    canvas.flow([[(harmless(part), "dim")] for part in parts], indent=INDENT)


def _score(value: int | None) -> str:
    return "?" if value is None else str(value)
