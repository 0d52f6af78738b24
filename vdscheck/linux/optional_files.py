"""Files and folders that may be missing, where that is a fact in itself: their text or names, or nothing."""

from vdscheck.plugin import Host, UnavailableError


def text(host: Host, path: str) -> str | None:
    """The content of a file; None where it cannot be had."""
    try:
        return host.read(path)
    except UnavailableError:
        return None


def line(host: Host, path: str) -> str | None:
    """The first line of a file, with what firmware and drivers pad it with taken away; None if empty."""
    content = (text(host, path) or "").strip("\0").partition("\n")[0]
    return " ".join(content.replace("\0", " ").split())[:100] or None


def names(host: Host, folder: str) -> tuple[str, ...]:
    """What a folder holds; nothing where it cannot be read."""
    try:
        return host.names(folder)
    except UnavailableError:
        return ()
