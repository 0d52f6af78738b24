"""The mode of transparent huge pages: set below /sys, persisted by a line of tmpfiles.d."""

import os
import re
import shlex
import stat
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from vdscheck.fixes import by_hand, script_file
from vdscheck.measurements import HugePages, HugePagesAtBoot, KernelOwner, LateWriter
from vdscheck.plugin import AtBoot, FixChange, FixKind, Host, Measurements, Restored, SettingFix, Surroundings

if TYPE_CHECKING:
    from vdscheck.fixes.settings_file import Syntax

KEY = "transparent_hugepage.enabled"
SETTING = "/sys/kernel/mm/transparent_hugepage/enabled"
FOLDER, NAME = "/etc/tmpfiles.d", "90-vdscheck.conf"
FILE = f"{FOLDER}/{NAME}"
HEADER = (
    b"# Written by vdscheck --fix. To take the latest change back: vdscheck undo\n"
    b"# What stood here before, and each value that was replaced: /var/lib/vdscheck/journal/\n"
)
SHOWN_LIMIT = 3
_NEVER_WAITS = os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
_CHECKS = f"""\
# Of all lines of tmpfiles.d for one path the first name counts; who else can write the folders decides what is set.
pages={SETTING}
pages_file={FILE}
pages_own() {{
  case $(ls -ldn "$1") in ?????-??-*) [ -O "$1" ] ;; *) false ;; esac
}}
for each in / /etc {FOLDER} "$pages_file"; do
  if [ -L "$each" ] || {{ [ -e "$each" ] && ! pages_own "$each"; }}; then
    echo "somebody else than root can write $each, or it is a link: nothing was changed" >&2; exit 3
  fi
done
pages_are() {{ case "$(cat "$pages")" in *"[$1]"*) ;; *) false ;; esac; }}
"""


