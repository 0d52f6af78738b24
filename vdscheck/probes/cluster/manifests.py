"""Manifests: YAML or JSON files of Kubernetes objects, with the lines that they stand on."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NoReturn

import msgspec
import yaml

from vdscheck.measurements.cluster import Manifests, PodTemplate, Workload
from vdscheck.plugin import Host, SubjectError, UnavailableError, absolute, plain_yaml, safe_text
from vdscheck.probes.cluster.objects import Controller, Pod, PodSpec
from vdscheck.probes.cluster.templates import NAME_LIMIT, template
from vdscheck.probes.cluster.workloads import replicas, template_of

FILE_LIMIT_BYTES = 16 << 20
KINDS = ("Pod", "Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "ReplicationController", "Job", "CronJob")
OTHERS_SHOWN = 50
STANDARD_INPUT = "-"
CONTAINERS_LIMIT = 2000
"""Of one pod: etcd takes no object above 1.5 MiB (its --max-request-bytes), and one kubelet does not run so many."""
_HELM = "it looks like a template of Helm: give the rendered one (helm template CHART | vdscheck cluster -f -)"


def read(files: Sequence[str], namespace: str, standard_input: Callable[[], bytes]) -> Manifests:
    """The workloads in some files (`-` is standard input); `namespace` is that of objects that name none.

    Raises SubjectError: one line with file and line.
    """
    workloads: list[Workload] = []
    others: dict[str, int] = {}
    names = ["standard input" if file == STANDARD_INPUT else safe_text(file) for file in files]
    for file, shown in zip(files, names, strict=True):
        text = _content(file, shown, standard_input)
        for value, node in _objects(text, shown):
            kind = value["kind"]
            if kind in KINDS:
                workloads.append(_workload(value, node, shown, namespace))
            elif kind in others or len(others) < OTHERS_SHOWN:
                others[kind] = others.get(kind, 0) + 1
    if not workloads and not others:
        message = f"{', '.join(names)}: no Kubernetes object in it"
        raise SubjectError(message)
    return Manifests(files=tuple(map(safe_text, files)), workloads=tuple(workloads), others=others)


def _content(file: str, shown: str, standard_input: Callable[[], bytes]) -> str:
    if file == STANDARD_INPUT:
        raw = standard_input()
        if len(raw) > FILE_LIMIT_BYTES:
            _refuse(shown, f"larger than {FILE_LIMIT_BYTES:,} bytes")
    else:
        try:
            raw = Host().read_bytes(absolute(file), limit_bytes=FILE_LIMIT_BYTES)
        except UnavailableError as error:
            raise SubjectError(safe_text(error.absent.detail)) from error
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        _refuse(shown, f"not UTF-8 (byte {error.start}): not a manifest")


def _refuse(where: str, why: str) -> NoReturn:
    message = f"{where}: {why}"
    raise SubjectError(message)


def _objects(text: str, shown: str) -> Iterator[tuple[dict[str, Any], Any]]:
    """Each object of all documents and lists, with its YAML node."""
    try:
        for value, node in plain_yaml.documents(text):
            if value is not None:
                yield from _unlisted(value, node, shown, 0)
    except plain_yaml.YamlError as error:
        line = "" if error.line is None else f":{error.line}"
        _refuse(f"{shown}{line}", _HELM if "{{" in text else safe_text(str(error)))


def _unlisted(value: Any, node: Any, shown: str, depth: int) -> Iterator[tuple[dict[str, Any], Any]]:  # noqa: ANN401
    where = f"{shown}:{node.start_mark.line + 1}"
    if not isinstance(value, dict) or not isinstance(value.get("kind"), str) or "apiVersion" not in value:
        _refuse(where, "not a Kubernetes object: it has no apiVersion and kind")
    items = value.get("items")
    if value["kind"] != "List" and not isinstance(items, list):
        yield value, node
        return
    if not isinstance(items, list | None):
        _refuse(where, "the items of a List must be a list of objects")
    if depth > plain_yaml.DEPTH_LIMIT:
        _refuse(where, f"nested more than {plain_yaml.DEPTH_LIMIT} deep")
    nodes = _children(node, "items")
    if len(nodes) != len(items or ()):  # a merge brought them in: they have no node of their own here
        nodes = [node] * len(items or ())
    for each, its_node in zip(items or (), nodes, strict=True):
        yield from _unlisted(each, its_node, shown, depth + 1)


def _child(node: Any, *names: str) -> Any:  # noqa: ANN401
    """The node at a path of keys, or None. Of a key that is there twice the last counts."""
    for name in names:
        if not isinstance(node, yaml.MappingNode):
            return None
        node = next((value for key, value in reversed(node.value) if getattr(key, "value", None) == name), None)
    return node


def _children(node: Any, name: str) -> list[Any]:  # noqa: ANN401
    """The nodes of a list that stands under a key; none where that is no list."""
    found = _child(node, name)
    return list(found.value) if isinstance(found, yaml.SequenceNode) else []


def _workload(value: Mapping[str, Any], node: Any, shown: str, namespace: str) -> Workload:  # noqa: ANN401
    kind = value["kind"]
    where = f"{shown}:{node.start_mark.line + 1}"
    controller: Controller | None = None
    found: PodSpec | None
    try:
        if kind == "Pod":
            pod = msgspec.convert(value, Pod)
            meta, found = pod.metadata, pod.spec
            way = ["spec"]
        else:
            controller = msgspec.convert(value, Controller)
            meta, found = controller.metadata, template_of(controller)
            way = ["spec", *(["jobTemplate", "spec"] if kind == "CronJob" else []), "template", "spec"]
    except msgspec.ValidationError as error:
        _refuse(where, f"{kind}: {safe_text(str(error))[:200]}")
    if found is None:
        _refuse(where, f"a {kind} without {'.'.join(way)}")
    if not found.containers:
        _refuse(where, f"{kind}: {'.'.join(way)} has no containers")
    if (count := len(found.containers) + len(found.init_containers or ())) > CONTAINERS_LIMIT:
        _refuse(where, f"{kind}: {count:,} containers in one pod, and at most {CONTAINERS_LIMIT:,} are examined")
    if not meta.name and not isinstance(value["metadata"].get("generateName"), str):
        _refuse(where, f"a {kind} without metadata.name")
    return Workload(
        kind=kind,
        namespace=safe_text(meta.namespace or namespace)[:NAME_LIMIT],
        name=safe_text(meta.name or f"{value['metadata'].get('generateName', '')}*")[:NAME_LIMIT],
        where=where,
        wanted=replicas(kind, controller),
        template=_with_lines(template(found), _child(node, *way)),
        pods=None,
    )


def _with_lines(found: PodTemplate, spec: Any) -> PodTemplate:  # noqa: ANN401
    lines = []
    for name in ("initContainers", "containers"):
        lines += [each.start_mark.line + 1 for each in _children(spec, name)]
    if len(lines) != len(found.containers):
        return found
    pairs = zip(found.containers, lines, strict=True)
    return replace(found, containers=tuple(replace(each, line=line) for each, line in pairs))
