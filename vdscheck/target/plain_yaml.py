"""YAML as kubectl reads it: plain values of JSON, within bounds, and what is refused in one line.

The rules of scalars, keys and merges are those of sigs.k8s.io/yaml, which turns YAML into JSON before anything looks
at it: tags of lists and maps do not count, a tag that is not of YAML itself leaves the text, and a key is a text.
"""

import base64
import binascii
import math
import re
from collections.abc import Iterator
from typing import Any, NoReturn

import yaml

VALUES_LIMIT = 500_000
"""Of all values in a text, each alias counted as what it stands for."""
DEPTH_LIMIT = 100
SAID_LIMIT = 60
"""Characters of a text that a refusal repeats."""
_TAG = "tag:yaml.org,2002:"
_MERGE = f"{_TAG}merge"
_TRUTH = {"yes": True, "true": True, "on": True, "no": False, "false": False, "off": False}
_NULLS = ("", "~", "null", "Null", "NULL")
_WHOLE = re.compile(r"[-+]?(0b[01_]+|0o?[0-7_]+|0x[0-9a-fA-F_]+|[0-9][0-9_]*)")
_BEYOND = 1 << 63
"""From here on a whole number is no integer of Kubernetes."""
_DIGITS_LIMIT = 100


class YamlError(Exception):
    """A text that is not what it should be: why, and on which line, where that is known."""

    def __init__(self, why: str, line: int | None = None) -> None:
        super().__init__(why)
        self.line = line


def documents(text: str) -> Iterator[tuple[Any, Any]]:
    """Each document of a text as a plain value, with its node. Raises YamlError."""
    _refuse_too_many(text)
    builder = _Builder()
    for node in _nodes(text):
        yield builder.built(node, 0), node


_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""The safe loader, in C where that is there."""


def _nodes(text: str) -> Iterator[Any]:
    try:
        loader = _Loader(text)
        while loader.check_node():
            yield loader.get_node()
    except (yaml.YAMLError, RecursionError) as error:
        _refuse_text(error)


def _refuse_too_many(text: str) -> None:
    """Count before anything is made of it: a node takes some hundred times the bytes that it is written with."""
    if len(text) <= VALUES_LIMIT:  # no value is shorter than a character
        return
    count = 0
    try:
        loader = _Loader(text)
        while loader.check_event():
            event = loader.get_event()
            count += isinstance(event, yaml.NodeEvent)
            if count > VALUES_LIMIT:
                message = f"more than {VALUES_LIMIT:,} values: split it"
                raise YamlError(message, event.start_mark.line + 1)
    except (yaml.YAMLError, RecursionError) as error:
        _refuse_text(error)


def _refuse_text(error: Exception) -> NoReturn:
    mark = getattr(error, "problem_mark", None)
    said = str(getattr(error, "problem", None) or error).splitlines()[0]
    too_deep = isinstance(error, RecursionError) or "nesting depth" in said
    why = "nested too deeply" if too_deep else f"not YAML: {said[:200]}"
    raise YamlError(why, None if mark is None else mark.line + 1) from None


def _refuse(node: Any, why: str) -> NoReturn:  # noqa: ANN401 - PyYAML's
    raise YamlError(why, node.start_mark.line + 1)


class _Builder:
    """Plain values of YAML nodes, within a budget: an alias costs what it stands for."""

    def __init__(self) -> None:
        self._left = VALUES_LIMIT

    def built(self, node: Any, depth: int) -> Any:  # noqa: ANN401
        self._spend(node, 1)
        if depth > DEPTH_LIMIT:
            _refuse(node, f"nested more than {DEPTH_LIMIT} deep")
        if isinstance(node, yaml.SequenceNode):
            return [self.built(each, depth + 1) for each in node.value]
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, depth)
        return _scalar(node)

    def _spend(self, node: Any, values: int) -> None:  # noqa: ANN401
        self._left -= values
        if self._left < 0:
            _refuse(node, f"its aliases stand for more than {VALUES_LIMIT:,} values")

    def _mapping(self, node: Any, depth: int) -> dict[str, Any]:  # noqa: ANN401
        found: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        """Of a key that several maps bring the first counts."""
        for key_node, value_node in node.value:
            value = self.built(value_node, depth + 1)
            if key_node.tag == _MERGE:
                for each in value if isinstance(value, list) else [value]:
                    if not isinstance(each, dict):
                        _refuse(value_node, "a merge (<<) takes a map or a list of maps")
                    self._spend(value_node, len(each))
                    for key, item in each.items():
                        merged.setdefault(key, item)
            else:
                found[_key(key_node)] = value
        return {**merged, **found}


def _key(node: Any) -> str:  # noqa: ANN401
    if not isinstance(node, yaml.ScalarNode):
        _refuse(node, "a key is no text")
    value = _scalar(node)
    if value is None:
        _refuse(node, "a key is null")
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _scalar(node: Any) -> Any:  # noqa: ANN401
    """The value of a text by its tag; of a tag that is not known here, the text itself."""
    text = node.value
    read = _READERS.get(node.tag.removeprefix(_TAG)) if node.tag.startswith(_TAG) else None
    if read is None:
        return text
    try:
        return read(text)
    except ValueError:
        kind = node.tag.removeprefix(_TAG)
        _refuse(node, f"{_shown(text)} is not {_CALLED[kind]} (!!{kind})")


def _shown(text: str) -> str:
    return repr(text if len(text) <= SAID_LIMIT else f"{text[:SAID_LIMIT]}...")


def _null(text: str) -> None:
    if text not in _NULLS:
        raise ValueError(text)


def _truth(text: str) -> bool:
    if text.lower() not in _TRUTH:
        raise ValueError(text)
    return _TRUTH[text.lower()]


def _whole(text: str) -> int | str:
    """An integer of 64 bits; what is larger, or counts in sixties, is the text that it is written with."""
    if re.fullmatch(r"[-+]?[0-9_]+(:[0-5]?[0-9])+", text):
        return text
    if not _WHOLE.fullmatch(text):
        raise ValueError(text)
    digits = text.replace("_", "").lower()
    if len(digits) > _DIGITS_LIMIT:
        return text
    base = 0 if re.match(r"[-+]?0[bxo]", digits) else 8 if re.match(r"[-+]?0[0-9]", digits) else 10
    number = int(digits, base)
    return number if -_BEYOND <= number < _BEYOND else text


def _number(text: str) -> float | str:
    """A float; JSON has no infinity and no NaN, so what is too large is its text, and these two are refused."""
    if ":" in text:
        return text
    digits = text.replace("_", "").lower()
    if digits.lstrip("+-") in (".inf", ".nan", "inf", "nan", "infinity"):
        raise ValueError(text)
    number = float(digits)
    return number if math.isfinite(number) else text


def _timestamp(text: str) -> str:
    """JSON has no times: a date stays the text that it is."""
    if not re.match(r"[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}", text):
        raise ValueError(text)
    return text


def _binary(text: str) -> str:
    try:
        return base64.b64decode("".join(text.split()), validate=True).decode("utf-8", "replace")
    except binascii.Error as error:
        raise ValueError(text) from error


_CALLED = {
    "null": "null",
    "bool": "true or false",
    "int": "a whole number",
    "float": "a number of JSON",
    "timestamp": "a date",
    "binary": "base64",
}
_READERS = {
    "null": _null,
    "bool": _truth,
    "int": _whole,
    "float": _number,
    "timestamp": _timestamp,
    "binary": _binary,
}
