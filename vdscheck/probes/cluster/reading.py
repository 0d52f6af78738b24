"""Lists of the Kubernetes API, page by page, so that memory does not grow with them."""

from collections.abc import Callable, Mapping
from typing import Generic, TypeVar

import msgspec

from vdscheck.measurements.cluster import ListRead
from vdscheck.plugin import Cluster, GoneError, Reason, RequestCounts, UnavailableError, safe_text, secrets, unmeasured
from vdscheck.probes.cluster.objects import ListMeta
from vdscheck.probes.cluster.quantity import amount

RESTARTS = 2
"""How often a list begins anew when its token has expired: etcd keeps them for 5 minutes by default."""
WHY_LIMIT = 300
"""Characters of what is said of an answer that was not understood."""

T = TypeVar("T")


class _Page(msgspec.Struct, Generic[T]):
    metadata: ListMeta
    items: list[T] | msgspec.UnsetType | None = msgspec.UNSET
    kind: str = ""


def listed(cluster: Cluster, path: str, what: str, item: type[T], begin: Callable[[], Callable[[T], None]]) -> ListRead:
    """Give every object of a list to what `begin` returns; `begin` is called again when the list begins anew.

    Raises UnavailableError.
    """
    decoder = msgspec.json.Decoder(_Page[item])  # type: ignore[valid-type]
    asked = RequestCounts()
    for restart in range(RESTARTS + 1):
        take, items, token = begin(), 0, ""
        try:
            while True:
                page = _decoded(decoder, cluster.page(path, token, asked), what)
                held = _items(page, what)
                for each in held:
                    take(each)
                items += len(held)
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


def _items(page: "_Page[T]", what: str) -> list[T]:
    """The objects of a page. Raises UnavailableError for an answer that is no list of them.

    Gateways in front of an API server answer with what it never sends: a Status with code 200, a Table, another list.
    """
    resource, kind = what.partition(".")[0], page.kind.lower()
    of_one = kind.removesuffix("list")
    is_list = kind.endswith("list") and (not of_one or resource in {f"{of_one}s", f"{of_one}es", f"{of_one[:-1]}ies"})
    if page.kind and not is_list:
        raise no_list(what, f"its kind is {safe_text(page.kind)}")
    if isinstance(page.items, msgspec.UnsetType):
        raise no_list(what, "it has no items")
    if page.metadata.remaining_item_count and not page.metadata.continue_:
        raise no_list(what, f"{page.metadata.remaining_item_count:,} items are left, and nothing says how to go on")
    return page.items or []


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
    said = f"the server's {kind} {what} is not what Kubernetes sends: {secrets.redact(why[:WHY_LIMIT])}"
    return UnavailableError(unmeasured(Reason.ERROR, said[:WHY_LIMIT]))


def refuse_unread(amounts: Mapping[str, str | float] | None, what: str) -> None:
    """Raise UnavailableError for an amount that cannot be read: as one that is not stated it would be judged."""
    for name, written in (amounts or {}).items():
        if amount(written) is None:
            why = f"{name} is {written!s:.{WHY_LIMIT}}"
            raise no_list(what, why)
