"""The chart of Helm: rendered, and read as a deployment of its parts."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from tests.deploy.compose_file import COMPOSE, read_compose
from tests.deploy.deployment import Deployment, Mount, Need, Service, Update
from tests.deploy.running import without
from tests.support.tools import require_tool

CHART = Path(__file__).parents[2] / "deploy" / "helm" / "sessionmesh"
RELEASE, NAMESPACE = "sessionmesh", "mesh"
SIZES = {place.stem.removeprefix("values-"): place for place in sorted(CHART.glob("values-*.yaml"))}
"""The values for so many accounts."""
SERVERS = ("etcd", "postgres", "redis", "s3", "collector", "jaeger")
"""Of Compose: they stand in for those that a cluster has."""
PEERS = f"{RELEASE}-peers"
"""The service that gives pods their names."""
SHELL = re.compile(r'MESH_SERVER_ADVERTISE=\$\(echo "\$POD_IP" \| tr \. -\)\.(\S+) exec mesh "\$0"')
"""What names a pod after its address, and becomes the part."""
READYZ = {"path": "/readyz", "port": "metrics"}
"""What answers as `mesh-health` does."""
WORKLOADS = ("Deployment", "StatefulSet", "Job")
_UNITS = {"Mi": 1 << 20, "Gi": 1 << 30}

Object = Mapping[str, Any]


def helm(*words: str) -> subprocess.CompletedProcess[str]:
    """Run helm with these words, to its end."""
    return subprocess.run([require_tool("helm"), *words], capture_output=True, text=True, check=False)


@cache
def render(size: str, *settings: str) -> tuple[Object, ...]:
    """The objects of a size, `settings` as `--set` takes them. AssertionError where Helm refuses it."""
    given = [word for setting in settings for word in ("--set", setting)]
    done = helm("template", RELEASE, str(CHART), "--namespace", NAMESPACE, "-f", str(SIZES[size]), *given)
    assert done.returncode == 0, done.stderr
    return tuple(found for found in yaml.load_all(done.stdout, yaml.CSafeLoader) if found)


def read_chart(objects: Sequence[Object]) -> Deployment:
    """What the objects start. Raises `KeyError` for what one names and no other has."""
    services = {
        service.name: service for found in workloads(objects) for service in (_service(found, objects),)
    }
    return Deployment(services, inside=frozenset({"inside"}), orders=True)


def each_pod(deployment: Deployment) -> Deployment:
    """The deployment with a service for each replica, as its pods have addresses and names of their own."""
    pods: dict[str, Service] = {}
    for service in deployment.services.values():
        names = [service.name] if service.ends else [f"{service.name}-{at}" for at in range(service.replicas)]
        for name in names:
            environment = {
                variable: re.sub(rf"^{service.name}(-0)?(?=[.:]|$)", name, value)
                for variable, value in service.environment.items()
            }
            pods[name] = replace(service, name=name, environment=environment)
    return replace(deployment, services=pods)


def with_servers(deployment: Deployment) -> Deployment:
    """The deployment together with its servers, which are there before it is installed."""
    servers = _servers()
    there = {name: Need.HEALTHY if service.health else Need.STARTED for name, service in servers.items()}
    parts = {
        name: replace(service, needs={**service.needs, **there})
        for name, service in deployment.services.items()
    }
    return replace(deployment, services={**servers, **parts})


def workloads(objects: Sequence[Object]) -> Iterator[Object]:
    """Of the objects those that start pods."""
    return (found for found in objects if found["kind"] in WORKLOADS)


def of_kind(objects: Sequence[Object], kind: str) -> dict[str, Object]:
    """The objects of a kind, by their names."""
    return {found["metadata"]["name"]: found for found in objects if found["kind"] == kind}


def pod_of(workload: Object) -> Object:
    """What a workload says of its pods."""
    spec: Object = workload["spec"]["template"]["spec"]
    return spec


def labels_of(workload: Object) -> Mapping[str, str]:
    """The labels of its pods."""
    labels: Mapping[str, str] = workload["spec"]["template"]["metadata"]["labels"]
    return labels


def selects(selector: Mapping[str, str], workload: Object) -> bool:
    """Whether all labels of a selector are those of the workload's pods."""
    return selector.items() <= labels_of(workload).items()


@cache
def _servers() -> Mapping[str, Service]:
    compose = read_compose(COMPOSE, SESSIONMESH_IMAGE="sessionmesh")
    return without(compose, [name for name in compose.services if name not in SERVERS]).services


