"""Carries out a plan, and gives back what one replaced: three-way, so that nobody else's change is trampled."""

import errno
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import field, replace
from functools import partial
from typing import Any

from vdscheck.fix.files import (
    PERMISSIONS,
    SETTINGS_LIMIT_BYTES,
    File,
    FixError,
    Folder,
    NoRoomError,
    NotAFileError,
    made,
    opened,
    refused,
    unmade,
)
from vdscheck.fix.journal import FORMAT, Entry, Journal, KeptFile, Replaced, State, Written
from vdscheck.fix.plan import Foresee, Kinds, Name, Plan
from vdscheck.fix_kind import FixKind, Restored
from vdscheck.linux import ownership
from vdscheck.linux.mounts import covering, mounts
from vdscheck.model.absence import UnavailableError
from vdscheck.model.fixes import FixChange, LeftAlone
from vdscheck.model.records import frozen
from vdscheck.process import standing
from vdscheck.process.guard import LostChildError, NoAnswerError, in_child
from vdscheck.process.signals import deaf, interrupted
from vdscheck.target.host import Host, NotFoundError, network_namespace_cookie

FILE_MODE = 0o644
OTHERS_WRITE = 0o022
GIVE_BACK_LIMIT_S = 20.0
"""How long a fix that was interrupted, or does not hold, may take to give back what it changed."""
AGAIN = "`vdscheck undo` tries again"
GIVES_BACK = "`vdscheck undo` gives it back"
BOOT_ID = "/proc/sys/kernel/random/boot_id"
NAMESPACE = "/proc/self/ns/net"
NAMESPACE_OF_PID_1 = "/proc/1/ns/net"


class ChangedMeanwhileError(Exception):
    """Something is not as it was when the plan was made; nothing was written."""


class NotBegunError(FixError):
    """Nothing was given back, and nothing was looked at."""


class GivenBackError(FixError):
    """What was changed has been given back; `left` is what somebody changed meanwhile."""

    def __init__(self, why: str, entry: Entry, left: tuple[LeftAlone, ...]) -> None:
        super().__init__(why)
        self.entry, self.left = entry, left


@frozen
class Desk:
    """What a transaction works on."""

    host: Host
    live: bool
    """Whether there is a running system to set: not below --root."""
    version: str
    kinds: Kinds
    foresee: Foresee | None = None
    """What tells the next boot with another content of a kind's file; without it what an entry says of it counts."""

    @property
    def boot_id(self) -> str | None:
        """The id of this boot; None where nothing runs, or it is not to be had."""
        if not self.live:
            return None
        try:
            found = self.host.read(BOOT_ID).strip()
        except UnavailableError:
            return None
        return found if re.fullmatch("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", found) else None

    @property
    def namespace(self) -> str:
        """The network namespace whose settings are set, as `net:[INODE]#COOKIE`; "" where nothing runs, or it hides.

        The kernel gives the number of one that is gone to the next one, but never its cookie (Linux 5.14).
        """
        try:
            link = self.host.link(NAMESPACE) if self.live else ""
        except UnavailableError:
            return ""
        cookie = network_namespace_cookie() if link else None
        return link if cookie is None else f"{link}#{cookie}"

    @property
    def is_in_the_hosts_network(self) -> bool | None:
        """Whether this is the network namespace of PID 1; None where that cannot be told."""
        try:
            return self.host.link(NAMESPACE) == self.host.link(NAMESPACE_OF_PID_1)
        except UnavailableError:
            return None

    @property
    def made_in(self) -> str | None:
        """This boot and this network namespace, as an entry keeps them."""
        return None if self.boot_id is None else f"{self.boot_id} {self.namespace}".rstrip()

    def now(self, kind: str, key: str) -> str | None:
        """A setting of the running system."""
        return self.kinds[kind].read(key) if self.live else None

    def file(self, kind: FixKind) -> File | None:
        """The file of a kind as it is. Raises FixError, also where somebody else can write it."""
        parent, name = folder_of(kind), name_of(kind)
        try:
            folder = opened(self.host, parent)
            if folder is None:
                return None
            try:
                return _ours_alone(folder.file(name, SETTINGS_LIMIT_BYTES), kind.file)
            finally:
                folder.close()
        except NotAFileError as error:
            message = f"{error}, and not what vdscheck writes: move it away"
            raise FixError(message) from error
        except OSError as error:
            message = f"{kind.file}: {error.strerror}"
            raise FixError(message) from error


