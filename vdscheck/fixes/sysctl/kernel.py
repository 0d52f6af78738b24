"""The settings of the running kernel, read and written below /proc/sys."""

import errno
import os
import stat

VALUE_LIMIT_BYTES = 1 << 16
_NEVER_WAITS = os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
"""A pipe that covers a setting would wait for its other end, deaf to signals."""


class Kernel:
    """The settings of the running kernel, one by one."""

    def __init__(self, folder: str = "/proc/sys") -> None:
        self._folder = folder

    def seen(self, key: str) -> str | None:
        """A setting, its fields separated by one blank; None where there is none. Raises OSError."""
        try:
            descriptor = os.open(self.path(key), os.O_RDONLY | _NEVER_WAITS)
        except (FileNotFoundError, NotADirectoryError):
            return None
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise OSError(errno.EINVAL, "something else than a setting has its name")
            return " ".join(os.read(descriptor, VALUE_LIMIT_BYTES).decode("ascii", "replace").split())
        finally:
            os.close(descriptor)

    def names(self, key: str) -> list[str]:
        """The names below a part of all keys. Raises OSError."""
        return sorted(os.listdir(self.path(key)))

    def write(self, key: str, value: str) -> None:
        """Set it. Raises OSError."""
        descriptor = os.open(self.path(key), os.O_WRONLY | os.O_TRUNC | _NEVER_WAITS)
        try:
            os.write(descriptor, value.encode())
        finally:
            os.close(descriptor)

    def path(self, key: str) -> str:
        """The file of a setting. Raises OSError for what is no key."""
        parts = key.split("/" if "/" in key else ".")
        if not all(part and part.strip(".") and "/" not in part for part in parts):
            message = f"{key!r} is no key"
            raise OSError(message)
        return "/".join([self._folder, *parts])
