"""Shell lines that change a file of settings, and take that back: a line that is replaced is set aside in its place."""

import shlex
from collections.abc import Iterable

ASIDE = "# before vdscheck: "
"""What stands before a line that was replaced: a comment in sysctl.d and in tmpfiles.d."""


def ends_that_sed_does_not_know(file: str) -> list[str]:
    """What ends the script where lines end in something else than a newline: sed would take several for one."""
    name = file.strip('"')
    why = f"lines of {name} end in CR or NUL, which sed does not know: vdscheck --fix; nothing was changed"
    return [
        f"if [ -e {file} ] && [ \"$(tr -dc '\\r\\000' <{file} | wc -c)\" -ne 0 ]; then",
        f'  echo "{why}" >&2; exit 3',
        "fi",
    ]


def merged(file: str, new: str, replaced: Iterable[tuple[str, str]]) -> list[str]:
    """What begins the new file: the old one, without a line of ours, and with those of the patterns set aside.

    Each is a line of ours and the pattern of those that it takes the place of, neither of which has a `|`.
    """
    edits = [edit for line, pattern in replaced for edit in (_without(line), f"s|^{pattern}|{ASIDE}&|")]
    return [
        f"if [ -e {file} ]; then",
        f"  cp -p {file} {new}",
        # The last line that is there may lack its newline.
        f"  LC_ALL=C sed {_script(edits)} {file} >{new}; echo >>{new}",
        "else",
        f"  : >{new}; chmod 644 {new}",
        "fi",
    ]


def undone(file: str, line: str, pattern: str) -> str:
    """What takes our line out, and gives back those that were set aside for it."""
    back = rf"s|^{ASIDE}\({pattern}\)|\1|"
    return f"LC_ALL=C sed -i {_script([_without(line), back])} {file}"


def _without(line: str) -> str:
    plain = line.translate({ord(each): f"\\{each}" for each in r"\.[]*^$"})
    return rf"\|^{plain}$|d"


def _script(edits: Iterable[str]) -> str:
    return " ".join(f"-e {shlex.quote(each)}" for each in edits)