class HugePageMode(FixKind):
    """`always`, `madvise` or `never`, in /sys/kernel/mm/transparent_hugepage/enabled."""

    name = "huge-pages"
    key_pattern = re.escape(KEY)
    file = FILE
    boot = HugePagesAtBoot
    deciding: ClassVar[Mapping[type, str]] = {
        HugePages: "the mode of transparent huge pages",
        HugePagesAtBoot: "what the mode of transparent huge pages will be after the next boot",
        KernelOwner: "whose kernel this is",
    }
    whole = (HugePages, HugePagesAtBoot)
    page_fix = ("vdscheck --fix --only {check}", f"echo MODE > {SETTING}", f"echo 'w {SETTING} - - - - MODE' >> {FILE}")
    page_undo = ("vdscheck undo", f"echo OLD > {SETTING}", f"rm {FILE}")

    def __init__(self, setting: str = SETTING) -> None:
        self._setting = setting

    # For people

    def summary(self, setting: SettingFix) -> str:
        """What a proposed change does."""
        return f"set transparent huge pages to {setting.value}, {by_hand.when(setting)}"

    def commands(self, setting: SettingFix) -> tuple[str, ...]:
        """The same by hand."""
        return by_hand.commands(setting, _echo(setting.value), _spelled(setting.value), FILE)

    def undo(self, setting: SettingFix) -> tuple[str, ...]:
        """What takes it back by hand."""
        now = None if setting.before is None else _echo(setting.before)
        return by_hand.undo(setting, now, _spelled(setting.value), FILE)

    # A plan

    def same(self, first: str | None, second: str | None) -> bool:
        """Whether two values are one mode."""
        return first is not None and first == second

    def now(self, key: str, here: Surroundings) -> str | None:
        """The mode as it was measured."""
        pages = here.of(HugePages) if key == KEY and not here.image else None
        return None if pages is None else pages.enabled

    def why_not(self, key: str, here: Surroundings) -> str | None:
        """Why it is not ours to set."""
        boot, owner = here.of(HugePagesAtBoot), here.of(KernelOwner)
        if key != KEY or boot is None:
            return "what it will be after the next boot is not known"
        if owner is None and not here.image:
            return "whose kernel this is could not be told"
        if owner is not None and not owner.ours:
            return (
                f"the kernel is not this machine's own ({', '.join(owner.clues[:SHOWN_LIMIT])}): ask who runs the host"
            )
        if boot.not_applied is not None:
            return boot.not_applied
        if not here.image and self.now(key, here) is None:
            return "it does not exist now, or cannot be read"
        return None

    def lasts(self, key: str, wanted: str, boot: HugePagesAtBoot | None) -> str | None:
        """Why the mode will not be what is wanted after that next boot; None where it will."""
        if boot is None or key != KEY:
            return "what it will be after the next boot is not known"
        writers = _writers(boot)
        for writer in writers:
            if writer.values.get(KEY) != wanted:
                sets = f"sets it to {writer.values[KEY]}" if KEY in writer.values else "may set it"
                return f"{writer.name} {sets} after each boot: let that say {wanted} ({writer.file})"
        if writers or boot.value == wanted:
            return None
        if boot.value is None:
            return f"what it will be after the next boot is not known: {boot.where}"
        return f"{boot.where} sets it to {boot.value}: let that line say {wanted}"

    def at_boot(self, key: str, boot: HugePagesAtBoot) -> AtBoot | None:
        """What that next boot makes of it."""
        return AtBoot(*boot.in_the_end) if key == KEY else None

    def foreseen(self, before: HugePagesAtBoot, after: HugePagesAtBoot, keys: Collection[str]) -> HugePagesAtBoot:
        """The next boot as foreseen, where it is set."""
        return after if KEY in keys else before

    def supposed(self, here: Measurements, values: Mapping[str, str], boot: HugePagesAtBoot | None) -> Measurements:
        """The measurements as they would be with that mode, and with that next boot."""
        found = dict(here)
        for name, each in here.items():
            if isinstance(each.value, HugePages) and KEY in values:
                found[name] = replace(each, value=replace(each.value, enabled=values[KEY]))
            elif isinstance(each.value, HugePagesAtBoot) and boot is not None:
                found[name] = replace(each, value=boot)
        return found

    def moved(self, before: Measurements, after: Measurements, keys: Collection[str]) -> Measurements:
        """What a change can have moved as it is after it."""
        if KEY not in keys:
            return before
        return {name: after[name] if self._is_whole(before, after, name) else each for name, each in before.items()}

    def _is_whole(self, before: Measurements, after: Measurements, name: str) -> bool:
        values = [each[name].value for each in (before, after) if name in each]
        return name in after and any(isinstance(value, self.whole) for value in values)

    def holds(self, measurement: type, keys: Collection[str]) -> bool:
        """Whether a measurement of that type holds the mode."""
        return KEY in keys and measurement in self.whole

    # The file

    def merged(self, content: bytes | None, settings: Mapping[str, str]) -> bytes:
        """The content of our file with the mode."""
        from vdscheck.fixes import settings_file

        return settings_file.merged(_syntax(), content, settings)

    def restored(self, now: bytes | None, before: bytes | None, after: bytes) -> Restored:
        """What the content was before, three-way."""
        from vdscheck.fixes import settings_file

        return settings_file.restored(_syntax(), now, before, after)

    def says(self, content: bytes | None, keys: Iterable[str]) -> dict[str, str]:
        """What the content sets it to: of several lines the first counts."""
        lines = [line for line in (content or b"").splitlines() if _keys(line)]
        words = _value(lines[0]) if lines else []
        return {KEY: b" ".join(words).decode("utf-8", "replace")} if KEY in keys and words else {}

    def hidden_by(self, host: Host) -> str | None:
        """Another file of that name in a later folder: the first folder that has a name counts (tmpfiles.d(5))."""
        from vdscheck.linux.tmpfiles_d import FOLDERS

        paths = (f"{folder}/{NAME}" for folder in FOLDERS if folder != FOLDER)
        return next(filter(host.exists, paths), None)

    # A plan as a shell script

    def script_checks(self, changes: Sequence[FixChange]) -> list[str]:
        """What ends the script before anything is changed."""
        lines = [*_CHECKS.splitlines(), *script_file.ends_that_sed_does_not_know('"$pages_file"')]
        for each in changes:
            if each.before is not None:
                before, wanted = shlex.quote(each.before), shlex.quote(each.wanted)
                said = shlex.quote(
                    f"transparent huge pages are not {each.before} any more: make a new plan; nothing was changed"
                )
                lines.append(f"pages_are {before} || pages_are {wanted} || {{ echo {said} >&2; exit 3; }}")
        return lines

    def script_sets(self, changes: Sequence[FixChange], comment: Callable[[str], list[str]]) -> list[str]:
        """What sets and persists it."""
        lines: list[str] = []
        for each in changes:
            wanted = shlex.quote(each.wanted)
            lines += comment(f"transparent huge pages are {each.before}; wanted by {each.why}")
            if each.before is not None:
                lines.append(f'echo {wanted} >"$pages"; pages_are {wanted} || {{ echo "not set" >&2; exit 3; }}')
            if each.file is not None:
                lines += [
                    f"[ -d {FOLDER} ] || mkdir -m 755 {FOLDER}",
                    f"pages_new={FOLDER}/.vdscheck-new",
                    'rm -f "$pages_new"',
                    *script_file.merged('"$pages_file"', '"$pages_new"', [(_spelled(each.wanted), _PATTERN)]),
                    f'echo {shlex.quote(_spelled(each.wanted))} >>"$pages_new"',
                    'sync; mv "$pages_new" "$pages_file"; sync',
                ]
        return lines

    def script_undoes(self, changes: Sequence[FixChange]) -> list[str]:
        """What takes it back."""
        lines: list[str] = []
        for each in changes:
            lines += [] if each.before is None else [_echo(each.before)]
            lines += [] if each.file is None else [script_file.undone(FILE, _spelled(each.wanted), _PATTERN)]
        return lines

    # The running kernel

    def path(self, key: str) -> str:
        """The file of the mode."""
        if key != KEY:
            message = f"{key!r} is no key"
            raise OSError(message)
        return self._setting

    def seen(self, key: str) -> str | None:
        """The mode that is chosen."""
        try:
            descriptor = os.open(self.path(key), os.O_RDONLY | _NEVER_WAITS)
        except (FileNotFoundError, NotADirectoryError):
            return None
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                message = "something else than a setting has its name"
                raise OSError(message)
            found = re.search(rb"\[([a-z+]+)\]", os.read(descriptor, 4096))
        finally:
            os.close(descriptor)
        return found[1].decode() if found else ""

    def write(self, key: str, value: str) -> None:
        """Choose a mode."""
        descriptor = os.open(self.path(key), os.O_WRONLY | _NEVER_WAITS)
        try:
            os.write(descriptor, value.encode())
        finally:
            os.close(descriptor)


