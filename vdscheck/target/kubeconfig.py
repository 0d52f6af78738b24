"""Kubeconfigs: read and checked before anything is asked; of what stands in them only names are repeated."""

import os
import re
from collections.abc import Mapping
from typing import Any, NoReturn

from vdscheck.model.absence import UnavailableError
from vdscheck.target import trusted
from vdscheck.target.host import Host
from vdscheck.target.secrets import without_logins
from vdscheck.target.text import absolute, safe_text

SIZE_LIMIT_BYTES = 16 << 20
_TEXTS = {
    "clusters": ("server", "tls-server-name", "certificate-authority", "certificate-authority-data", "proxy-url"),
    "users": (
        "token",
        "tokenFile",
        "username",
        "password",
        "client-certificate",
        "client-certificate-data",
        "client-key",
        "client-key-data",
    ),
    "contexts": ("cluster", "user", "namespace"),
}
"""The fields of each list that are texts: kubectl reads no file in which one of them is something else."""

_FLAGS = {"clusters": ("insecure-skip-tls-verify", "disable-compression")}
"""The fields that are true or false: the kubernetes package takes the text "false" for true."""


NAMESPACE_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
"""Of a namespace: an RFC 1123 label. It becomes a part of the paths that are asked for."""


class ClusterError(Exception):
    """A kubeconfig that leads nowhere: one line, without secrets. Nothing was measured then."""


def shown_name(name: str) -> str:
    """A name as it may be repeated: some are the address of the server, and have a login in it."""
    return safe_text(without_logins(name))


def contexts(tables: Mapping[str, dict[str, Any]]) -> tuple[dict[str, str], str]:
    """Each context of some files with its namespace, and the current one; the first that says something counts.

    Raises ClusterError.
    """
    found: dict[str, str] = {}
    current = ""
    for file, table in tables.items():
        current = current or _text(table, "current-context", safe_text(file))
        lists = {kind: _listed(table, kind, safe_text(file)) for kind in _TEXTS}
        for name, inner in lists["contexts"]:
            found.setdefault(name, inner.get("namespace") or "")
    return found, current


def read(file: str, *, found: bool = False) -> dict[str, Any]:
    """What a kubeconfig says, not yet checked. Raises ClusterError.

    One that is `found`, and that nobody named, is read only where nobody else can have written it: it names a program.
    """
    from vdscheck.target.plain_yaml import YamlError, documents

    shown = safe_text(file)
    try:
        content = _trusted(file) if found else Host().read_bytes(absolute(file), limit_bytes=SIZE_LIMIT_BYTES)
        tables = [value for value, _ in documents(content.decode("utf-8-sig")) if value is not None]
    except UnavailableError as error:
        raise ClusterError(safe_text(error.absent.detail)) from error
    except UnicodeDecodeError as error:
        _refuse(f"{shown}: not a kubeconfig: not UTF-8 (byte {error.start})")
    except YamlError as error:
        at = "" if error.line is None else f":{error.line}"
        _refuse(f"{shown}{at}: not a kubeconfig: not YAML")  # the text around it may be a secret
    if len(tables) != 1 or not isinstance(tables[0], dict):
        _refuse(f"{shown}: not a kubeconfig: {'one document is wanted' if len(tables) > 1 else 'no map in it'}")
    return tables[0]


def _trusted(file: str) -> bytes:
    try:
        return trusted.read(file, os.geteuid(), limit_bytes=SIZE_LIMIT_BYTES)
    except trusted.UntrustedError as error:
        shown = safe_text(file)
        _refuse(f"refusing {shown}: {error}. To use it: --kubeconfig {shown}")


def _listed(table: dict[str, Any], kind: str, shown: str) -> list[tuple[str, dict[str, Any]]]:
    """The entries of a list with their names."""
    entries = table.get(kind) or []
    if not isinstance(entries, list):
        _refuse(f"{shown}: not a kubeconfig: {kind} is not a list")
    listed = [_entry(each, kind, shown) for each in entries]
    names: set[str] = set()
    for name, _ in listed:
        if name in names:
            _refuse(f"{shown}: {kind}: duplicate name {shown_name(name)[:100]}: take one of them out")
        names.add(name)
    return listed


def _entry(each: Any, kind: str, shown: str) -> tuple[str, dict[str, Any]]:  # noqa: ANN401 - any value of YAML
    name = each.get("name") if isinstance(each, dict) else None
    if not isinstance(name, str):
        _refuse(f"{shown}: {kind}: each needs a name that is a text")
    inner = each.get(kind.removesuffix("s")) or {}
    where = f"{shown}: {kind}: {shown_name(name)[:100]}"
    if not isinstance(inner, dict):
        _refuse(f"{where}: {kind.removesuffix('s')} is not a map")
    for field in _TEXTS[kind]:
        _text(inner, field, where)
    for field in _FLAGS.get(kind, ()):
        if not isinstance(inner.get(field), bool | None):
            _refuse(f"{where}: {field} is neither true nor false: write it without quotes")
    return name, inner


def _text(table: dict[str, Any], field: str, where: str) -> str:
    value = table.get(field)
    if not isinstance(value, str | None):
        _refuse(f"{where}: {field} is not a text: put it in quotes")
    return value or ""


def _refuse(message: str) -> NoReturn:
    raise ClusterError(message) from None
