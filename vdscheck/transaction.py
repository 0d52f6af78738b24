"""Carries out a plan, and gives back what one replaced: three-way, so that nobody else's change is trampled."""

import errno
import os
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace

from vdscheck import drop_in
from vdscheck.files import File, FixError, Folder, NoRoomError, NotAFileError, made, opened, refused, unmade
from vdscheck.guard import LostChildError, NoAnswerError, in_child
from vdscheck.journal import FORMAT, DropIn, Entry, Journal, Replaced, State
from vdscheck.model import DROP_IN, DROP_IN_FOLDER, DROP_IN_NAME, LeftAlone, UnavailableError, frozen
from vdscheck.plan import Plan, same
from vdscheck.target import Host

DROP_IN_MODE = 0o644
OTHERS_WRITE = 0o022
VALUE_LIMIT_BYTES = 1 << 16
GIVE_BACK_LIMIT_S = 20.0
"""How long a fix that was interrupted, or does not hold, may take to give back what it changed."""
AGAIN = "`vdscheck undo` tries again"
_NEVER_WAITS = os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
"""A pipe that covers a setting would wait for its other end, deaf to signals."""
BOOT_ID = "/proc/sys/kernel/random/boot_id"
NAMESPACE = "/proc/self/ns/net"
OF_A_NAMESPACE = "net."
"""How the keys begin that each network namespace has for itself."""


class ChangedMeanwhileError(Exception):
    """Something is not as it was when the plan was made; nothing was written."""


class GivenBackError(FixError):
    """What was changed has been given back; `left` is what somebody changed meanwhile."""

    def __init__(self, why: str, entry: Entry, left: tuple[LeftAlone, ...]) -> None:
        super().__init__(why)
        self.entry, self.left = entry, left


class Kernel:
    """The settings of the running kernel, one by one."""

    def __init__(self, folder: str = "/proc/sys") -> None:
        self._folder = folder

    def read(self, key: str) -> str | None:
        """A setting, its fields separated by one blank; None where there is none, or it cannot be read."""
        try:
            return self.seen(key)
        except OSError:
            return None

    def seen(self, key: str) -> str | None:
        """A setting as `read` gives it; None only where there is none. Raises OSError where it cannot be read."""
        try:
            descriptor = os.open(self._path(key), os.O_RDONLY | _NEVER_WAITS)
        except (FileNotFoundError, NotADirectoryError):
            return None
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise OSError(errno.EINVAL, "something else than a setting has its name")
            return " ".join(os.read(descriptor, VALUE_LIMIT_BYTES).decode("ascii", "replace").split())
        finally:
            os.close(descriptor)

    def write(self, key: str, value: str) -> None:
        """Set it. Raises OSError."""
        descriptor = os.open(self._path(key), os.O_WRONLY | os.O_TRUNC | _NEVER_WAITS)
        try:
            os.write(descriptor, value.encode())
        finally:
            os.close(descriptor)

    def _path(self, key: str) -> str:
        parts = key.split(".")
        if not all(part and part.strip(".") and "/" not in part for part in parts):
            message = f"{key!r} is no key"
            raise OSError(message)
        return "/".join([self._folder, *parts])


@frozen
class Desk:
    """What a transaction works on."""

    host: Host
    kernel: Kernel | None
    """None where there is no running kernel to set: below --root."""
    version: str

    @property
    def boot_id(self) -> str | None:
        """The id of this boot; None where nothing runs."""
        if self.kernel is None:
            return None
        try:
            return self.host.read(BOOT_ID).strip()
        except UnavailableError:
            return None

    @property
    def namespace(self) -> str:
        """The network namespace whose settings are set, as `net:[INODE]`; "" where nothing runs, or it is not seen."""
        try:
            return self.host.link(NAMESPACE) if self.kernel is not None else ""
        except UnavailableError:
            return ""

    @property
    def made_in(self) -> str | None:
        """This boot and this network namespace, as an entry keeps them."""
        return None if self.boot_id is None else f"{self.boot_id} {self.namespace}".rstrip()

    def now(self, key: str) -> str | None:
        """A setting of the running kernel."""
        return None if self.kernel is None else self.kernel.read(key)

    def drop_in(self) -> File | None:
        """Our file as it is. Raises FixError, also where somebody else can write it."""
        try:
            folder = opened(self.host, DROP_IN_FOLDER)
            if folder is None:
                return None
            try:
                return _ours_alone(folder.file(DROP_IN_NAME))
            finally:
                folder.close()
        except NotAFileError as error:
            message = f"{error}, and not what vdscheck writes: move it away"
            raise FixError(message) from error
        except OSError as error:
            message = f"{DROP_IN}: {error.strerror}"
            raise FixError(message) from error


