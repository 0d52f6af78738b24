"""Lists of the Kubernetes API, page by page, so that memory does not grow with them."""

from collections.abc import Callable
from typing import Generic, TypeVar

import msgspec

from vdscheck.cluster import Asked, Cluster, GoneError
from vdscheck.measurements.cluster import ListRead
from vdscheck.model import UnavailableError
from vdscheck.plugin import Reason, unmeasured
from vdscheck.probes.cluster.objects import ListMeta
from vdscheck.secrets import redact

RESTARTS = 2
"""How often a list begins anew when its token has expired: etcd keeps them for 5 minutes by default."""

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
                token = page.metadata.continue_
                if not token:
                    return ListRead(
                        what=what,
                        requests=asked.requests,
                        size_bytes=asked.size_bytes,
                        duration_s=round(asked.duration_s, 6),
                        items=items,
                    )
        except GoneError:
            if restart == RESTARTS:
                raise
    raise AssertionError


def _decoded(decoder: "msgspec.json.Decoder[_Page[T]]", content: bytes, what: str) -> "_Page[T]":
    try:
        return decoder.decode(content)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        why = f"the server's list of {what} is not what Kubernetes sends: {redact(str(error))}"
        raise UnavailableError(unmeasured(Reason.ERROR, why[:300])) from error


def decoded(content: bytes, kind: type[T], what: str) -> T:
    """One object. Raises UnavailableError for what is none."""
    try:
        return msgspec.json.decode(content, type=kind)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        why = f"the server's answer for {what} is not what Kubernetes sends: {redact(str(error))}"
        raise UnavailableError(unmeasured(Reason.ERROR, why[:300])) from error
