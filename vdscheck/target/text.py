"""Outside bytes as text, and paths of the caller."""

import os
import re

from vdscheck.model.absence import Reason, UnavailableError, unmeasured

_HALF_A_PAIR = re.compile("[\ud800-\udc7f\udd00-\udfff]")
"""Surrogates that stand for no byte: only those from U+DC80 to U+DCFF do (PEP 383)."""


def safe_text(raw: bytes | str) -> str:
    r"""Outside bytes as text that any encoder bears: what is not UTF-8 is written as \\xNN, half a pair as \\uNNNN."""
    if isinstance(raw, str):
        raw = _HALF_A_PAIR.sub(lambda found: f"\\u{ord(found[0]):04x}", raw).encode("utf-8", "surrogateescape")
    return raw.decode("utf-8", "backslashreplace")


def not_expanded(path: str, shown: str | None = None) -> str | None:
    """Why a path that begins with ~ is refused, as it may be `shown`; None of another one.

    Neither YAML, TOML, systemd nor dash replaces it, and who owns the current folder can have one of that name.
    """
    if not path.startswith("~"):
        return None
    named = safe_text(path if shown is None else shown)
    return f"{named}: nothing has put a home folder in the place of ~: write the whole path"


def absolute(path: str) -> str:
    """A path of the caller's from the root on. Raises UnavailableError where the current folder is gone.

    ".." behind a name stays: the kernel goes up from where a link leads, which the text does not say.
    """
    try:
        here = [] if path.startswith("/") else _parts(os.getcwd())
    except FileNotFoundError as error:
        why = f"{safe_text(path)}: the current folder is gone; name the path from / on"
        raise UnavailableError(unmeasured(Reason.ERROR, why)) from error
    rest = _parts(path)
    while rest[:1] == [".."]:  # no link leads to the current folder as it is named here, nor to /
        here, rest = here[:-1], rest[1:]
    return "/" + "/".join([*here, *rest])


def _parts(path: str) -> list[str]:
    return [part for part in path.split("/") if part not in {"", "."}]