def _ours_alone(file: File | None) -> File | None:
    """A file that nobody else can write: whoever can sets the settings of this kernel. Raises FixError."""
    if file is None or (file.uid in (0, os.geteuid()) and not file.mode & OTHERS_WRITE):
        return file
    why = "can be written by others" if file.uid in (0, os.geteuid()) else f"belongs to user {file.uid}"
    message = f"{DROP_IN} {why}: look at it, then chown root: and chmod 644 it, or move it away"
    raise FixError(message)


# Applying


def apply(plan: Plan, desk: Desk, journal: Journal, content: bytes | None, stopped: Callable[[], bool]) -> Entry:
    """Set what is planned, and read it back; `content` is what our file held when the plan was made.

    Returns the journal entry, still in the state "begun". Raises ChangedMeanwhileError and FixError
    before anything is written, and GivenBackError after.
    """
    before = desk.drop_in()
    _still_so(plan, desk, before, content)
    _room(desk, plan.content)
    entry = journal.begin(
        lambda name, number: _entry(plan, desk, before, name, number), time.strftime("%Y%m%d", time.gmtime())
    )
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
        if each.now:
            _set(desk, each)
            _look(stopped)
    if entry.file_after is not None:
        _write(desk, entry.file_after.file())
        _look(stopped)


def _reverted(why: str, entry: Entry, desk: Desk, journal: Journal) -> FixError:
    """Give back all that was changed, within a time of its own; the error to raise."""
    try:
        done = in_child(
            lambda: give_back(entry, desk, journal, "given-back"),
            GIVE_BACK_LIMIT_S,
            keeps=(*journal.descriptors, *desk.host.descriptors),
            stopped=lambda: False,
        )
    except FixError as error:
        return GivenBackError(f"{why}; and not all could be given back: {error}; {AGAIN}", entry, ())
    except (NoAnswerError, LostChildError) as error:
        said = "; ".join([f"what was changed could not be given back: {error.strerror}", *_not_back(entry, desk)])
        return GivenBackError(f"{why}; {said}; {AGAIN}", entry, ())
    return GivenBackError(why if done.untold is None else f"{why}; {done.untold}", entry, done.left)


def _not_back(entry: Entry, desk: Desk) -> Iterator[str]:
    """What is not as it was before, or may not be."""
    for each in entry.settings:
        if each.now and not same(desk.now(each.key), each.before):
            yield f"{each.key} is not {each.before}"
    if entry.file_after is not None:
        yield f"{DROP_IN} may be as the fix wrote it"


def _still_so(plan: Plan, desk: Desk, before: File | None, content: bytes | None) -> None:
    if (None if before is None else before.content) != content:
        message = f"{DROP_IN} was changed by somebody"
        raise ChangedMeanwhileError(message)
    for change in plan.changes:
        if desk.kernel is None:
            continue
        now = desk.now(change.key)
        if now is None:
            message = f"{change.key} does not exist any more, or cannot be read"
            raise ChangedMeanwhileError(message)
        if not same(now, change.before):
            message = f"{change.key} is {now} now, and was {change.before} when the plan was made"
            raise ChangedMeanwhileError(message)


def _entry(plan: Plan, desk: Desk, before: File | None, name: str, number: int) -> Entry:
    after = None
    if plan.content is not None:
        kept = before or File(b"", DROP_IN_MODE, os.geteuid(), os.getegid())
        after = DropIn.of(replace(kept, content=plan.content))
    try:
        folder = opened(desk.host, DROP_IN_FOLDER)
    except OSError as error:
        message = f"{DROP_IN_FOLDER}: {error.strerror}"
        raise FixError(message) from error
    if folder is not None:
        folder.close()
    return Entry(
        format=FORMAT,
        id=name,
        number=number,
        state="begun",
        version=desk.version,
        at=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        boot_id=desk.made_in,
        settings=tuple(
            Replaced(
                change.key,
                change.before,
                change.at_boot,
                change.wanted,
                now=desk.kernel is not None and not same(change.before, change.wanted),
                in_file=change.file is not None,
            )
            for change in plan.changes
        ),
        file_before=None if before is None else DropIn.of(before),
        file_after=after,
        folders=(DROP_IN_FOLDER,) if folder is None and after is not None else (),
    )


