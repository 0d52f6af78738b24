"""Values of JSON and of YAML that nobody should write, and documents with one of them at any place."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

TAGS = (
    "!!bool", "!!int", "!!float", "!!timestamp", "!!binary", "!!null", "!!str", "!!set", "!!omap", "!!pairs", "!!seq",
    "!!map", "!!merge", "!!value", "!!yaml", "!!python/object/apply:os.system", "!!python/name:os.system",
    "!!python/tuple", "!foreign", "!", "!<tag:example.org,2000:x>",
)  # fmt: skip
"""Tags of YAML, of PyYAML, and of nobody."""

PLAIN = (
    "x", "~", "null", "yes", "off", "true", "5", "-7", "0x1F", "0b11", "0o17", "017", "09", "1_000", "1.5", "1e3",
    "-.inf", ".nan", ".inf", "1.0e+400", "2001-01-01", "2001-13-45", "2001-12-14t21:59:43.10-05:00", "190:20:30", "=",
    "<<", "aGk=", "100m", "9E", "8Ei", "-1Gi", "1" * 400, "-" + "9" * 400, "9" * 4400, "0x" + "F" * 400,
    "9223372036854775808", "18446744073709551616", "a/b", "latest", "c:",
)  # fmt: skip
"""Scalars as they are written in YAML without quotes."""

WHOLE = (0, -1, 2**31, 2**53 + 1, 2**63 - 1, 2**63, -(2**63), 2**64 - 1, 2**64, 10**30, 10**308, 10**309, -(10**400))

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12) | st.sampled_from(
    (
        "",
        "\0",
        "\x1b[2J",
        "\x9b31m",
        "\u202e",
        "\ufeff",
        "a\nb",
        "x" * 300,
        "*",
        "[",
        "web",
        "../..",
        "0",
        "-5",
        "1e400",
    )
)
numbers = st.sampled_from(WHOLE) | st.integers() | st.floats(allow_nan=False, allow_infinity=False)


def json_values(leaves: int = 8) -> st.SearchStrategy[Any]:
    """Any value of JSON."""
    return st.recursive(
        st.none() | st.booleans() | numbers | texts,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
        max_leaves=leaves,
    ) | st.sampled_from(([], {}, [[]], nested(50), nested(150), [0] * 300, ["x"] * 300))


def nested(depth: int) -> Any:
    value: Any = 0
    for _ in range(depth):
        value = [value]
    return value


@dataclass(frozen=True)
class Written:
    """A piece of YAML as it is written."""

    text: str


def yaml_values() -> st.SearchStrategy[Written]:
    """Any value that YAML can write in one line, with any tags, anchors and keys."""
    scalar = st.sampled_from(PLAIN) | texts.map(json.dumps)
    tag = st.sampled_from(("", "", "", *TAGS))

    def collections(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
        pairs = st.tuples(inner, inner).map(lambda pair: f"? {pair[0]} : {pair[1]}")
        return st.one_of(
            st.lists(inner, max_size=3).map(lambda each: f"[{', '.join(each)}]"),
            st.lists(pairs, max_size=3).map(lambda each: f"{{{', '.join(each)}}}"),
            inner.map(lambda each: f"{{<<: {each}, x: 1}}"),
            inner.map(lambda each: f"[&a {each}, *a, {{<<: *a}}]"),
        )

    tagged = st.recursive(
        st.tuples(tag, scalar).map(" ".join),
        lambda inner: st.tuples(tag, collections(inner)).map(" ".join),
        max_leaves=4,
    )
    return tagged.map(lambda text: Written(text.strip()))


def yaml_of(value: Any) -> str:
    """A value as YAML in one line."""
    if isinstance(value, Written):
        return value.text
    if isinstance(value, dict):
        return f"{{{', '.join(f'{json.dumps(key)}: {yaml_of(each)}' for key, each in value.items())}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(yaml_of, value))}]"
    return json.dumps(value)


Place = tuple[str | int, ...]


def places(value: Any, here: Place = ()) -> Iterator[Place]:
    """Every place in a value of JSON, itself first."""
    yield here
    if isinstance(value, dict):
        for key, each in value.items():
            yield from places(each, (*here, key))
    elif isinstance(value, list):
        for number, each in enumerate(value):
            yield from places(each, (*here, number))


def with_at(value: Any, place: Place, other: Any) -> Any:
    """The same with another value at a place."""
    if not place:
        return other
    key, *rest = place
    copy: Any = dict(value) if isinstance(value, dict) else list(value)
    copy[key] = with_at(value[key], tuple(rest), other)
    return copy


def without(value: Any, place: Place) -> Any:
    """The same without what is at a place."""
    *before, key = place
    if before:
        return with_at(value, (before[0],), without(value[before[0]], place[1:]))
    copy: Any = dict(value) if isinstance(value, dict) else list(value)
    del copy[key]
    return copy