def folder_of(kind: FixKind) -> str:
    """The folder of the file of a kind."""
    return kind.file.rpartition("/")[0]


def name_of(kind: FixKind) -> str:
    """The name of that file within it."""
    return kind.file.rpartition("/")[2]


def _ours_alone(file: File | None, path: str) -> File | None:
    """A file that nobody else can write: whoever can sets the settings of this system. Raises FixError."""
    if file is None or (file.uid in (0, os.geteuid()) and not file.mode & OTHERS_WRITE):
        return file
    why = "can be written by others" if file.uid in (0, os.geteuid()) else f"belongs to user {file.uid}"
    message = f"{path} {why}: look at it, then chown root: and chmod 644 it, or move it away"
    raise FixError(message)


# Applying


def apply(
    plan: Plan, desk: Desk, journal: Journal, contents: Mapping[str, bytes | None], stopped: Callable[[], bool]
) -> Entry:
    """Set what is planned, and read it back; `contents` is what the files held when the plan was made, by kind.

    Returns the journal entry, still in the state "begun". Raises ChangedMeanwhileError and FixError
    before anything is written, and GivenBackError after.
    """
    if desk.live and desk.boot_id is None:
        message = f"{BOOT_ID} cannot be read, so undo could not tell whether this boot still runs: look at /proc"
        raise FixError(message)
    before = {name: desk.file(kind) for name, kind in desk.kinds.items()}
    _still_so(plan, desk, before, contents)
    why = hides(plan, desk)
    if why is not None:
        raise FixError(why)
    written = [desk.kinds[name] for name in plan.contents]
    for kind in written:
        _room(desk, kind, plan.contents[kind.name])
    entry = journal.begin(
        lambda name, number: _entry(plan, desk, before, name, number),
        time.strftime("%Y%m%d", time.gmtime()),
        is_open=all(_is_open(desk, kind, before[kind.name]) for kind in desk.kinds.values()),
    )
    standing.note(f"fix {entry.id} was begun, and is not known to hold: {GIVES_BACK}")
    with giving_back(entry, desk, journal):
        _carry_out(entry, desk, stopped)
    return entry


@contextmanager
def giving_back(entry: Entry, desk: Desk, journal: Journal) -> Iterator[None]:
    """What fails in here gives everything back: as a GivenBackError, or as the bug that it is."""
    try:
        yield
    except FixError as error:
        raise _reverted(str(error), entry, desk, journal) from error
    except BaseException:
        _reverted("a bug", entry, desk, journal)
        raise


def _carry_out(entry: Entry, desk: Desk, stopped: Callable[[], bool]) -> None:
    _look(stopped)
    for each in entry.settings:
        if each.now and each.moved_by is None:
            _set(desk, each)
            _look(stopped)
    for written in entry.files:
        _write(desk, desk.kinds[written.kind], written.after.file())
        _look(stopped)


def _reverted(why: str, entry: Entry, desk: Desk, journal: Journal) -> FixError:
    """Give back all that was changed, within a time of its own; the error to raise."""
    try:
        with deaf():
            done = in_child(
                lambda: give_back(entry, desk, journal, "given-back"),
                GIVE_BACK_LIMIT_S,
                keeps=(*journal.descriptors, *desk.host.descriptors),
                stopped=lambda: False,
            )
    except FixError as error:
        standing.note(f"of fix {entry.id} not all could be given back: {AGAIN}")
        return GivenBackError(f"{why}; and not all could be given back: {error}; {AGAIN}", entry, ())
    except (NoAnswerError, LostChildError) as error:
        standing.note(f"of fix {entry.id} not all could be given back, or not be noted: {AGAIN}")
        left = list(_not_back(entry, desk))
        what = "what was changed could not be given back" if left else "all of it is as it was, and could not be noted"
        return GivenBackError(f"{why}; {'; '.join([f'{what}: {error.strerror}', *left])}; {AGAIN}", entry, ())
    standing.note(f"fix {entry.id} was given back")
    return GivenBackError(why if done.untold is None else f"{why}; {done.untold}", entry, done.left)


def _not_back(entry: Entry, desk: Desk) -> Iterator[str]:
    """What is not as it was before, or may not be."""
    for each in entry.settings:
        if each.now and not desk.kinds[each.kind].same(desk.now(each.kind, each.key), each.before):
            yield f"{each.key} is not {each.before}"
    for kind in dict.fromkeys(name.kind for name in sorted(still_ours(entry, desk))):
        yield f"{desk.kinds[kind].file} is, or may be, as the fix wrote it"