def _room(desk: Desk, content: bytes | None) -> None:
    """See that our file can be written: a full disk ends a fix before anything is changed. Raises NoRoomError."""
    if content is None:
        return
    try:
        folder = opened(desk.host, DROP_IN_FOLDER) or opened(desk.host, DROP_IN_FOLDER.rpartition("/")[0])
        if folder is None:
            return
        try:
            folder.tidy()
            full = folder.is_full(len(content))
        finally:
            folder.close()
    except OSError as error:
        message = f"{DROP_IN_FOLDER}: {error.strerror}"
        raise FixError(message) from error
    if full:
        message = f"{DROP_IN} cannot be written: {os.strerror(errno.ENOSPC)}"
        raise NoRoomError(message)


def _look(stopped: Callable[[], bool]) -> None:
    if stopped():
        message = "interrupted"
        raise FixError(message)


def _set(desk: Desk, setting: Replaced) -> None:
    """Write a setting and read it back: the kernel clamps and truncates in silence."""
    key, wanted = setting.key, setting.wanted
    assert desk.kernel is not None  # noqa: S101 - nothing is set without one
    try:
        desk.kernel.write(key, wanted)
    except OSError as error:
        message = f"{key} cannot be set to {wanted}: {error.strerror or error}"
        raise FixError(message) from error
    found = desk.kernel.read(key)
    if same(found, wanted):
        return
    if found is not None and setting.before is not None:
        # What the kernel made of it would look like somebody else's value to whoever gives it back.
        _set_back(desk.kernel, key, setting.before)
    message = f"{key} was set to {wanted} and reads back as {'nothing' if found is None else found}"
    raise FixError(message)


def _write(desk: Desk, file: File) -> None:
    try:
        folder, _ = made(desk.host, DROP_IN_FOLDER)
        try:
            folder.write(DROP_IN_NAME, file)
        finally:
            folder.close()
    except OSError as error:
        message = f"{DROP_IN} cannot be written: {refused(error)}"
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


def give_back(entry: Entry, desk: Desk, journal: Journal, state: State) -> GivenBack:
    """Give back all that an entry replaced, and write that it is so; what somebody changed since is left, and named.

    Doing it again does no harm: so a full disk, which has no room for what the journal should say, stops
    nothing. Raises FixError when something cannot be given back: then the entry stays as it was, and the
    next run tries again.
    """
    left: list[LeftAlone] = []
    failed: FixError | None = None
    # The values first, since no disk is asked for them; and each part also where another cannot be given back.
    for part in (_values_back, _file_back):
        try:
            left += part(entry, desk)
        except FixError as error:
            failed = failed or error
    if failed is not None:
        raise failed
    try:
        entry = journal.advance(entry, state)
    except NoRoomError as error:
        why = f"{error}: all the same it is done; run vdscheck undo once more when there is room, so that it is noted"
        return GivenBack(entry, tuple(left), why)
    return GivenBack(entry, tuple(left), None)


def _file_back(entry: Entry, desk: Desk) -> list[LeftAlone]:
    if entry.file_after is None:
        return []
    now, before = desk.drop_in(), entry.file_before
    found = drop_in.restored(
        None if now is None else now.content,
        None if before is None else before.file().content,
        entry.file_after.file().content,
    )
    try:
        folder = opened(desk.host, DROP_IN_FOLDER)
        if folder is not None:
            try:
                _put_back(folder, now, before, found.content)
            finally:
                folder.close()
        for path in entry.folders:
            unmade(desk.host, path)
    except OSError as error:
        message = f"{DROP_IN} cannot be given back: {refused(error)}"
        raise FixError(message) from error
    why = f"somebody changed its line in {DROP_IN} since: it stays"
    return [LeftAlone(key, why) for key in found.kept]


