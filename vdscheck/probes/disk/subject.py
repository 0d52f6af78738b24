"""The paths whose disks are examined: those that the user names, or where services keep their data."""

import os
from collections.abc import Mapping
from typing import Any

from vdscheck.plugin import frozen, safe_text, secrets

USUAL = "/var/lib"
"""Where databases and Redis keep their data unless somebody moved it."""


@frozen
class DiskPath:
    """A folder on the disk to examine."""

    path: str
    asked_for: bool
    """Whether the user named it; otherwise another folder on the same device will do."""

    @classmethod
    def chosen(cls, settings: Mapping[str, Any]) -> Mapping[str, "DiskPath"]:
        """The folders of `--disk`, or the usual one, by absolute path."""
        asked = dict.fromkeys(_absolute(str(path)) for path in settings.get("disk") or ())
        found = [cls(path, asked_for=True) for path in asked] or [cls(USUAL, asked_for=False)]
        return {each.shown: each for each in found}

    @property
    def shown(self) -> str:
        """The path as a text that any encoder bears; an address that was named by mistake without its secrets."""
        return secrets.hide_addresses(safe_text(self.path))


def _absolute(path: str) -> str:
    # POSIX leaves the meaning of two slashes at the start open, and normpath keeps them
    return "/" + os.path.abspath(path).lstrip("/")
