"""The plan of `--fix` as a POSIX shell script, for whoever wants to read it first or to run it elsewhere."""

from collections.abc import Mapping, Sequence

from vdscheck.fix_kind import FixKind
from vdscheck.model.fixes import FixChange
from vdscheck.model.judgement import Finding
from vdscheck.model.report import Report
from vdscheck.render.safe import harmless, whole

COMMENT_LIMIT = 500
COMMAND_LIMIT = 1000

_IN_THE_TREE = """\
# It writes to the /etc of wherever it runs: not to that of the running system.
refuse() { echo "this plan is for another root: $1" >&2; exit 2; }
if [ / -ef /proc/1/root ]; then refuse "chroot TREE sh < plan; for this system: vdscheck --fix"; fi
if [ -e /proc/1 ] && ! [ -e /proc/1/root ]; then
  refuse "/proc/1/root cannot be looked at: unmount /proc below TREE, then chroot TREE sh < plan"
fi
"""


def script(report: Report, kinds: Mapping[str, FixKind]) -> bytes:
    """The plan of a report, of these kinds of fix; a script that says so where there is none."""
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
        changes = [each for each in record.changes if _is_plain(each) and each.kind in kinds]
        nothing = "Undecided: not all settings could be seen." if record.outcome == "undecided" else "Nothing to do."
        lines += _commands(changes, kinds) if changes else _comments(nothing)
    lines += _by_hand(report.findings)
    return ("\n".join(lines) + "\n").encode("utf-8")


def _is_plain(change: FixChange) -> bool:
    """Whether the values are what they seem to be: only those become commands."""
    return all(whole(text, COMMAND_LIMIT) for text in (change.key, change.wanted, change.before or ""))


def _comments(text: str) -> list[str]:
    return [f"# {harmless(text, COMMENT_LIMIT)}"]


def _commands(changes: Sequence[FixChange], kinds: Mapping[str, FixKind]) -> list[str]:
    """First all looks, then all changes: what ends it early has changed nothing."""
    of_kinds = [(kind, [each for each in changes if each.kind == name]) for name, kind in kinds.items()]
    parts = [(kind, mine) for kind, mine in of_kinds if mine]
    lines = ["set -eu", "umask 022", ""]
    for kind, mine in parts:
        lines += kind.script_checks(mine)
    for kind, mine in parts:
        lines += kind.script_sets(mine, _comments)
    lines += ["", "# To take it back:"]
    return lines + [f"# {line}" for kind, mine in reversed(parts) for line in kind.script_undoes(mine)]


def _by_hand(findings: tuple[Finding, ...]) -> list[str]:
    """What only a person can do, as comments."""
    lines: list[str] = []
    for finding in findings:
        fix = finding.fix
        if fix is not None and not fix.safe:
            lines += ["", *_comments(f"by hand, {finding.name}: {fix.summary}")]
            lines += [f"#   {command}" for command in fix.commands if whole(command, COMMAND_LIMIT)]
    return lines
