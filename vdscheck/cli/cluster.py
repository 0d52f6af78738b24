"""Opens a cluster: which one, as whom, and what is read of the caller's own files before it is asked."""

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache, partial
from typing import Any

from vdscheck.cli.judge import from_standard_input
from vdscheck.cli.request import Settings, UsageError, answered
from vdscheck.codec import encode
from vdscheck.measure.jobs import FRAME_LIMIT_BYTES
from vdscheck.plugin import Files
from vdscheck.target.cluster import Cluster, Login, login
from vdscheck.target.kubeconfig import NAMESPACE_NAME, ClusterError
from vdscheck.target.secrets import file_of
from vdscheck.target.text import absolute, safe_text

STANDARD_INPUT = "-"
FILES_LIMIT_BYTES = FRAME_LIMIT_BYTES - (64 << 10)
"""What a process that measures may tell, less what stands around it."""
FILES_LIMIT_S = 60.0
"""How long to read the largest files may take on a slow machine."""


def opened(settings: Settings, received: Sequence[int]) -> Cluster:
    """The cluster, found and not yet asked, and what the files say that were named. Raises UsageError."""
    namespaces = tuple(settings.first("namespace", ()))
    for name in namespaces:
        if not NAMESPACE_NAME.fullmatch(name):
            message = f"--namespace {safe_text(name)}: not the name of a namespace"
            raise UsageError(message)
    folder = settings.first("node-reports")
    if folder is not None and not answered(lambda: os.path.isdir(folder), folder):
        message = f"--node-reports {safe_text(folder)}: there is no such folder"
        raise UsageError(message)
    who = Login((), None, "manifests", "default") if settings.first("offline") else _login(settings)
    namespace = namespaces[0] if namespaces else who.namespace
    standard_input = cache(partial(from_standard_input, received))
    read = {name: _read(how, files, namespace, standard_input) for name, (how, files) in settings.files.items()}
    # With manifests the whole cluster counts: what its pods request is what is not free.
    return Cluster(who, () if read else namespaces, None if folder is None else absolute(folder), read)


def _login(settings: Settings) -> Login:
    """Which cluster, and as whom."""
    file = settings.first("kubeconfig")
    if (
        file is not None
        and "kubeconfig" not in settings.asked.said
        and settings.file is not None
        and not file.startswith("~")
    ):
        # Who wrote the configuration means a file beside it, not one in whatever folder this is called.
        file = os.path.join(os.path.dirname(settings.file), file)
    context = settings.first("context")
    by_variable = os.environ.get("KUBECONFIG")
    shown = file or (file_of("KUBECONFIG", by_variable) if by_variable else "~/.kube/config")
    try:
        return answered(lambda: login(file, context), shown, otherwise=": name another one with --kubeconfig")
    except ClusterError as error:
        raise UsageError(str(error)) from error


def _begun(file: str) -> None:
    """Read the first byte of a file: what never answers need not be waited for as long as a large one.

    A pipe may take its time, and what else is wrong is said when all of it is read.
    """
    with suppress(OSError):
        if os.path.isfile(file):
            descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            os.read(descriptor, 1)
            os.close(descriptor)


def _read(how: Files, files: Sequence[str], namespace: str, standard_input: Callable[[], bytes]) -> Any:  # noqa: ANN401 - whatever an area reads
    """What is read of the files that were named. Raises SubjectError."""
    content = standard_input() if STANDARD_INPUT in files else b""
    for file in files:
        if file != STANDARD_INPUT:
            answered(partial(_begun, file), file)
    found = answered(lambda: how.read(files, namespace, lambda: content), *files, seconds=FILES_LIMIT_S)
    if (size_bytes := len(encode(found))) > FILES_LIMIT_BYTES:
        # Lost later, all workloads would be unknown, and a gate that asks for failures alone would hold.
        message = (
            f"{safe_text(' '.join(files))}: what is in them takes {size_bytes:,} bytes, more than the "
            f"{FILES_LIMIT_BYTES:,} that are examined at once: name fewer, or parts of them"
        )
        raise UsageError(message)
    return found