def _still_so(plan: Plan, desk: Desk, before: Mapping[str, File | None], contents: Mapping[str, bytes | None]) -> None:
    for name, file in before.items():
        if (None if file is None else file.content) != contents.get(name):
            message = f"{desk.kinds[name].file} was changed by somebody"
            raise ChangedMeanwhileError(message)
    for change in plan.changes:
        if not desk.live:
            continue
        now = desk.now(change.kind, change.key)
        if now is None:
            message = f"{change.key} does not exist any more, or cannot be read"
            raise ChangedMeanwhileError(message)
        if not desk.kinds[change.kind].same(now, change.before):
            message = f"{change.key} is {now} now, and was {change.before} when the plan was made"
            raise ChangedMeanwhileError(message)


def _entry(plan: Plan, desk: Desk, before: Mapping[str, File | None], name: str, number: int) -> Entry:
    files = []
    for kind, content in plan.contents.items():
        was = before[kind]
        kept = was or File(b"", FILE_MODE, os.geteuid(), os.getegid())
        after = KeptFile.of(replace(kept, content=content))
        files.append(Written(kind, None if was is None else KeptFile.of(was), after))
    return Entry(
        format=FORMAT,
        id=name,
        number=number,
        state="begun",
        version=desk.version,
        at=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        boot_id=desk.made_in,
        settings=tuple(setting for change in plan.changes for setting in _replaced(change, desk)),
        files=tuple(files),
        folders=tuple(dict.fromkeys(folder for each in files for folder in _missing(desk, each.kind))),
        packages={kind: package_of(desk.kinds[kind]) for kind in sorted({change.kind for change in plan.changes})},
    )


def _replaced(change: FixChange, desk: Desk) -> Iterator[Replaced]:
    """A change, and before it what the system changes along with it: so that it comes back after it."""
    kind = desk.kinds[change.kind]
    now = desk.live and not kind.same(change.before, change.wanted)
    try:
        moved = kind.moves(change.key, change.wanted) if now else {}
        for key, value in moved.items():
            if not re.fullmatch(kind.key_pattern, key):
                message = f"{change.key} is left: the change of {key}, which it brings, could not be taken back"
                raise FixError(message)
            yield Replaced(kind.name, key, kind.seen(key), None, value, now=True, in_file=False, moved_by=change.key)
    except OSError as error:
        message = f"what a change of {change.key} brings cannot be read: {error.strerror or error}"
        raise FixError(message) from error
    yield Replaced(
        change.kind,
        change.key,
        change.before,
        change.at_boot,
        change.wanted,
        now=now,
        in_file=change.file is not None,
    )


def package_of(kind: FixKind) -> str:
    """The package that brings a kind."""
    return type(kind).__module__.partition(".")[0]


def _missing(desk: Desk, name: str) -> tuple[str, ...]:
    """The folder of a kind's file, where it is not there. Raises FixError."""
    path = folder_of(desk.kinds[name])
    try:
        folder = opened(desk.host, path)
    except OSError as error:
        message = f"{path}: {error.strerror}"
        raise FixError(message) from error
    if folder is None:
        return (path,)
    folder.close()
    return ()


def hides(plan: Plan, desk: Desk) -> str | None:
    """Why a file of ours, made anew, would take the place of another one, whose lines no boot would apply then."""
    for kind in map(desk.kinds.__getitem__, plan.contents):
        other = None if desk.host.exists(kind.file) else kind.hidden_by(desk.host)
        if other is not None:
            return f"{kind.file} would keep {other} from being applied at boot: give that file another name"
    return None


def _is_open(desk: Desk, kind: FixKind, file: File | None) -> bool:
    """Whether everybody may read the file of a kind: also its folder counts."""
    if file is None:
        return True
    folder = opened(desk.host, folder_of(kind)) if file.is_open else None
    if folder is None:
        return file.is_open
    try:
        return folder.is_open
    finally:
        folder.close()


