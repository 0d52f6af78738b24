"""The plan of `--fix` as a POSIX shell script, for whoever wants to read it first or to run it elsewhere."""

import shlex
from collections.abc import Sequence

from vdscheck.model import DROP_IN, Finding, FixChange, Report
from vdscheck.render.safe import harmless, whole

COMMENT_LIMIT = 500
COMMAND_LIMIT = 1000

_SET = """\
# set KEY VALUE: now, and read back, since the kernel clamps and truncates in silence
set_now() {
  sysctl -q -w "$1=$2"
  # shellcheck disable=SC2046,SC2086 # field by field: blanks and tabs make no difference
  [ "$(echo $(sysctl -n "$1"))" = "$(echo $2)" ] || { echo "$1 reads back as $(sysctl -n "$1")" >&2; exit 3; }
}
"""
_KEEP = """\
# At every boot. The new file is complete before it takes the place of the old one, and its name does not
# end in .conf until then.
mkdir -p /etc/sysctl.d
new=/etc/sysctl.d/.vdscheck-new
"""
_IN_THE_TREE = """\
# It writes to the /etc of wherever it runs: not to that of the running system.
refuse() { echo "this plan is for another root: $1" >&2; exit 2; }
if [ / -ef /proc/1/root ]; then refuse "chroot TREE sh < plan; for this system: vdscheck --fix"; fi
if [ -e /proc/1 ] && ! [ -e /proc/1/root ]; then
  refuse "/proc/1/root cannot be looked at: unmount /proc below TREE, then chroot TREE sh < plan"
fi
"""


def script(report: Report) -> bytes:
    """The plan of a report; a script that says so where there is none."""
    lines = ["#!/bin/sh", *_comments(f"The plan of {report.tool.name} {report.tool.version} for {report.target.name}")]
    lines += _comments(f"made {report.run.started_at}; nothing of it has been run by writing this file.")
    if report.target.root is not None:
        lines += _comments(f"for the tree {report.target.root}: chroot TREE sh < this file")
        lines += _IN_THE_TREE.splitlines()
    record = report.fix
    if record is None:
        lines += _comments("There is no plan in this report: run it with --dry-run or --fix.")
    else:
        lines += _comments(record.detail) if record.detail else []
        for each in record.left_alone:
            lines += _comments(f"left alone: {each.key}: {each.why}")
        changes = [each for each in record.changes if _is_plain(each)]
        nothing = "Undecided: not all settings could be seen." if record.outcome == "undecided" else "Nothing to do."
        lines += _commands(changes) if changes else _comments(nothing)
    lines += _by_hand(report.findings)
    return ("\n".join(lines) + "\n").encode("utf-8")


def _is_plain(change: FixChange) -> bool:
    """Whether the values are what they seem to be: only those become commands."""
    return all(whole(text, COMMAND_LIMIT) for text in (change.key, change.wanted, change.before or ""))


def _comments(text: str) -> list[str]:
    return [f"# {harmless(text, COMMENT_LIMIT)}"]


def _commands(changes: Sequence[FixChange]) -> list[str]:
    lines = ["set -eu", "umask 022", ""]
    now = [each for each in changes if each.before is not None and each.before.split() != each.wanted.split()]
    if now:
        lines += [*_SET.splitlines(), ""]
    for each in now:
        lines += _comments(f"{each.key} is {each.before}; wanted by {each.why}")
        lines.append(f"set_now {shlex.quote(each.key)} {shlex.quote(each.wanted)}")
    kept = [each for each in changes if each.file is not None]
    if kept:
        lines += ["", *_KEEP.splitlines(), f"file={DROP_IN}"]
        patterns = " ".join(f"-e {shlex.quote(_pattern(each.key))}" for each in kept)
        # The last line that is there may lack its newline.
        lines.append(f'if [ -e "$file" ]; then sed {patterns} "$file"; echo; fi >"$new"')
        lines.append("cat >>\"$new\" <<'end'")
        lines += [f"{each.key} = {each.wanted}" for each in kept]
        lines += ["end", 'sync; mv "$new" "$file"; sync']
    lines += ["", "# To take it back:"]
    for each in now:
        lines.append(f"# sysctl -w {shlex.quote(f'{each.key}={each.before}')}")
    for each in kept:
        lines.append(f"# sed -i {shlex.quote(_pattern(each.key))} {DROP_IN}")
    return lines


def _pattern(key: str) -> str:
    return rf"\#^[-[:space:]]*{key.replace('.', '[./]')}[[:space:]]*=#d"


def _by_hand(findings: tuple[Finding, ...]) -> list[str]:
    """What only a person can do, as comments."""
    lines: list[str] = []
    for finding in findings:
        fix = finding.fix
        if fix is not None and not fix.safe:
            lines += ["", *_comments(f"by hand, {finding.name}: {fix.summary}")]
            lines += [f"#   {command}" for command in fix.commands if whole(command, COMMAND_LIMIT)]
    return lines
