"""Measurements and reports to bytes and back, and their JSON Schema; msgspec is hidden here."""

import codecs
import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, TypeVar

import msgspec

from vdscheck.model.absence import Absent, Reason, unmeasured
from vdscheck.model.records import MOST, frozen
from vdscheck.model.report import SCHEMA_VERSION, Report, RulesetNote, Run, Taken, TargetNote
from vdscheck.target.host import one_line
from vdscheck.target.secrets import without_logins_in
from vdscheck.target.text import safe_text

T = TypeVar("T")


class CodecError(Exception):
    """Bytes that are not what they should be; the message says what and where."""


@frozen
class SavedReport:
    """What of a saved report is judged again; the findings in it are not read."""

    schema_version: int
    ruleset: RulesetNote
    run: Run
    target: TargetNote
    measurements: dict[str, Taken]
    warnings: tuple[str, ...] = ()


SHOWN_LIMIT = 200
"""Characters of a report that a refusal of it repeats."""
MEASUREMENTS_LIMIT = 10_000
"""A run takes some sixty, and one more for each disk, Redis or path that was named."""
DEPTH_LIMIT = 100
"""A report nests some ten deep."""
KEY_LIMIT = 4096
"""Characters of a measurement's name: that of a probe, and a path as its subject."""
_LACKS = "Object missing required field"
"""How msgspec says it."""
LEAST_WHOLE, MOST_WHOLE = -(1 << 63), (1 << 64) - 1
"""What other readers of JSON take for a whole number, and what can be written again."""


def encode(value: object) -> bytes:
    r"""Any of our values as one line of JSON; half a surrogate pair, as plugins can make one, is written as \\uNNNN."""
    try:
        return msgspec.json.encode(value)
    except UnicodeEncodeError:
        return msgspec.json.encode(_encodable(msgspec.to_builtins(value)))


def _encodable(value: Any) -> Any:  # noqa: ANN401 - what JSON can hold
    if isinstance(value, str):
        return safe_text(value)
    if isinstance(value, dict):
        return {_encodable(key): _encodable(each) for key, each in value.items()}
    return [_encodable(each) for each in value] if isinstance(value, list | tuple) else value


def indented(value: object) -> bytes:
    """Any of our values as JSON that people can read, which ends in a newline."""
    return msgspec.json.format(encode(value), indent=1) + b"\n"


def decode(data: bytes, kind: type[T]) -> T:
    """A value of that type. Raises CodecError."""
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.MsgspecError, ValueError) as error:
        raise CodecError(str(error)) from error
    except RecursionError as error:
        message = "nested too deeply"
        raise CodecError(message) from error


def convert(value: object, kind: type[T]) -> T:
    """A value of plain dicts and lists as that type. Raises CodecError."""
    try:
        return msgspec.convert(value, type=kind)
    except (msgspec.MsgspecError, ValueError) as error:
        raise CodecError(str(error)) from error
    except RecursionError as error:
        message = "nested too deeply"
        raise CodecError(message) from error


def decode_report(data: bytes, types: Mapping[str, Any], formerly: Mapping[str, str] | None = None) -> SavedReport:
    """A saved report with its measurements as the types of their probes (`types`, by probe id).

    `formerly`: the ids of today by those of older reports. A measurement that lacks a field, as it was
    written by an older version, is absent; one of a probe that is not installed stays as it is. Raises
    CodecError for anything that is not a report of this schema version.
    """
    whole = decode(data.removeprefix(codecs.BOM_UTF8), dict[str, Any])
    tree = {name: whole[name] for name in SavedReport.__dataclass_fields__ if name in whole}
    refuse_absurd(tree)
    if _may_hold_a_login(data):  # ours hold none, but this may be anybody's
        tree = without_logins_in(tree)
    _refuse_another_version(tree.get("schema_version"))
    saved = convert(tree, SavedReport)
    _refuse_no_day(saved.run.started_at)
    if len(saved.measurements) > MEASUREMENTS_LIMIT:
        message = f"{len(saved.measurements):,} measurements, more than {MEASUREMENTS_LIMIT:,}"
        raise CodecError(message)
    of_today = _of_today(saved.measurements, formerly or {})
    return replace(saved, measurements={key: _typed(key, taken, types) for key, taken in of_today.items()})


def _of_today(measurements: Mapping[str, Taken], formerly: Mapping[str, str]) -> dict[str, Taken]:
    """The measurements by the ids of today; where there are both, that of today's id counts."""
    found: dict[str, Taken] = {}
    for key, taken in measurements.items():
        probe_id, bracket, subject = key.partition("[")
        now = f"{formerly.get(probe_id, probe_id)}{bracket}{subject}"
        if now == key or now not in measurements:
            found[now] = taken
    return found


def _may_hold_a_login(data: bytes) -> bool:
    """Whether JSON may hold an address with one: that has `://` and `@` or `?`, each as it is or in an escape."""
    return b"\\u" in data or ((b"://" in data or b"\\/" in data) and (b"@" in data or b"?" in data))


