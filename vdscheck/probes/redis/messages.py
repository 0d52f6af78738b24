"""What a Redis server says, as words that can be shown: short, harmless, without secrets, and with what to do."""

from collections.abc import Sequence

from vdscheck.plugin import Reason, safe_text, secrets
from vdscheck.probes.redis.url import RedisServer

SHOWN_LIMIT = 120
_WITH_SUBCOMMAND = ("CONFIG", "LATENCY", "SLOWLOG", "CLIENT")


def shown(said: bytes | str) -> str:
    """Words of a server as one short line in which nothing acts on a terminal, and no secret stands."""
    plain = secrets.redact(printable(said))
    return plain if len(plain) <= SHOWN_LIMIT else f"{plain[:SHOWN_LIMIT]}..."


def printable(said: bytes | str) -> str:
    """The beginning of what a server says, with all that is not printable escaped: what names are compared by."""
    text = safe_text(said)[: 2 * SHOWN_LIMIT]
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def meaning(text: str, words: Sequence[str], server: RedisServer) -> tuple[Reason, str]:
    """Why a server refuses, and what to do; `text` is its error as it came."""
    how = "in VDSCHECK_REDIS_URL or the configuration, as redis://USER:PASSWORD@HOST"
    who = "password of user default" if server.username is None else "user or its password"
    asked = permission(words)[1:].replace("|", " ").upper()
    known = {
        "NOAUTH": (Reason.PERMISSION, f"asks for a password: give it {how}"),
        "WRONGPASS": (Reason.PERMISSION, f"refuses this {who}: give the right one {how}"),
        "NOPERM": (
            Reason.PERMISSION,
            f"does not let its user do {asked}: ACL SETUSER {server.user} {permission(words)}",
        ),
        "DENIED": (
            Reason.PERMISSION,
            "is in protected mode: without a password it serves its own machine only; run vdscheck there",
        ),
        "LOADING": (Reason.UNREACHABLE, "is loading its data and answers when that is done: run vdscheck again then"),
        "MASTERDOWN": (
            Reason.UNREACHABLE,
            "is a replica that has lost its master and gives no stale answers (replica-serve-stale-data no)",
        ),
        "BUSY": (Reason.UNREACHABLE, "is blocked by a script: SCRIPT KILL ends one that has not written"),
    }
    code = text.partition(" ")[0]
    if code in known:
        return known[code]
    if words[0] == "AUTH" and "invalid password" in text:
        return known["WRONGPASS"]
    return _meaning_of_err(text, words, server)


def _meaning_of_err(text: str, words: Sequence[str], server: RedisServer) -> tuple[Reason, str]:
    """The same for errors that are told apart by their words only."""
    if "max number of clients" in text:
        return Reason.UNREACHABLE, "refuses connections: its maximum number of clients (maxclients) is reached"
    if words[0] == "AUTH" and ("without any password" in text or "no password is set" in text):
        return Reason.PERMISSION, "has no password for this user, though one was given: leave it out"
    if words[0] == "SELECT":
        return Reason.ERROR, f"has no database {server.database}"
    if "unknown command" in text:
        return Reason.UNSUPPORTED, f"does not know {permission(words)[1:].replace('|', ' ').upper()}"
    if words[0] == "AUTH":  # it was told a password, and may repeat it in any spelling
        return Reason.ERROR, "refuses AUTH: look whether its user and password are right"
    return Reason.ERROR, f"refuses {words[0]}: {shown(text)}"


def permission(words: Sequence[str]) -> str:
    """The rule of an ACL that allows a command: `+info`, `+config|get`."""
    if words[0] in _WITH_SUBCOMMAND and len(words) > 1:
        return f"+{words[0]}|{words[1]}".lower()
    return f"+{words[0]}".lower()