def _put_back(folder: Folder, now: File | None, before: DropIn | None, content: bytes | None) -> None:
    with suppress(OSError):
        folder.tidy()
    if content is None:
        if now is not None:
            folder.remove(DROP_IN_NAME)
    elif now is None or now.content != content:
        kept = before.file() if before is not None else now
        assert kept is not None  # noqa: S101 - content comes from one of them
        folder.write(DROP_IN_NAME, replace(kept, content=content))


def in_its_boot(entry: Entry, desk: Desk) -> bool:
    """Whether this is still the boot in which an entry was made: after another one only its file is of its doing."""
    return entry.boot_id is not None and entry.boot_id.partition(" ")[0] == desk.boot_id


def _refuse_elsewhere(entry: Entry, desk: Desk) -> None:
    """Leave an entry whose settings were set in another network namespace to whoever is there. Raises FixError.

    Older entries do not say in which; after a reboot no such namespace is left.
    """
    namespace = (entry.boot_id or "").partition(" ")[2]
    if desk.kernel is None or not namespace or namespace == desk.namespace or not in_its_boot(entry, desk):
        return
    if any(each.now and each.key.startswith(OF_A_NAMESPACE) for each in entry.settings):
        message = (
            f"journal entry {entry.id} was made in another network namespace ({namespace}), which has its net.* keys "
            "for itself: run vdscheck undo there (ip netns exec, nsenter -n), or here after a reboot"
        )
        raise FixError(message)


def value_before(setting: Replaced, *, in_its_boot: bool) -> str | None:
    """What a setting would be now without the fix: as it was, or as this boot would have set it."""
    return setting.before if in_its_boot or setting.at_boot is None else setting.at_boot


def _values_back(entry: Entry, desk: Desk) -> list[LeftAlone]:
    if desk.kernel is None:
        return []
    same_boot = in_its_boot(entry, desk)
    left: list[LeftAlone] = []
    failed: FixError | None = None
    for each in entry.settings:
        try:
            if each.now if same_boot else each.in_file:
                left += _value_back(desk.kernel, each, value_before(each, in_its_boot=same_boot))
        except FixError as error:
            failed = failed or error
    if failed is not None:
        raise failed
    return left


def _value_back(kernel: Kernel, setting: Replaced, before: str | None) -> list[LeftAlone]:
    """Give back one value, unless somebody changed it since. Raises FixError."""
    key = setting.key
    found = _seen(kernel, key)
    if found is None or same(found, before):
        return []
    if not same(found, setting.wanted):
        return [LeftAlone(key, f"it is {found} now, which somebody set since: it stays")]
    if before is None:
        return [LeftAlone(key, f"it stays {found} until the next boot: what it was before is not known")]
    _set_back(kernel, key, before)
    return []


def _seen(kernel: Kernel, key: str) -> str | None:
    """A setting; None where it does not exist (any more). Raises FixError where it cannot be read."""
    try:
        return kernel.seen(key)
    except OSError as error:
        message = f"{key} cannot be read: {error.strerror or error}; so it is not known whether it is given back"
        raise FixError(message) from error


def _set_back(kernel: Kernel, key: str, before: str) -> None:
    try:
        kernel.write(key, before)
    except OSError as error:
        message = f"{key} cannot be set back to {before}: {error.strerror or error}"
        raise FixError(message) from error
    found = _seen(kernel, key)
    if found is not None and not same(found, before):
        message = f"{key} was set back to {before} and reads back as {found}"
        raise FixError(message)


def undo(journal: Journal, desk: Desk) -> GivenBack | None:
    """Give back what the latest entry replaced that is not given back yet; None where there is none."""
    entry = journal.latest()
    if entry is None:
        return None
    _refuse_elsewhere(entry, desk)
    state: State = "given-back" if entry.state == "begun" else "undone"
    if entry.state == "held":
        with suppress(NoRoomError):
            entry = journal.advance(entry, "undoing")
    return give_back(entry, desk, journal, state)


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


def verified(entry: Entry, desk: Desk) -> Sequence[str]:
    """The settings that are not what was wanted, each as a sentence."""
    found = ((each, desk.now(each.key)) for each in entry.settings)
    return [
        f"{each.key} is {'gone' if now is None else now}, and {each.wanted} was set"
        for each, now in found
        if desk.kernel is not None and not same(now, each.wanted)
    ]
