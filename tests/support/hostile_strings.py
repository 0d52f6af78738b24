"""Texts of whoever means harm: what acts on terminals, hides from readers, breaks lines, or is run by a shell."""

import random
from collections.abc import Callable

SEED = 20261129
COUNT = 480
CANARY = "/tmp/vdscheck-canary"
"""What commands in the texts make, where anything runs them."""

_WORDS = ("eth0", "nginx", "/var/lib", "10.0.0.1", "net.core.somaxconn", "p99 17.3 ms", "Ålesund", "東京")
_C0 = "".join(map(chr, range(1, 32))) + "\x00"
_C1 = "".join(map(chr, range(0x7F, 0xA0)))
_BIDI = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f\u061c"
_HIDDEN = "\u200b\u200c\u200d\u2060\u2061\u2064\ufeff\u00ad\u034f\u115f\u3164\uffa0\ufe0f\u180e\U000e0041\U000e0020"
_MARKS = "\u0300\u0301\u0327\u0334\u0489\u20d2\u20dd\ufe20"
_BREAKS = ("\n", "\r", "\r\n", "\v", "\f", "\x85", "\u2028", "\u2029", "\x1c", "\x1d", "\x1e")
_EMOJI = (
    "\U0001f468\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466",
    "\U0001f3f3\ufe0f\u200d\U0001f308",
    "\U0001f44d\U0001f3ff",
    "\U0001f1f3\U0001f1f4",
    "\U0001f3f4\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",
    "1\ufe0f\u20e3",
)
_CSI = ("2J", "H", "31m", "1;1H", "?1049h", "6n", "?25l", "999999999C", "s", "38;2;1;2;3m", "20t", "c", "!p", ">q")
_OSC = (
    "0;owned",
    "8;;http://evil.example/",
    "52;c;cm0gLXJmIC8=",
    "4;1;rgb:ff/00/00",
    "1337;File=:AAAA",
    "9;hello",
    "777;notify;a;b",
)
_MARKUP = (
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "&lt;b&gt;&#27;[2J",
    "[bold red]x[/bold red]",
    "[link=http://evil.example]x[/link]",
    "[/]",
    "![x](http://evil.example/x.png)",
    "| a | b |\\",
    "{0} {x!r} %s %n %(a)s",
    "`x` ``` <!-- -->",
    "]]><![CDATA[",
)
_SHELL = (
    "$(touch {0})",
    "`touch {0}`",
    "; touch {0};",
    "'; touch {0} #",
    '"; touch {0} #',
    "\ntouch {0}\n",
    "x\nend\ntouch {0}",
    "| touch {0}",
    "&& touch {0} ||",
    "$((`touch {0}`))",
    "${{x:=$(touch {0})}}",
    "> {0}",
    "\\\ntouch {0}",
    "'\\''$(touch {0})'\\''",
    "x=1 \rtouch {0}",
    "end",
    "#d;w {0}",
    "-e touch {0}",
)


def strings(count: int = COUNT, seed: int = SEED) -> list[str]:
    """So many texts, of every kind as many."""
    source = random.Random(seed)
    kinds = (
        _controls, _csi, _osc, _bidi, _hidden, _marks, _emoji, _surrogates, _wide, _breaks, _markup, _shell,
    )  # fmt: skip
    return [_among_words(source, kinds[number % len(kinds)]) for number in range(count)]


def _among_words(source: random.Random, kind: Callable[[random.Random], str]) -> str:
    parts = [kind(source) for _ in range(source.randint(1, 4))] + source.choices(_WORDS, k=source.randint(0, 3))
    source.shuffle(parts)
    return source.choice(("", " ", "\t")).join(parts)


def _some(source: random.Random, letters: str, most: int = 6) -> str:
    return "".join(source.choices(letters, k=source.randint(1, most)))


def _controls(source: random.Random) -> str:
    return _some(source, _C0 + _C1)


def _csi(source: random.Random) -> str:
    return source.choice(("\x1b[", "\x9b")) + source.choice(_CSI)


def _osc(source: random.Random) -> str:
    end = source.choice(("\x07", "\x1b\\", "\x9c", ""))
    return source.choice(("\x1b]", "\x9d", "\x1bP", "\x90", "\x1b_", "\x1bX")) + source.choice(_OSC) + end


def _bidi(source: random.Random) -> str:
    return _some(source, _BIDI) + "txt.exe"


def _hidden(source: random.Random) -> str:
    return "a" + _some(source, _HIDDEN) + "b"


def _marks(source: random.Random) -> str:
    return source.choice(("", "Z")) + _some(source, _MARKS, 60)


def _emoji(source: random.Random) -> str:
    return source.choice(_EMOJI)


def _surrogates(source: random.Random) -> str:
    return chr(source.randint(0xD800, 0xDFFF)) + source.choice(("", "x", chr(source.randint(0xDC00, 0xDFFF))))


def _wide(source: random.Random) -> str:
    return source.choice("漢Ｗ﷽꧅⸻W\ue000\U000f0000\u0378") * source.choice((1, 40, 3000))


def _breaks(source: random.Random) -> str:
    return source.choice(_BREAKS) + source.choice(("FAIL     cpu.steal", "100 / 100   A", "Apply? [y/N] y", ""))


def _markup(source: random.Random) -> str:
    return source.choice(_MARKUP)


def _shell(source: random.Random) -> str:
    return source.choice(_SHELL).format(CANARY)
