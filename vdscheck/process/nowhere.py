"""A descriptor that leads nowhere: /dev/null, or what stands in for it where that is missing or something else."""

import os
import stat

_NULL = os.makedev(1, 3)


def opened() -> int:
    """A descriptor, closed on exec, that reads as empty and swallows what is written. Raises OSError.

    A rescue shell may have no /dev/null, or a regular file of that name, which is neither read nor
    written. What stands in for it is a pipe that nobody writes to: reading it gives the end of the file,
    writing to it an error.
    """
    try:
        found = os.stat(os.devnull)
        if stat.S_ISCHR(found.st_mode) and found.st_rdev == _NULL:
            return os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        pass
    reader, writer = os.pipe()
    os.close(writer)
    return reader