def _room(desk: Desk, kind: FixKind, content: bytes) -> None:
    """See that a file can be written: a full disk ends a fix before anything is changed. Raises NoRoomError."""
    path = folder_of(kind)
    if len(content) > SETTINGS_LIMIT_BYTES:
        message = f"{kind.file} would be larger than {SETTINGS_LIMIT_BYTES:,} bytes: take lines out"
        raise FixError(message)
    try:
        folder = opened(desk.host, path) or opened(desk.host, path.rpartition("/")[0])
        if folder is None:
            return
        try:
            folder.tidy()
            full = folder.is_full(len(content))
        finally:
            folder.close()
    except OSError as error:
        message = f"{path}: {error.strerror}"
        raise FixError(message) from error
    if full:
        message = f"{kind.file} cannot be written: {os.strerror(errno.ENOSPC)}"
        raise NoRoomError(message)


def _look(stopped: Callable[[], bool]) -> None:
    if stopped():
        message = "interrupted"
        raise FixError(message)


def _set(desk: Desk, setting: Replaced) -> None:
    """Write a setting and read it back: the kernel clamps and truncates in silence."""
    key, wanted, kind = setting.key, setting.wanted, desk.kinds[setting.kind]
    try:
        kind.write(key, wanted)
    except OSError as error:
        message = f"{key} cannot be set to {wanted}: {error.strerror or error}"
        raise FixError(message) from error
    found = kind.read(key)
    if kind.same(found, wanted):
        return
    if found is not None and setting.before is not None:
        # What the kernel made of it would look like somebody else's value to whoever gives it back.
        _set_back(kind, key, setting.before)
    message = f"{key} was set to {wanted} and reads back as {'nothing' if found is None else found}"
    raise FixError(message)


def _as_it_is(file: File, content: bytes) -> File:
    """Another content for a file: whoever may read it now, and nobody else, may read it then."""
    return replace(file, content=content, mode=file.mode & PERMISSIONS)


def _write(desk: Desk, kind: FixKind, file: File) -> None:
    name = name_of(kind)
    try:
        folder, _ = made(desk.host, folder_of(kind))
        try:
            now = folder.file(name)
            folder.write(name, file if now is None else _as_it_is(now, file.content))
        finally:
            folder.close()
    except OSError as error:
        message = f"{kind.file} cannot be written: {refused(error)}"
        raise FixError(message) from error


# Giving back


@frozen
class GivenBack:
    """What came of giving back an entry."""

    entry: Entry
    left: tuple[LeftAlone, ...]
    """What somebody changed since: it stays."""
    untold: str | None
    """Why the journal still says that it is to be given back; None where it does not."""
    wanted: Mapping[Name, str | None] = field(default_factory=dict)
    """What each setting was to be without the fix; None where that is not known."""


def give_back(
    entry: Entry, desk: Desk, journal: Journal, state: State, wanted: Mapping[Name, str | None] | None = None
) -> GivenBack:
    """Give back all that an entry replaced, and write that it is so; what somebody changed since is left, and named.

    Doing it again does no harm: so a full disk, which has no room for what the journal should say, stops
    nothing. Raises FixError when something cannot be given back: then the entry stays as it was, and the
    next run tries again. A signal that comes meanwhile is heard after it: half of it would be left.
    """
    if wanted is None:
        wanted = _without_the_fix(entry, desk)
    with deaf():
        return _all_given_back(entry, desk, journal, state, wanted)


def _all_given_back(
    entry: Entry, desk: Desk, journal: Journal, state: State, wanted: Mapping[Name, str | None]
) -> GivenBack:
    left: list[LeftAlone] = []
    failed: list[FixError] = []
    # The values first, since no disk is asked for them; and each part also where another cannot be given back.
    parts: Sequence[Callable[[], list[LeftAlone]]] = (
        partial(_values_back, entry, desk, wanted),
        partial(_files_back, entry, desk),
    )
    for part in parts:
        try:
            left += part()
        except FixError as error:
            failed.append(error)
    _raise_all(failed)
    try:
        entry = journal.advance(entry, state)
    except NoRoomError as error:
        why = f"{error}: all the same it is done; run vdscheck undo once more when there is room, so that it is noted"
        return GivenBack(entry, tuple(left), why, wanted)
    return GivenBack(entry, tuple(left), None, wanted)


def _raise_all(failed: Sequence[FixError]) -> None:
    """One error for all that could not be given back, each of it named."""
    if len(failed) > 1:
        raise FixError("; ".join(map(str, failed))) from failed[0]
    if failed:
        raise failed[0]


