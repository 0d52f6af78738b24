"""What a view shows of a measurement, as data: tables side by side, and a bar a row. Only render draws."""

from collections.abc import Mapping

from vdscheck.model.records import frozen


@frozen
class Column:
    """A column of figures."""

    head: str
    rank: int
    """How much it is missed where there is no room for it: 1 is missed most."""


@frozen
class Row:
    """One line of a table, and below it whoever else stands in its place."""

    names: tuple[str, ...]
    share: str
    """What of it was lost, in a word or as a share."""
    count: str
    figures: tuple[float, ...]
    """One a column, or none at all."""
    bar: float | None
    """How long its bar is, on the scale of all tables; None where it has none."""
    odd: bool = False
    """Whether the share is to be looked at."""


@frozen
class Table:
    """What was measured of one subject."""

    title: str
    name: str
    """What its bars are called."""
    rows: Mapping[int, Row]
    """By the number that the rows of all tables share."""
    end: Row | str
    """The last line: the subject itself, or why there is nothing to say of it."""


@frozen
class Shown:
    """Everything that a view shows of a measurement."""

    row_head: str
    name_head: str
    share_head: str
    count_head: str
    columns: tuple[Column, ...]
    tables: tuple[Table, ...]
    bars_head: str
    note: str
    """How it was measured, below the tables; empty where there is none."""
    first: tuple[str, ...] = ()
    """The checks whose findings stand first."""
    speaks_for: str = ""
    """Of several findings that say the same, the one of this check is shown."""