def _service(workload: Object, objects: Sequence[Object]) -> Service:
    pod = pod_of(workload)
    [container] = pod["containers"]
    name = container["name"]
    pause = container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
    return Service(
        name=name,
        image=container["image"],
        command=tuple(container["args"]),
        environment=_environment(container, name, objects),
        needs={} if workload["kind"] == "Job" else _needs(objects),
        health=("mesh-health",) if container.get("readinessProbe", {}).get("httpGet") == READYZ else (),
        mounts=tuple(_mounts(pod, container)),
        networks=("inside", "outside"),
        published=_published(workload, container, objects),
        pause_seconds=float(pause),
        stop_seconds=float(pod.get("terminationGracePeriodSeconds", 30) - pause),
        hostname=_hostname(workload, name, objects),
        memory_bytes=quantity(container["resources"]["limits"]["memory"]),
        read_only=bool(container["securityContext"]["readOnlyRootFilesystem"]),
        ends=workload["kind"] == "Job",
        replicas=int(workload["spec"].get("replicas", 1)),
        update=_update(workload),
    )


def _update(workload: Object) -> Update | None:
    """A StatefulSet goes on once the new one serves; if it does not, `helm upgrade --atomic` goes back."""
    if workload["kind"] != "StatefulSet":
        return None
    return Update(1, drains=workload["spec"]["updateStrategy"] == {"type": "RollingUpdate"}, rolls_back=True)


def _environment(container: Object, part: str, objects: Sequence[Object]) -> dict[str, str]:
    """The variables of the mesh that a container gets; an address is the part's name."""
    maps = of_kind(objects, "ConfigMap")
    found: dict[str, str] = {}
    for source in container.get("envFrom", ()):
        found |= maps[source["configMapRef"]["name"]]["data"]
    fields = {"status.podIP": part, "metadata.name": f"{part}-0"}
    for variable in container.get("env", ()):
        value = variable.get("value") or fields[variable["valueFrom"]["fieldRef"]["fieldPath"]]
        if "command" in container and variable["name"] == "POD_IP":
            found["MESH_SERVER_ADVERTISE"] = f"{part}.{_peers_of(container['command'])}"
        found[variable["name"]] = re.sub(
            r"\$\((\w+)\)", lambda match: found.get(match[1], match[0]), str(value)
        )
    return {name: value for name, value in found.items() if name != "POD_IP"}


def _hostname(workload: Object, part: str, objects: Sequence[Object]) -> str:
    """The name in DNS of the first pod: a StatefulSet gives it one, others have one by their address."""
    [service] = [name for name in of_kind(objects, "Service") if name == PEERS]
    own = f"{part}-0" if workload["kind"] == "StatefulSet" else part
    return f"{own}.{service}.{NAMESPACE}.svc"


def _peers_of(command: Sequence[str]) -> str:
    """What follows a pod's own name in the shell's command. Raises `KeyError` for another command."""
    match = SHELL.fullmatch(command[2])
    if command[:2] != ["sh", "-c"] or match is None:
        raise KeyError(f"{command} is not known to start a part")
    return match[1]


def _needs(objects: Sequence[Object]) -> dict[str, Need]:
    """Helm waits for the end of what runs before an installation and before an upgrade."""
    jobs = of_kind(objects, "Job").values()
    before = {
        job["spec"]["template"]["spec"]["containers"][0]["name"]: set(
            job["metadata"]["annotations"].get("helm.sh/hook", "").split(",")
        )
        for job in jobs
    }
    return {name: Need.COMPLETED for name, hooks in before.items() if hooks == {"pre-install", "pre-upgrade"}}


def _mounts(pod: Object, container: Object) -> Iterator[Mount]:
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    for mount in container["volumeMounts"]:
        volume = volumes[mount["name"]]
        source = (
            volume["secret"]["secretName"] if "secret" in volume else f"{container['name']}-{mount['name']}"
        )
        if mount["mountPath"] != "/tmp":
            yield Mount(source, mount["mountPath"], bool(mount.get("readOnly")), is_volume=True)


def _published(workload: Object, container: Object, objects: Sequence[Object]) -> dict[int, int]:
    """Ports for callers, by the port inside; a port of an unknown name is none."""
    ports = {port["name"]: port["containerPort"] for port in container.get("ports", ())}
    services = of_kind(objects, "Service").values()
    return {
        ports.get(port["targetPort"], 0): port["port"]
        for service in services
        if not service["spec"].get("publishNotReadyAddresses")
        and selects(service["spec"]["selector"], workload)
        for port in service["spec"]["ports"]
    }


def quantity(text: str) -> int:
    """The bytes that Kubernetes writes so, such as 10Gi."""
    return int(text[:-2]) * _UNITS[text[-2:]]