_PATTERN = rf"[[:space:]]*w[^[:space:]]*[[:space:]][[:space:]]*{SETTING}[[:space:]]"


def _writers(boot: HugePagesAtBoot) -> list[LateWriter]:
    return [writer for writer in boot.late_writers if writer.enabled and KEY in writer.keys]


def _syntax() -> "Syntax":
    from vdscheck.fixes.settings_file import Syntax

    return Syntax(HEADER, _lines, _keys, _value, _line, str.encode, bytes.decode)


def _lines(content: bytes) -> list[bytes]:
    return [line if line.endswith(b"\n") else line + b"\n" for line in content.splitlines(keepends=True)]


def _keys(line: bytes) -> list[bytes]:
    """The key, where a line writes the file of the mode."""
    words = line.split(None, 6)
    return [KEY.encode()] if len(words) > 1 and words[0][:1] == b"w" and words[1] == SETTING.encode() else []


def _value(line: bytes) -> list[bytes]:
    words = line.split(None, 6)
    return words[6].split() if len(words) > 6 else []  # noqa: PLR2004 - the argument, behind six fields


def _line(key: str, value: str) -> bytes:
    assert key == KEY  # noqa: S101 - there is no other
    return f"{_spelled(value)}\n".encode()


def _spelled(value: str) -> str:
    """The line of tmpfiles.d(5) that sets the mode at every boot."""
    return f"w {SETTING} - - - - {value}"


def _echo(value: str) -> str:
    return f"echo {shlex.quote(value)} > {SETTING}"


huge_page_mode = HugePageMode()
