"""Text from outside made harmless."""

import json
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vdscheck.render.safe import harmless, json_document, to_ascii, whole

ANY_TEXT = st.text(st.characters(exclude_categories=()))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("", ""),
        ("a\nb\r\n", r"a\nb\r\n"),
        ("\x1b[31mred", r"\x1b[31mred"),
        ("\x9b31m", r"\x9b31m"),
        ("\x7f\x00\t", r"\x7f\x00\t"),
        ("\u202eevil\u202c \u2066x\u2069 \u200e\u200f\u061c", r"\u202eevil\u202c \u2066x\u2069 \u200e\u200f\u061c"),
        ("\u2028\u2029", r"\u2028\u2029"),
        ("a\u200bb\ufeff\u2060\u00ad", r"a\u200bb\ufeff\u2060\xad"),
        ("\ud800", r"\ud800"),
        ("\U000e0041", r"\U000e0041"),
        ("[red]markup[/red]", "[red]markup[/red]"),
        ("Ålesund 東京 ü", "Ålesund 東京 ü"),
        ("e\u0301", "e\u0301"),
        ("e\u0301\u0301\u0301", "e\u0301\u0301\\u0301"),
        ("\u0301e", "\\u0301e"),
        ("\u3164\u115f\ufe0f", r"\u3164\u115f\ufe0f"),
    ],
)
def test_what_acts_on_a_terminal_or_hides_is_shown_as_its_escape(text: str, shown: str) -> None:
    assert harmless(text) == shown


@given(ANY_TEXT, st.integers(0, 80))
def test_nothing_that_acts_is_left_and_the_limit_holds(text: str, limit: int) -> None:
    shown = harmless(text, limit)
    assert not {unicodedata.category(character) for character in shown} & {"Cc", "Cf", "Zl", "Zp", "Cs", "Co", "Cn"}
    assert len(shown) <= max(limit, 1)


@given(ANY_TEXT)
def test_what_is_harmless_stays_as_it_is(text: str) -> None:
    shown = harmless(text)
    assert harmless(shown) == shown


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126)))
def test_ascii_is_never_touched(text: str) -> None:
    assert harmless(text, len(text)) == text
    assert whole(text, len(text))


def test_what_is_cut_ends_in_an_ellipsis_and_never_within_an_escape() -> None:
    assert harmless("abcdef", 4) == "abc…"
    assert harmless("ab\x1bcd", 5) == "ab…"
    assert harmless("abcd", 4) == "abcd"
    assert harmless("x" * 10_000_000, 10) == "x" * 9 + "…"


@pytest.mark.parametrize("text", ["rm x\ny", "x" * 11, "\x1b[2K", "a\u200bb"])
def test_a_command_that_would_be_shown_differently_is_not_whole(text: str) -> None:
    assert not whole(text, 10)


@given(ANY_TEXT)
def test_without_utf8_everything_is_ascii(text: str) -> None:
    assert to_ascii(harmless(text)).isascii()


def test_our_own_signs_have_an_ascii_form() -> None:
    assert to_ascii("█░ · … \u2013 ≤ µs \u00d7 →") == "#. - ... - <= us x ->"


@pytest.mark.parametrize(
    ("text", "encoded"),
    [
        ("plain", '"plain"'),
        ("Ålesund 東京 e\u0301 🙂", '"Ålesund 東京 e\u0301 🙂"'),
        ("\x9b2J\x7f", r'"\u009b2J\u007f"'),
        ("\u202e\u2066\u200e\u061c", r'"\u202e\u2066\u200e\u061c"'),
        ("\u2028\u2029", r'"\u2028\u2029"'),
        ("a\u200bb\ufeff", r'"a\u200bb\ufeff"'),
        ("\U000e0041", r'"\udb40\udc41"'),
        ("\\\u202e", r'"\\\u202e"'),
        ("e\u0301\u0301\u0301", '"e\u0301\u0301\\u0301"'),
        ("\u0301", r'"\u0301"'),
    ],
)
def test_json_escapes_what_acts_and_nothing_else(text: str, encoded: str) -> None:
    assert json_document(json.dumps(text, ensure_ascii=False).encode()).decode() == encoded


ENCODABLE = st.text(st.characters(codec="utf-8"))


@given(st.dictionaries(ENCODABLE, ENCODABLE))
def test_json_decodes_to_the_same_text_and_has_nothing_that_acts(value: dict[str, str]) -> None:
    document = json_document(json.dumps(value, ensure_ascii=False).encode()).decode()
    assert json.loads(document) == value
    assert not {unicodedata.category(character) for character in document} & {"Cc", "Cf", "Zl", "Zp", "Cn", "Co"}
