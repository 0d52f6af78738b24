"""A host as it would be if one of its files had another content, so that a change is judged before it is made."""

from dataclasses import dataclass

from vdscheck.model.absence import Reason, UnavailableError, unmeasured
from vdscheck.target.host import FileStatus, Host, NotFoundError


@dataclass
class WhatIfHost(Host):
    """A host in which one file holds something else; all the rest is as it is."""

    path: str = ""
    content: bytes = b""

    def read_bytes(self, path: str, *, limit_bytes: int | None = None) -> bytes:
        """The content of a regular file."""
        return self.content if path == self.path else super().read_bytes(path, limit_bytes=limit_bytes)

    def names(self, folder: str) -> tuple[str, ...]:
        """What a folder holds; that of the file is there."""
        parent, _, name = self.path.rpartition("/")
        if folder != parent:
            return super().names(folder)
        try:
            found = super().names(folder)
        except NotFoundError:
            found = ()
        return tuple(sorted({*found, name}))

    def nameless(self, folder: str) -> frozenset[str]:
        """Those of its names that stand for one that is no text."""
        try:
            return super().nameless(folder)
        except NotFoundError:
            return frozenset()

    def status(self, path: str, *, follow: bool = True) -> FileStatus:
        """What stat(2) would say."""
        if path != self.path:
            return super().status(path, follow=follow)
        return FileStatus("file", len(self.content), 0, 0o644, 0)

    def link(self, path: str) -> str:
        """The text of a symbolic link, which the file is not."""
        if path == self.path:
            raise UnavailableError(unmeasured(Reason.ERROR, f"{path} is not a link"))
        return super().link(path)