def _files_back(entry: Entry, desk: Desk) -> list[LeftAlone]:
    left: list[LeftAlone] = []
    failed: list[FixError] = []
    for each in reversed(entry.files):
        try:
            left += _file_back(each, entry, desk)
        except FixError as error:
            failed.append(error)
    _raise_all(failed)
    return left


def _file_back(written: Written, entry: Entry, desk: Desk) -> list[LeftAlone]:
    kind = desk.kinds[written.kind]
    now, found = desk.file(kind), _restored(written, desk)
    path, name = folder_of(kind), name_of(kind)
    try:
        folder = opened(desk.host, path)
        if folder is not None:
            try:
                _put_back(folder, name, now, found.content)
            finally:
                folder.close()
        if path in entry.folders:
            unmade(desk.host, path)
    except OSError as error:
        message = f"{kind.file} cannot be given back: {refused(error)}"
        raise FixError(message) from error
    why = f"somebody changed its line in {kind.file} since: it stays"
    return [LeftAlone(key, why) for key in found.kept]


def _restored(written: Written, desk: Desk) -> Restored:
    """What a file is to hold without what a fix wrote. Raises FixError."""
    kind = desk.kinds[written.kind]
    now, before = desk.file(kind), written.before
    return kind.restored(
        None if now is None else now.content,
        None if before is None else before.file().content,
        written.after.file().content,
    )


def _put_back(folder: Folder, name: str, now: File | None, content: bytes | None) -> None:
    with suppress(OSError):
        folder.tidy()
    if now is None:
        return
    if content is None:
        folder.remove(name)
    elif now.content != content:
        folder.write(name, _as_it_is(now, content))


def in_its_boot(entry: Entry, desk: Desk) -> bool:
    """Whether this is still the boot in which an entry was made: after another one only its file is of its doing."""
    return entry.boot_id is not None and entry.boot_id.partition(" ")[0] == desk.boot_id


def _refuse_elsewhere(entry: Entry, desk: Desk) -> None:
    """Leave an entry whose settings are not reached from here to whoever is there. Raises FixError.

    Those are the ones of a running kernel whose root is a tree here, and of another network namespace. Older entries
    do not say in which; after a reboot no such namespace is left.
    """
    if not desk.live and _is_in_force(entry, desk):
        message = (
            f"journal entry {entry.id} is in force in the running kernel, or may be, which is not reached from here: "
            f"chroot {desk.host.root} vdscheck undo"
        )
        raise NotBegunError(message)
    namespace = (entry.boot_id or "").partition(" ")[2]
    here = desk.namespace if "#" in namespace else desk.namespace.partition("#")[0]
    if desk.live and not in_its_boot(entry, desk) and _kept_for_the_host(entry, desk):
        message = (
            f"journal entry {entry.id} has set net.* keys of the network namespace of PID 1 at boot, and this is "
            "another one: run vdscheck undo there (nsenter -t 1 -n)"
        )
        raise NotBegunError(message)
    if not desk.live or not namespace or namespace == here or not in_its_boot(entry, desk):
        return
    if any(each.now and desk.kinds[each.kind].is_of_a_namespace(each.key) for each in entry.settings):
        named = namespace.partition("#")[0]
        message = (
            f"journal entry {entry.id} was made in another network namespace ({named}), which has its net.* keys "
            "for itself: run vdscheck undo there (ip netns exec, nsenter -n), or here after a reboot"
        )
        raise NotBegunError(message)


def _kept_for_the_host(entry: Entry, desk: Desk) -> bool:
    """Whether a boot has set something in the network namespace of PID 1 that is not reached from here."""
    kept = any(each.in_file and desk.kinds[each.kind].is_of_a_namespace(each.key) for each in entry.settings)
    return kept and desk.is_in_the_hosts_network is False


def _is_in_force(entry: Entry, desk: Desk) -> bool:
    """Whether an entry may be in force in the running kernel, as the tree may be the root of the machine itself."""
    running = Host()
    tree = desk.host.tree
    if tree is None or entry.boot_id is None or not any(each.now for each in entry.settings):
        return False
    boot_id = Desk(running, True, desk.version, desk.kinds).boot_id
    if boot_id is not None and entry.boot_id.partition(" ")[0] != boot_id:
        return False
    return ownership.is_the_machines(running, tree.descriptor, tree.path) is not False


