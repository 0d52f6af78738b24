"""Lists of the Kubernetes API, page by page, so that memory does not grow with them."""

from collections.abc import Callable, Mapping
from typing import Generic, TypeVar

import msgspec

from vdscheck.cluster import Asked, Cluster, GoneError
from vdscheck.measurements.cluster import ListRead
from vdscheck.model import UnavailableError
from vdscheck.plugin import Reason, unmeasured
from vdscheck.probes.cluster.objects import ListMeta
from vdscheck.probes.cluster.quantity import amount
from vdscheck.secrets import redact

RESTARTS = 2
"""How often a list begins anew when its token has expired: etcd keeps them for 5 minutes by default."""
WHY_LIMIT = 300
"""Characters of what is said of an answer that was not understood."""

T = TypeVar("T")


class _Page(msgspec.Struct, Generic[T]):
    metadata: ListMeta
    items: list[T] | None = None


def listed(cluster: Cluster, path: str, what: str, item: type[T], begin: Callable[[], Callable[[T], None]]) -> ListRead:
    """Give every object of a list to what `begin` returns; `begin` is called again when the list begins anew.

    Raises UnavailableError.
    """
    decoder = msgspec.json.Decoder(_Page[item])  # type: ignore[valid-type]
    asked = Asked()
    for restart in range(RESTARTS + 1):
        take, items, token = begin(), 0, ""
        try:
            while True:
                page = _decoded(decoder, cluster.page(path, token, asked), what)
                for each in page.items or ():
                    take(each)
                items += len(page.items or ())
                before, token = token, page.metadata.continue_
                if not token:
                    return ListRead(
                        what=what,
                        requests=asked.requests,
                        size_bytes=asked.size_bytes,
                        duration_s=round(asked.duration_s, 6),
                        items=items,
                    )
                if token == before:
                    raise no_list(what, "it does not end: a page is followed by itself")
        except GoneError:
            if restart == RESTARTS:
                raise
    raise AssertionError


def _decoded(decoder: "msgspec.json.Decoder[_Page[T]]", content: bytes, what: str) -> "_Page[T]":
    try:
        return decoder.decode(content)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise no_list(what, str(error)) from error


def decoded(content: bytes, kind: type[T], what: str) -> T:
    """One object. Raises UnavailableError for what is none."""
    try:
        return msgspec.json.decode(content, type=kind)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise _not_understood(what, str(error), kind="answer for") from error


def no_list(what: str, why: str) -> UnavailableError:
    """That a list is none of an API server: nothing may be judged by what was not understood."""
    return _not_understood(what, why, kind="list of")


def _not_understood(what: str, why: str, *, kind: str) -> UnavailableError:
    said = f"the server's {kind} {what} is not what Kubernetes sends: {redact(why[:WHY_LIMIT])}"
    return UnavailableError(unmeasured(Reason.ERROR, said[:WHY_LIMIT]))


def refuse_unread(amounts: Mapping[str, str | float] | None, what: str) -> None:
    """Raise UnavailableError for an amount that cannot be read: as one that is not stated it would be judged."""
    for name, written in (amounts or {}).items():
        if amount(written) is None:
            why = f"{name} is {written!s:.{WHY_LIMIT}}"
            raise no_list(what, why)