def _refuse_another_version(version: object) -> None:
    if type(version) is not int:
        message = "schema_version is not a whole number, or is not there"
        raise CodecError(message)
    if version != SCHEMA_VERSION:
        message = f"schema version {version}, but this version of vdscheck reads {SCHEMA_VERSION}"
        raise CodecError(message)


def _refuse_no_day(started_at: str) -> None:
    day = started_at[:10]
    with suppress(ValueError):
        if dt.date.fromisoformat(day).isoformat() == day:
            return
    message = "run.started_at is not a time: it decides which waivers count"
    raise CodecError(message)


def refuse_absurd(value: dict[str, Any] | list[Any], where: str = "", depth: int = 0) -> None:
    """Refuse numbers that cannot be calculated with, or be written as JSON, and names and depths without end.

    Raises CodecError, which names the place.
    """
    if depth > DEPTH_LIMIT:
        message = f"{_shown(where)} is nested more than {DEPTH_LIMIT} deep"
        raise CodecError(message)
    for place, each in _parts(value, where):
        if isinstance(each, dict | list):
            refuse_absurd(each, place, depth + 1)
        elif isinstance(each, int) and not LEAST_WHOLE <= each <= MOST_WHOLE:
            message = f"{_shown(place)} is a number beyond 64 bits"
            raise CodecError(message)
        elif isinstance(each, float) and not -MOST <= each <= MOST:
            message = f"{_shown(place)} is {each:g}: no quantity of a computer is that large"
            raise CodecError(message)


def _parts(value: dict[str, Any] | list[Any], where: str) -> Iterator[tuple[str, Any]]:
    """What a map or a list holds, but texts and what is nothing, each with its place."""
    if isinstance(value, list):
        yield from ((f"{where}[{number}]", each) for number, each in enumerate(value) if _counts(each))
        return
    for key, each in value.items():
        place = f"{where}.{key}" if where else key
        if len(key) > KEY_LIMIT:
            message = f"{_shown(place)} is a name of {len(key):,} characters"
            raise CodecError(message)
        if _counts(each):
            yield place, each


def _counts(value: object) -> bool:
    return value is not None and type(value) is not str and type(value) is not bool


def _shown(said: object) -> str:
    text = said if isinstance(said, str) else str(said)
    text = one_line(text[: SHOWN_LIMIT + 1])
    return text if len(text) <= SHOWN_LIMIT else f"{text[:SHOWN_LIMIT]}..."


def _typed(key: str, taken: Taken, types: Mapping[str, Any]) -> Taken:
    kind = types.get(key.partition("[")[0])
    if (taken.value is None) is (taken.absent is None):
        message = f"measurements.{_shown(key)} has neither or both of value and absent"
        raise CodecError(message)
    if kind is None or taken.absent is not None:
        return taken
    try:
        value = convert(taken.value, kind)
    except CodecError as error:
        if str(error).startswith(_LACKS):
            why = f"written by an older version: {_shown(str(error))}"
            return Taken(taken.taken_at, taken.duration_s, taken.method, None, unmeasured(Reason.UNSUPPORTED, why))
        message = f"measurements.{_shown(key)}.value: {error}"
        raise CodecError(message) from error
    return Taken(taken.taken_at, taken.duration_s, taken.method, value, None)


def schema(types: Mapping[str, Any], documents: Sequence[type] = ()) -> dict[str, Any]:
    """The JSON Schema (2020-12) of a report, with the value of each known probe's measurement, and of other documents.

    Each of the documents has a field `schema_version`, as the report does.
    """
    kinds = [Report, *documents, Absent, *types.values()]
    roots, components = msgspec.json.schema_components(kinds, ref_template="#/$defs/{name}")
    known = {}
    for probe_id, kind in sorted(types.items()):
        value = {"anyOf": [{"$ref": f"#/$defs/{kind.__name__}"}, {"type": "null"}]}
        known[f"^{probe_id.replace('.', '[.]')}(\\[.*\\])?$"] = {
            "allOf": [{"$ref": "#/$defs/Taken"}, {"properties": {"value": value}}]
        }
    components["Report"]["properties"]["measurements"] = {
        "type": "object",
        "patternProperties": known,
        "additionalProperties": {"$ref": "#/$defs/Taken"},
    }
    for document in (Report, *documents):
        components[document.__name__]["properties"]["schema_version"] = {"const": SCHEMA_VERSION}
    _closed(components)
    _flush_left(components)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"vdscheck report, schema version {SCHEMA_VERSION}",
        **({"anyOf": list(roots[: 1 + len(documents)])} if documents else roots[0]),
        "$defs": components,
    }


def _closed(components: dict[str, Any]) -> None:
    """Refuse what the code does not write, so that a report in a test cannot grow unnoticed."""
    for name, component in components.items():
        if component.get("type") == "object" and "properties" in component and name != "Taken":
            component["additionalProperties"] = False


def _flush_left(components: dict[str, Any]) -> None:
    """Docstrings lose their indent when they are compiled from Python 3.13 on: the schema is the same before."""
    import inspect

    for component in components.values():
        if "description" in component:
            component["description"] = inspect.cleandoc(component["description"])
