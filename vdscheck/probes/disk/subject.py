"""The paths whose disks are examined: those that the user names, or where services keep their data."""

from collections.abc import Mapping
from typing import Any

from vdscheck.plugin import SubjectError, UnavailableError, absolute, frozen, safe_text, secrets

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
        """The folders of `--disk`, or the usual one, by absolute path. Raises SubjectError without a current folder."""
        try:
            asked = dict.fromkeys(absolute(str(path)) for path in settings.get("disk") or ())
        except UnavailableError as error:
            message = f"--disk {error.absent.detail}"
            raise SubjectError(message) from error
        found = [cls(path, asked_for=True) for path in asked] or [cls(USUAL, asked_for=False)]
        return {each.shown: each for each in found}

    @property
    def shown(self) -> str:
        """The path as a text that any encoder bears; an address that was named by mistake without its secrets."""
        return secrets.hide_addresses(safe_text(self.path))