def _without_the_fix(entry: Entry, desk: Desk) -> Mapping[Name, str | None]:
    """What each setting would be now without the fix: as it was, or as this boot would have set it.

    That is what the files say now, which somebody may have changed since; None where they do not tell. Raises
    NotBegunError where the next boot could not be seen at all: another look may tell it.
    """
    as_it_was = {Name(each.kind, each.key): each.before for each in entry.settings}
    if not desk.live or in_its_boot(entry, desk):
        return as_it_was
    boots = {each.kind: _boot_without(each, desk) for each in entry.files}
    in_files = {
        Name(each.kind, each.key): _as_a_boot_sets(each, desk, boots.get(each.kind))
        for each in entry.settings
        if each.in_file
    }
    return as_it_was | in_files | {Name(each.kind, each.key): _moved_by_files(each, desk) for each in _moved(entry)}


def _moved(entry: Entry) -> list[Replaced]:
    return [each for each in entry.settings if each.moved_by is not None]


def _moved_by_files(setting: Replaced, desk: Desk) -> str | None:
    """What a boot sets that is moved along by a setting; None where it is as that leaves it."""
    try:
        return desk.kinds[setting.kind].moved_at_boot(setting.key, desk.host)
    except OSError as error:
        message = f"nothing was given back: {error.strerror}; {AGAIN}"
        raise NotBegunError(message) from error


def _boot_without(written: Written, desk: Desk) -> Any:  # noqa: ANN401 - of the type that the kind says
    """The next boot as it would be without what a fix wrote."""
    kind = desk.kinds[written.kind]
    if desk.foresee is None:
        return None
    found = desk.foresee(kind, _restored(written, desk).content or b"")
    if found is None:
        message = f"nothing was given back: what the next boot brings without the fix could not be seen; {AGAIN}"
        raise NotBegunError(message)
    return found


def _as_a_boot_sets(setting: Replaced, desk: Desk, boot: Any) -> str | None:  # noqa: ANN401 - the same
    if desk.foresee is None:
        return setting.at_boot
    found = None if boot is None else desk.kinds[setting.kind].at_boot(setting.key, boot)
    return None if found is None else found.value


def _values_back(entry: Entry, desk: Desk, wanted: Mapping[Name, str | None]) -> list[LeftAlone]:
    if not desk.live:
        return []
    if entry.boot_id is not None and desk.boot_id is None:
        message = f"{BOOT_ID} cannot be read, so it is not known whether this is the boot of journal entry {entry.id}"
        raise FixError(message)
    same_boot = in_its_boot(entry, desk)
    left: list[LeftAlone] = []
    failed: list[FixError] = []
    # What is moved along is looked at before anything is: then it is as the fix, or somebody, left it.
    was = {Name(each.kind, each.key): desk.now(each.kind, each.key) for each in entry.settings}
    set_back: set[Name] = set()
    for each in reversed(entry.settings):
        name, kind = Name(each.kind, each.key), desk.kinds[each.kind]
        try:
            if each.moved_by is not None:
                if same_boot:
                    _moved_back(kind, each, was[name])
                elif Name(each.kind, each.moved_by) in set_back:
                    _moved_to(kind, each.key, wanted[name])
            elif each.now if same_boot else each.in_file:
                left += _value_back(kind, each, wanted[name])
                if kind.same(was[name], each.wanted) and not kind.same(desk.now(each.kind, each.key), each.wanted):
                    set_back.add(name)
        except FixError as error:
            failed.append(error)
    _raise_all(failed)
    return left


def _moved_back(kind: FixKind, setting: Replaced, was: str | None) -> None:
    """What was moved along is as before; what somebody set since as he set it. Raises FixError."""
    _moved_to(kind, setting.key, setting.before if kind.same(was, setting.wanted) else was)


def _moved_to(kind: FixKind, key: str, wanted: str | None) -> None:
    """What a setting that came back has moved is to be; None: as that leaves it. Raises FixError."""
    now = _seen(kind, key)
    if now is not None and wanted is not None and not kind.same(now, wanted):
        _set_back(kind, key, wanted)


def _value_back(kind: FixKind, setting: Replaced, before: str | None) -> list[LeftAlone]:
    """Give back one value, unless somebody changed it since. Raises FixError."""
    key = setting.key
    found = _seen(kind, key)
    if found is None or kind.same(found, before):
        return []
    if not kind.same(found, setting.wanted):
        return [LeftAlone(key, f"it is {found} now, which somebody set since: it stays")]
    if before is None:
        return [LeftAlone(key, f"it stays {found} until the next boot: what it would be without the fix is not known")]
    _set_back(kind, key, before)
    return []


