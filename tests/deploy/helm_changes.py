"""Every way of changing one thing in the chart's objects that must not go unnoticed."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Sequence
from typing import Any

from tests.deploy.helm_chart import Object

Path = tuple[str | int, ...]

LABELS = {"matchLabels", "selector"}
NAMES = {
    "serviceName",
    "serviceAccountName",
    "secretName",
    "mountPath",
    "fieldPath",
    "targetPort",
    "jobLabel",
}
"""Keys whose value must be another's name."""
POD_LABELS = {f"app.kubernetes.io/{name}" for name in ("name", "instance", "component")}
GUARDS = {
    "livenessProbe",
    "startupProbe",
    "readinessProbe",
    "runAsNonRoot",
    "seccompProfile",
    "capabilities",
    "readOnlyRootFilesystem",
    "automountServiceAccountToken",
    "shareProcessNamespace",
    "publishNotReadyAddresses",
    "podManagementPolicy",
    "policyTypes",
    "updateStrategy",
    "strategy",
}
"""Keys without which something is lost."""


def changed(objects: Sequence[Object]) -> Iterator[tuple[str, list[Object]]]:
    """Each change in words, with the objects: of a command, port, variable, name, dependency, guard."""
    for at, found in enumerate(objects):
        title = f"{found['kind']} {found['metadata']['name']}"
        for what, place, other in _changes(found):
            yield f"{title}: {what}", [*objects[:at], _with(found, place, other), *objects[at + 1 :]]


def _changes(found: Object) -> Iterator[tuple[str, Path, Any]]:
    """What is changed, where, and to what; to nothing for None."""
    for place, value in _leaves(found, ()):
        words = ".".join(map(str, place))
        keys = [key for key in place if isinstance(key, str)]
        last = keys[-1] if keys else ""
        if "labels" in keys and "template" not in keys:
            continue
        if last in GUARDS and place[-1] == last:
            yield f"without {words}", place, None
        if isinstance(value, str):
            yield from _texts(words, place, keys, value)
        elif isinstance(value, int) and not isinstance(value, bool):
            if last in {"port", "containerPort"}:
                yield f"{words} one higher", place, value + 1
            if last == "terminationGracePeriodSeconds":
                yield "killed after its drain", place, value - 15


def _texts(words: str, place: Path, keys: Sequence[str], value: str) -> Iterator[tuple[str, Path, Any]]:
    last = keys[-1]
    is_variable = "env" in keys or keys[:1] == ["data"]
    is_name = last in NAMES or (
        last == "name" and bool({"env", "envFrom", "ports", "scaleTargetRef"} & {*keys})
    )
    if is_name or LABELS & {*keys} or last in {"args", "command"}:
        yield f"{words} is {value}x", place, f"{value}x"
    if "template" in keys and last in POD_LABELS:
        yield f"{words} is {value}x", place, f"{value}x"
    if last in {"path", "port"} and {"podMetricsEndpoints", "httpGet"} & {*keys}:
        yield f"{words} is {value}x", place, f"{value}x"
    if is_variable and place[-1] != "name":
        for match in re.finditer(r"(?:(?<=:)|^)\d{4,5}\b", value):
            if ":" in value or last.endswith("_PORT"):
                moved = f"{value[: match.start()]}{int(match[0]) + 1}{value[match.end() :]}"
                yield f"{words}={moved}", place, moved
    if last == "helm.sh/hook":
        for hook in value.split(","):
            yield f"{words} without {hook}", place, ",".join(set(value.split(",")) - {hook})


def _leaves(value: Any, place: Path) -> Iterator[tuple[Path, Any]]:
    """Every place and what is there, the folders before what is in them."""
    if place:
        yield place, value
    children = (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    )
    for key, child in children:
        yield from _leaves(child, (*place, key))


def _with(found: Object, place: Path, value: Any) -> Object:
    """A copy with something else in a place, or nothing."""
    other: Any = copy.deepcopy(dict(found))
    inner = other
    for key in place[:-1]:
        inner = inner[key]
    if value is None:
        del inner[place[-1]]
    else:
        inner[place[-1]] = value
    return other  # type: ignore[no-any-return] # what YAML holds


def misspelt(objects: Sequence[Object]) -> Iterator[tuple[str, list[Object]]]:
    """Each variable of the settings under another name."""
    for at, found in enumerate(objects):
        if found["kind"] != "ConfigMap":
            continue
        for name, value in found["data"].items():
            data = {key: each for key, each in found["data"].items() if key != name} | {f"{name}X": value}
            yield f"variable {name} misspelt", [*objects[:at], {**found, "data": data}, *objects[at + 1 :]]
