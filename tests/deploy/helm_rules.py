"""What must hold of the chart's objects among each other, and of what the parts really read and listen on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mesh_core.settings import BadSettings
from tests.deploy import parts, rules
from tests.deploy.deployment import Deployment, Need, Service
from tests.deploy.helm_chart import (
    READYZ,
    Object,
    labels_of,
    of_kind,
    pod_of,
    quantity,
    read_chart,
    selects,
    with_servers,
    workloads,
)
from tests.deploy.helm_network_policies import findings_of_policies

SECRET = "sessionmesh"
CERTIFICATES = "certificates"
"""The Secrets of the operator, and of cert-manager with tls.secretName."""
FILES = ("tls.crt", "tls.key", "ca.crt")
POD = {
    "automountServiceAccountToken": False,
    "enableServiceLinks": False,
    "shareProcessNamespace": True,
    "securityContext": {
        "runAsNonRoot": True,
        "runAsUser": 10001,
        "runAsGroup": 10001,
        "fsGroup": 10001,
        "seccompProfile": {"type": "RuntimeDefault"},
    },
}
CONTAINER = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}
HEALTHZ = {"path": "/healthz", "port": "metrics"}


def findings(objects: Sequence[Object], config: Path, certificates: Path) -> list[str]:
    """One sentence for each thing that is wrong.

    `config` is the file that MESH_CONFIG names, `certificates` a folder with what cert-manager's Secret has.
    """
    try:
        deployment = _with_certificates(read_chart(objects), certificates)
        found = rules.findings(with_servers(deployment), config)
        for workload in workloads(objects):
            name = pod_of(workload)["containers"][0]["name"]
            service = deployment.services[name]
            found += [f"{name}: {what}" for what in _of_workload(workload, service, objects)]
            if service.is_part:
                settings = parts.settings_of(service, config)
                found += [
                    f"{name}: {what}" for what in _of_part(workload, service, settings, objects, certificates)
                ]
        return found + list(_of_others(objects))
    except (BadSettings, KeyError) as error:
        return [f"cannot be read: {error!r}"]


def _of_workload(workload: Object, service: Service, objects: Sequence[Object]) -> Iterator[str]:
    pod = pod_of(workload)
    [container] = pod["containers"]
    if {key: pod.get(key) for key in POD} != POD or container["securityContext"] != CONTAINER:
        yield "has rights that it does not need"
    if labels_of(workload)["app.kubernetes.io/component"] != service.name:
        yield "its pods have the name of another part"
    secrets = [volume["secret"]["secretName"] for volume in pod["volumes"] if "secret" in volume]
    if secrets not in ([SECRET], [SECRET, CERTIFICATES]):
        yield f"reads other secrets than the operator's: {secrets}"
    if {"name": "tmp", "mountPath": "/tmp"} not in container["volumeMounts"]:
        yield "cannot write to /tmp"
    if not any(
        selects(policy["spec"]["podSelector"]["matchLabels"], workload)
        and policy["spec"]["policyTypes"] == ["Ingress", "Egress"]
        for policy in of_kind(objects, "NetworkPolicy").values()
    ):
        yield "is not shut in"


def _of_part(
    workload: Object, service: Service, settings: Any, objects: Sequence[Object], certificates: Path
) -> Iterator[str]:
    spec, pod = workload["spec"], pod_of(workload)
    [container] = pod["containers"]
    server = settings.server
    listening = {
        "grpc": parts.port(server.listen),
        "peers": server.peer_port,
        "metrics": parts.port(server.metrics_listen),
    }
    if {port["name"]: port["containerPort"] for port in container["ports"]} != listening:
        yield f"does not listen on the ports that it says, but on {listening}"
    if service.needs.get("migrate") is not Need.COMPLETED:
        yield "does not wait until the schema is migrated"
    if not selects(spec["selector"]["matchLabels"], workload):
        yield "does not find its own pods"
    accounts = of_kind(objects, "ServiceAccount")
    if accounts[pod["serviceAccountName"]]["automountServiceAccountToken"] is not False:
        yield "gets a token"
    budgets = [
        budget
        for budget in of_kind(objects, "PodDisruptionBudget").values()
        if selects(budget["spec"]["selector"]["matchLabels"], workload)
    ]
    if [budget["spec"]["maxUnavailable"] for budget in budgets] != [1]:
        yield "more than one may be taken away at a time"
    for spread in pod["topologySpreadConstraints"]:
        if not selects(spread["labelSelector"]["matchLabels"], workload):
            yield "is spread over what it is not"
    yield from _of_kind_of_workload(workload, objects)
    wanted = [str(certificates / name) for name in FILES] if _has_certificates(service) else []
    given = [each for each in (server.tls_certificate, server.tls_key, server.tls_client_ca) if each]
    if given != wanted:
        yield f"speaks TLS with {given} and not {wanted}"
    yield from _probes(container)
    spool = getattr(getattr(settings, "media", None), "spool", "")
    if spool and spool not in {mount.target for mount in service.mounts if not mount.read_only}:
        yield f"cannot write to {spool}"
    yield from _room(pod, container, getattr(settings, "media", None))
    asked = rules.addresses_of(settings) + _traces(settings)
    yield from findings_of_policies(workload, listening, {parts.port(address) for address in asked}, objects)


def _room(pod: Object, container: Object, media: Any) -> Iterator[str]:
    """A pod is ended once a volume has more than its limit: what fills one must stay below."""
    limits = {volume["name"]: volume["emptyDir"] for volume in pod["volumes"] if "emptyDir" in volume}
    for name, volume in limits.items():
        if "sizeLimit" not in volume:
            yield f"{name} may fill the machine's disk"
    places = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
    if media and not 0 < media.spool_bytes < quantity(limits[places[media.spool]]["sizeLimit"]):
        yield "is ended when many files come at once"


def _has_certificates(service: Service) -> bool:
    return any(mount.source == CERTIFICATES for mount in service.mounts)


def _with_certificates(deployment: Deployment, certificates: Path) -> Deployment:
    """The deployment with a folder of this machine where its parts have mounted the certificates."""
    services = dict(deployment.services)
    for name, service in deployment.services.items():
        for mount in service.mounts:
            if mount.source == CERTIFICATES:
                environment = {
                    variable: value.replace(f"{mount.target}/", f"{certificates}/")
                    for variable, value in service.environment.items()
                }
                services[name] = replace(service, environment=environment)
    return replace(deployment, services=services)


def _of_kind_of_workload(workload: Object, objects: Sequence[Object]) -> Iterator[str]:
    spec = workload["spec"]
    if workload["kind"] == "StatefulSet":
        named = of_kind(objects, "Service")[spec["serviceName"]]["spec"]
        if named["clusterIP"] != "None" or not named.get("publishNotReadyAddresses"):
            yield "its pods have no names of their own, or only while they serve"
        if not selects(named["selector"], workload) or spec["podManagementPolicy"] != "Parallel":
            yield "starts one after the other, or without names"
    elif spec["strategy"]["rollingUpdate"] != {"maxSurge": 1, "maxUnavailable": 0}:
        yield "callers wait while it is replaced"


def _probes(container: Object) -> Iterator[str]:
    """Who hangs is ended, also while it starts; none is for what becomes of its servers."""
    for probe, asked in {"startupProbe": HEALTHZ, "livenessProbe": HEALTHZ, "readinessProbe": READYZ}.items():
        if container.get(probe, {}).get("httpGet") != asked:
            yield f"its {probe} does not ask {asked}"


def _of_others(objects: Sequence[Object]) -> Iterator[str]:
    """Who names a workload, or a part: services, budgets, policies, scalers, monitors."""
    found = {(each["kind"], each["metadata"]["name"]): each for each in workloads(objects)}
    for each in objects:
        spec, name = each.get("spec", {}), each["metadata"]["name"]
        target = spec.get("scaleTargetRef")
        if target and (target["kind"], target["name"]) not in found:
            yield f"{name}: there is no {target['name']} to scale"
        selector = spec.get("selector") if each["kind"] == "Service" else _labels(spec)
        if selector and not any(selects(selector, workload) for workload in found.values()):
            yield f"{each['kind']} {name}: chooses no pod"
        for port in spec.get("ports", ()) if each["kind"] == "Service" else ():
            pods = [workload for workload in found.values() if selects(selector, workload)]
            if port["name"] != port["targetPort"] or port["port"] not in _named(pods, port["targetPort"]):
                yield f"Service {name}: {port['port']} leads elsewhere"
        for endpoint in spec.get("podMetricsEndpoints", ()):
            if endpoint["port"] != "metrics" or endpoint["path"] != "/metrics":
                yield f"{name}: nothing to scrape"
            if spec["jobLabel"] != "app.kubernetes.io/component":
                yield f"{name}: the rules do not know its job"


def _labels(spec: Mapping[str, Any]) -> Mapping[str, str]:
    chosen: Mapping[str, str] = (spec.get("selector") or spec.get("podSelector") or {}).get("matchLabels", {})
    return chosen


def _named(pods: Sequence[Object], name: str) -> set[int]:
    return {
        port["containerPort"]
        for workload in pods
        for port in pod_of(workload)["containers"][0].get("ports", ())
        if port["name"] == name
    }


def _traces(settings: Any) -> list[str]:
    endpoint = settings.telemetry.otlp_endpoint
    return [endpoint] if endpoint else []