def _seen(kind: FixKind, key: str) -> str | None:
    """A setting; None where it does not exist (any more). Raises FixError where it cannot be read."""
    try:
        found = kind.seen(key)
        why = None if found is not None else _covered(kind.path(key))
    except OSError as error:
        found, why = None, error.strerror or str(error)
    if why is not None:
        message = f"{key} cannot be read: {why}; so it is not known whether it is given back"
        raise FixError(message)
    return found


def _covered(path: str) -> str | None:
    """What hides a file of the kernel's, so that it cannot be told whether there is one."""
    if not path.startswith(("/proc/", "/sys/")):
        return None
    try:
        return covering(mounts(Host()), path)
    except UnavailableError:
        return None


def _set_back(kind: FixKind, key: str, before: str) -> None:
    try:
        kind.write(key, before)
    except OSError as error:
        message = f"{key} cannot be set back to {before}: {error.strerror or error}"
        raise FixError(message) from error
    found = _seen(kind, key)
    if found is not None and not kind.same(found, before):
        message = f"{key} was set back to {before} and reads back as {found}"
        raise FixError(message)


def undo(journal: Journal, desk: Desk) -> GivenBack | None:
    """Give back what the latest entry replaced that is not given back yet; None where there is none."""
    entry = journal.latest()
    if entry is None:
        return None
    _refuse_elsewhere(entry, desk)
    wanted = _without_the_fix(entry, desk)
    if interrupted():
        message = "interrupted: nothing was given back"
        raise NotBegunError(message)
    state: State = "given-back" if entry.state == "begun" else "undone"
    if entry.state == "held":
        with suppress(NoRoomError):
            entry = journal.advance(entry, "undoing")
    standing.note(f"of fix {entry.id} perhaps not all was given back: {AGAIN}")
    done = give_back(entry, desk, journal, state, wanted)
    standing.note(f"fix {entry.id} was given back")
    return done


def recover(journal: Journal, desk: Desk) -> list[GivenBack]:
    """Give back what fixes and undos that were ended in the middle have left behind."""
    found = []
    while (entry := journal.unfinished()) is not None:
        _refuse_elsewhere(entry, desk)
        state: State = "given-back" if entry.state == "begun" else "undone"
        found.append(give_back(entry, desk, journal, state))
        if found[-1].untold is not None:
            raise NoRoomError(found[-1].untold)
    return found


def still_ours(entry: Entry, desk: Desk) -> frozenset[Name]:
    """The settings that our files set as a fix left them, or may so set, since they cannot be read."""
    return frozenset(Name(each.kind, key) for each in entry.files for key in _still_ours(each, entry, desk))


def _still_ours(written: Written, entry: Entry, desk: Desk) -> frozenset[str]:
    kind = desk.kinds[written.kind]
    wanted = {each.key: each.wanted for each in entry.settings if each.in_file and each.kind == kind.name}
    try:
        content = in_child(
            lambda: desk.host.read_bytes(kind.file, limit_bytes=SETTINGS_LIMIT_BYTES),
            keeps=desk.host.descriptors,
            stopped=lambda: False,
        )
    except NotFoundError:
        return frozenset()
    except (UnavailableError, NoAnswerError, LostChildError):
        return frozenset(wanted)
    now = kind.says(content, wanted)
    before = kind.says(None if written.before is None else written.before.file().content, wanted)
    return frozenset(key for key, value in wanted.items() if now.get(key) == value != before.get(key))


def verified(entry: Entry, desk: Desk) -> Sequence[str]:
    """The settings that are not what was wanted, each as a sentence."""
    if not desk.live:
        return []
    own = (each for each in entry.settings if each.moved_by is None)
    found = ((each, _unlike(desk.kinds[each.kind], each.key, each.wanted)) for each in own)
    return [f"{each.key} {how}, and {each.wanted} was set" for each, how in found if how is not None]


def _unlike(kind: FixKind, key: str, wanted: str) -> str | None:
    """How a setting is not what it should be; None where it is."""
    try:
        now = kind.seen(key)
    except OSError as error:
        return f"cannot be read ({error.strerror or error})"
    if now is None:
        return "is gone"
    return None if kind.same(now, wanted) else f"is {now}"
