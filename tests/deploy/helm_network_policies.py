"""What the chart's network policies must let in and out of the pods of a part, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from typing import Any

import yaml

from tests.deploy.helm_chart import CHART, Object, labels_of, of_kind, selects

DNS = 53
NAMED = yaml.safe_load((CHART / "values.yaml").read_text())["networkPolicy"]
"""Whom the values name."""
CALLED = {"router"}
REACHES_OUT = {"session-node", "media", "webhook"}


def findings_of_policies(
    workload: Object, listening: Mapping[str, int], asked: Set[int], objects: Sequence[Object]
) -> Iterator[str]:
    """What is wrong with what may come in and go out: to ports that a part listens on, by name, or asks."""
    policies = [
        policy["spec"]
        for policy in of_kind(objects, "NetworkPolicy").values()
        if _chosen(policy["spec"]["podSelector"], workload)
    ]
    entries = [rule for policy in policies for rule in policy.get("ingress") or ()]
    own = [rule for rule in entries if _from_parts(rule.get("from"), workload)]
    if _ports(own) != {listening["grpc"], listening["peers"]}:
        yield f"other parts may call {sorted(_ports(own))}"
    for policy in policies:
        if policy.get("policyTypes") != [way for way in ("Ingress", "Egress") if way.lower() in policy]:
            yield "a policy shuts in less than it seems to"
    name = labels_of(workload)["app.kubernetes.io/component"]
    strangers = [rule for rule in entries if rule not in own]
    if [rule["from"] for rule in strangers if rule["from"] not in (NAMED["callers"], NAMED["prometheus"])]:
        yield "others may call than those that the values name"
    others = {listening["metrics"]} | ({listening["grpc"]} if name in CALLED else set())
    if _ports(strangers) != others:
        yield f"strangers may call what is not {sorted(others)}"
    exits = [rule for policy in policies for rule in policy.get("egress") or ()]
    to_parts = [rule for rule in exits if _from_parts(rule.get("to"), workload)]
    if _ports(to_parts) != {listening["grpc"], listening["peers"]}:
        yield "cannot call other parts"
    out = [rule for rule in exits if any("ipBlock" in peer for peer in rule.get("to", ()))]
    if bool(out) != (name in REACHES_OUT):
        yield "reaches the internet without need, or does not"
    rest = [rule for rule in exits if rule not in to_parts and rule not in out]
    wanted = asked | {DNS}
    if not wanted <= _ports(rest) or _ports(rest, "UDP") != {DNS}:
        yield f"cannot ask {sorted(wanted - _ports(rest))}, or not over TCP and DNS over UDP"


def _chosen(selector: Mapping[str, Any], workload: Object) -> bool:
    labels = labels_of(workload)
    return selects(selector["matchLabels"], workload) and all(
        labels.get(each["key"]) in each["values"] for each in selector.get("matchExpressions", ())
    )


def _from_parts(peers: Sequence[Object] | None, workload: Object) -> bool:
    return any(
        "namespaceSelector" not in peer and selects(peer["podSelector"]["matchLabels"], workload)
        for peer in peers or ()
        if "podSelector" in peer
    )


def _ports(allowed: Sequence[Object], protocol: str = "TCP") -> set[int]:
    listed = [port for rule in allowed for port in rule["ports"] if port["protocol"] == protocol]
    return {port["port"] for port in listed if "port" in port}
