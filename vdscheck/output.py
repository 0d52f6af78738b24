"""Where reports go: standard output and files, written whole or not at all where that can be done."""

import errno
import os
import stat
from contextlib import suppress

from vdscheck import streams
from vdscheck.model import UnavailableError
from vdscheck.target import absolute, safe_text

_IRREPLACEABLE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.EBUSY)


class OutputError(Exception):
    """A report that cannot be written; one line: where, why."""


def check_folder(path: str) -> None:
    """Raise OutputError when a file cannot be written there, before anything is measured."""
    shown = safe_text(path)
    try:
        folder = os.path.dirname(absolute(path))
    except UnavailableError as error:
        message = f"-o {error.absent.detail}"
        raise OutputError(message) from error
    if not os.path.isdir(folder):
        message = f"-o {shown}: there is no folder {safe_text(folder)}"
        raise OutputError(message)
    if os.path.isdir(path):
        message = f"-o {shown}: that is a folder; name a file in it"
        raise OutputError(message)
    if not os.access(path if os.path.exists(path) else folder, os.W_OK):
        message = f"-o {shown}: permission denied"
        raise OutputError(message)


def to_file(path: str, content: bytes) -> None:
    """Write a file: whole, by a rename, or directly where it is a device or a pipe. Raises OutputError."""
    try:
        if os.path.exists(path) and not stat.S_ISREG(os.stat(path).st_mode):
            _into(path, content)
        else:
            try:
                _replace(os.path.realpath(path), content)
            except OSError as error:
                # A folder that is not ours to write, or a file that is a mount of its own.
                if error.errno not in _IRREPLACEABLE or not os.path.exists(path):
                    raise
                _into(path, content)
    except OSError as error:
        why = "nobody reads from this pipe" if error.errno == errno.ENXIO else error.strerror
        message = f"-o {safe_text(path)}: {why}"
        raise OutputError(message) from error


def _into(path: str, content: bytes) -> None:
    # Opening a pipe that nobody reads would wait for a reader, and no signal could end that.
    descriptor = os.open(path, os.O_WRONLY | os.O_TRUNC | os.O_NOCTTY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        os.set_blocking(descriptor, True)
        streams.write(descriptor, content)
    finally:
        os.close(descriptor)


def _replace(path: str, content: bytes) -> None:
    import tempfile  # 5 ms that only a report to a file needs

    descriptor, temporary = tempfile.mkstemp(prefix=".vdscheck-", dir=os.path.dirname(path))
    try:
        mask = os.umask(0)
        os.umask(mask)
        mode = stat.S_IMODE(os.stat(path).st_mode) if os.path.exists(path) else 0o666 & ~mask
        os.fchmod(descriptor, mode)
        streams.write(descriptor, content)
        os.close(descriptor)
        descriptor = -1
        os.replace(temporary, path)
    except BaseException:
        if descriptor >= 0:
            os.close(descriptor)
        with suppress(OSError):
            os.unlink(temporary)
        raise


def to_stdout(content: bytes) -> None:
    """Write to standard output; a reader or a terminal that went away ends it quietly. Raises OutputError."""
    try:
        streams.write(1, content)
    except OSError as error:
        if streams.is_gone(1, error):
            return
        if error.errno == errno.EBADF:
            message = "standard output is closed"
            raise OutputError(message) from error
        message = f"standard output: {error.strerror}"
        raise OutputError(message) from error
