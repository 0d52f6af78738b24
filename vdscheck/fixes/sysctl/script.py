"""The plan of kernel settings as a POSIX shell script: looks first, sets and reads back, writes the file last."""

import shlex
from collections.abc import Callable, Sequence

from vdscheck.fixes import script_file
from vdscheck.fixes.sysctl.boot import FILE, NAME
from vdscheck.plugin import FixChange

_SET = """\
# unchanged KEY BEFORE VALUE: since the plan was made, or set already
unchanged() {
  # shellcheck disable=SC2046,SC2086 # field by field: blanks and tabs make no difference
  now=$(echo $(sysctl -n "$1"))
  # shellcheck disable=SC2086
  [ "$now" = "$(echo $2)" ] || [ "$now" = "$(echo $3)" ] || {
    echo "$1 is $now now, and was $2 when the plan was made: make a new one; nothing was changed" >&2; exit 3; }
}
# set_now KEY VALUE: and read back, since the kernel clamps and truncates in silence
set_now() {
  sysctl -q -w "$1=$2"
  # shellcheck disable=SC2046,SC2086
  [ "$(echo $(sysctl -n "$1"))" = "$(echo $2)" ] || { echo "$1 reads back as $(sysctl -n "$1")" >&2; exit 3; }
}
"""
_ROOTS_OWN = f"""\
# Whoever else can write these folders or the file decides what is set, and where this writes to.
file={FILE}
roots_own() {{
  case $(ls -ldn "$1") in ?????-??-*) [ -O "$1" ] ;; *) false ;; esac
}}
for each in / /etc /etc/sysctl.d "$file"; do
  if [ -L "$each" ] || {{ [ -e "$each" ] && ! roots_own "$each"; }}; then
    echo "somebody else than root can write $each, or it is a link: nothing was changed" >&2; exit 3
  fi
done
"""
_HIDES = f"""\
# Of the folders of sysctl.d the first one that has a name counts.
for each in /run /usr/local/lib /usr/lib /lib; do
  each=$each/sysctl.d/{NAME}
  if [ -e "$each" ] && ! [ -e "$file" ]; then
    echo "$file would keep $each from being applied at boot: nothing was changed" >&2; exit 3
  fi
done
"""
_KEEP = """\
# At every boot. The new file is complete before it takes the place of the old one, whose owner and mode it
# keeps, and its name does not end in .conf until then.
[ -d /etc/sysctl.d ] || mkdir -m 755 /etc/sysctl.d
new=/etc/sysctl.d/.vdscheck-new
rm -f "$new"
"""


def _now(changes: Sequence[FixChange]) -> list[FixChange]:
    return [each for each in changes if each.before is not None and each.before.split() != each.wanted.split()]


def checks(changes: Sequence[FixChange]) -> list[str]:
    """What ends the script before anything is changed."""
    lines: list[str] = []
    now = _now(changes)
    if any(each.file is not None for each in changes):
        lines += [*_ROOTS_OWN.splitlines(), *_HIDES.splitlines()]
        lines += [*script_file.ends_that_sed_does_not_know('"$file"'), ""]
    if now:
        lines += [*_SET.splitlines(), ""]
    lines += [" ".join(map(shlex.quote, ("unchanged", each.key, each.before or "", each.wanted))) for each in now]
    return lines


def sets(changes: Sequence[FixChange], comment: Callable[[str], list[str]]) -> list[str]:
    """What sets and persists them."""
    lines: list[str] = []
    for each in _now(changes):
        lines += comment(f"{each.key} is {each.before}; wanted by {each.why}")
        lines.append(f"set_now {shlex.quote(each.key)} {shlex.quote(each.wanted)}")
    kept = [each for each in changes if each.file is not None]
    if kept:
        lines += ["", *_KEEP.splitlines()]
        lines += script_file.merged('"$file"', '"$new"', [(_line(each), _pattern(each.key)) for each in kept])
        lines.append("cat >>\"$new\" <<'end'")
        lines += [_line(each) for each in kept]
        lines += ["end", 'sync; mv "$new" "$file"; sync']
    return lines


def undoes(changes: Sequence[FixChange]) -> list[str]:
    """What takes them back."""
    lines = [f"sysctl -w {shlex.quote(f'{each.key}={each.before}')}" for each in _now(changes)]
    kept = [each for each in changes if each.file is not None]
    return lines + [script_file.undone(FILE, _line(each), _pattern(each.key)) for each in kept]


def _line(change: FixChange) -> str:
    return f"{change.key} = {change.wanted}"


def _pattern(key: str) -> str:
    return rf"[-[:space:]]*{key.replace('.', '[./]')}[[:space:]]*="
