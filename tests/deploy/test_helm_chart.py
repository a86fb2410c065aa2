"""The chart of Helm: Helm and Kubernetes take it, all in it fits together, no change goes unnoticed."""

from __future__ import annotations

import json
import os
import re
import subprocess
import tomllib
from collections.abc import Callable
from itertools import chain
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from tests.deploy import parts
from tests.deploy.custom_resources import SPECS, unknown_fields
from tests.deploy.helm_changes import changed, misspelt
from tests.deploy.helm_chart import (
    CHART,
    NAMESPACE,
    RELEASE,
    SIZES,
    helm,
    of_kind,
    pod_of,
    read_chart,
    render,
    workloads,
)
from tests.deploy.helm_network_policies import DNS
from tests.deploy.helm_rules import FILES, findings

KUBERNETES = "1.37"
ROOT = CHART.parents[2]
EVERYTHING = (
    "sessionNode.autoscaling.enabled=true",
    "router.autoscaling.enabled=true",
    "router.loadBalancer.enabled=true",
    "router.loadBalancer.endsTls=true",
    "traces.endpoint=http://collector:4317",
    "monitoring.podMonitors=true",
    r"nodeSelector.kubernetes\.io/arch=amd64",
    "tolerations[0].key=accounts",
    "tolerations[0].operator=Exists",
    r"objects.accountAnnotations.eks\.amazonaws\.com/role-arn=arn:aws:iam::1:role/files",
)
TLS = ("tls.secretName=certificates",)
WATCHED = ("monitoring.rules=true", "monitoring.dashboards=true")
NODE_MIB, ACCOUNT_MIB = 101, 0.24
"""What a session-node and its sidecar take without accounts, and for each of them: docs/benchmarks.md."""
MIB = 1 << 20

sizes = pytest.mark.parametrize("size", SIZES)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files of cert-manager's Secret; what is in them does not matter here."""
    folder = tmp_path_factory.mktemp("certificates")
    for name in FILES:
        (folder / name).touch()
    return folder


def test_helm_has_nothing_to_say() -> None:
    done = helm(
        "lint", "--strict", "--quiet", str(CHART), *chain(*(("-f", str(SIZES[size])) for size in SIZES))
    )
    assert (done.returncode, done.stdout) == (0, "")


def test_kubernetes_takes_all_of_it() -> None:
    """Each object once that any of the sizes has, with all that can be asked for."""
    asked = (*EVERYTHING, *WATCHED, *TLS)
    objects = {json.dumps(found): found for size in SIZES for found in render(size, *asked)}
    for found in objects.values():
        if (found["apiVersion"], found["kind"]) in SPECS:
            assert unknown_fields(found) == []
        else:
            kubernetes_validate.validate(found, KUBERNETES, strict=True)


def test_a_misspelt_field_of_a_custom_resource_is_found() -> None:
    [scaler] = of_kind(render("7000", *EVERYTHING), "ScaledObject").values()
    assert unknown_fields({**scaler, "spec": {**scaler["spec"], "minReplicas": 1}}) == [".spec.minReplicas"]
    assert unknown_fields({**scaler, "spec": {"triggers": "none"}}) == [".spec.triggers"]


@sizes
@pytest.mark.parametrize("settings", [(), EVERYTHING, TLS], ids=["plain", "everything", "tls"])
def test_all_of_it_fits_together(
    size: str, settings: tuple[str, ...], config: Path, certificates: Path
) -> None:
    assert findings(render(size, *settings), config, certificates) == []


@pytest.mark.parametrize("settings", [EVERYTHING, TLS], ids=["everything", "tls"])
def test_no_change_goes_unnoticed(
    settings: tuple[str, ...],
    config: Path,
    certificates: Path,
    record_property: Callable[[str, object], None],
) -> None:
    objects = render("500", *settings)
    noticed = {
        what: bool(findings(other, config, certificates))
        for what, other in chain(changed(objects), misspelt(objects))
    }
    record_property("deploy_mutations", len(noticed))
    record_property("deploy_mutations_noticed", sum(noticed.values()))
    assert len(noticed) > 200
    assert [what for what, seen in noticed.items() if not seen] == []


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("router.replica=2", "'/router': additional properties 'replica' not allowed"),
        ("sessionNode.capacity=0", "'/sessionNode/capacity': minimum: got 0, want 1"),
        ("etcd.endpoints={etcd}", "'/etcd/endpoints/0': 'etcd' does not match pattern"),
        ("driver=whatsapp", "'/driver': value must be one of"),
        ("settings.LISTEN=x", "'/settings': additional properties 'LISTEN' not allowed"),
        ("settings.MESH_SERVER_LISTEN=x", "settings.MESH_SERVER_LISTEN: the chart sets it itself"),
        ("tolerations[0].keys=x", "'/tolerations/0': additional properties 'keys' not allowed"),
        ("networkPolicy.enabled=false", 'set settings.MESH_NETWORK_PRIVATE to "true"'),
        ("router.loadBalancer.enabled=true", "callers would send their keys in plain text"),
    ],
)
def test_a_wrong_value_is_refused(setting: str, words: str) -> None:
    done = helm("template", RELEASE, str(CHART), "--set", setting)
    assert done.returncode == 1
    assert words in done.stderr


def test_the_policies_open_no_port_that_nobody_asks() -> None:
    [policy] = [
        each for name, each in of_kind(render("500"), "NetworkPolicy").items() if name.endswith("-parts")
    ]
    opened = {port["port"] for rule in policy["spec"]["egress"] if "to" not in rule for port in rule["ports"]}
    assert opened == {DNS, 2379, 5432, 6379, 8333}


@sizes
def test_a_size_holds_its_accounts_with_one_node_away(size: str, config: Path) -> None:
    node = read_chart(render(size)).services["session-node"]
    settings = parts.settings_of(node, config)
    assert (node.replicas - 1) * settings.node.capacity >= int(size)
    waiting = settings.session.node_outbox_bytes
    assert node.memory_bytes >= (NODE_MIB + ACCOUNT_MIB * settings.node.capacity) * MIB + waiting


@sizes
def test_a_size_has_the_settings_that_were_chosen_for_it(size: str) -> None:
    lines = (ROOT / "deploy" / "settings" / f"{size}-accounts.env").read_text().splitlines()
    chosen = dict(line.split("=", 1) for line in lines if not line.startswith("#"))
    values = yaml.safe_load(SIZES[size].read_text())
    assert {"MESH_NODE_CAPACITY": str(values["sessionNode"]["capacity"]), **values["settings"]} == chosen


def test_every_pod_keeps_to_the_machines_that_it_is_for() -> None:
    """The one that migrates, too: where it cannot run nothing is installed."""
    for workload in workloads(render("500", *EVERYTHING)):
        pod = pod_of(workload)
        assert pod["nodeSelector"] == {"kubernetes.io/arch": "amd64"}
        assert pod["tolerations"] == [{"key": "accounts", "operator": "Exists"}]


def test_only_media_has_the_keys_that_the_cloud_gives() -> None:
    accounts = of_kind(render("500", *EVERYTHING), "ServiceAccount")
    named = {name: each["metadata"].get("annotations") for name, each in accounts.items()}
    role = {"eks.amazonaws.com/role-arn": "arn:aws:iam::1:role/files"}
    assert named == dict.fromkeys(accounts) | {f"{RELEASE}-media": role}


def test_nodes_are_added_before_all_are_full() -> None:
    assert not of_kind(render("7000"), "ScaledObject")
    [scaler] = of_kind(render("7000", *EVERYTHING), "ScaledObject").values()
    [trigger] = scaler["spec"]["triggers"]
    assert trigger["metadata"]["query"] == f'max(mesh_fleet_accounts{{namespace="{NAMESPACE}"}})'
    assert int(trigger["metadata"]["threshold"]) == 1400 * 80 // 100
    [nodes] = of_kind(render("7000", *EVERYTHING), "StatefulSet").values()
    assert "replicas" not in nodes["spec"]


def test_the_rules_and_dashboards_are_those_of_this_repository() -> None:
    objects = render("500", *WATCHED)
    rules = {name: each["spec"] for name, each in of_kind(objects, "PrometheusRule").items()}
    assert rules == {
        f"{RELEASE}-{place.stem}": yaml.safe_load(place.read_text())
        for place in (ROOT / "deploy" / "prometheus" / "rules").glob("*.yml")
    }
    shown = {
        name: text
        for each in of_kind(objects, "ConfigMap").values()
        if each["metadata"]["labels"].get("grafana_dashboard")
        for name, text in each["data"].items()
    }
    assert shown.keys() == {place.name for place in (ROOT / "deploy" / "grafana" / "dashboards").iterdir()}


def test_with_tls_each_pod_is_reached_by_a_name_that_a_certificate_can_have(tmp_path: Path) -> None:
    """One of *.RELEASE-peers.NAMESPACE.svc, which DNS makes of a pod's address, or of its name."""
    stub = tmp_path / "mesh"
    stub.write_text('#!/bin/sh\necho "$MESH_SERVER_ADVERTISE $*"\n')
    stub.chmod(0o755)
    objects = render("500", *TLS)
    peers = f"{RELEASE}-peers.{NAMESPACE}.svc:7600"
    for workload in workloads(objects):
        [container] = pod_of(workload)["containers"]
        if workload["kind"] == "Deployment":
            done = subprocess.run(
                [*container["command"], *container["args"]],
                env={"PATH": f"{tmp_path}:{os.environ['PATH']}", "POD_IP": "10.1.2.3"},
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.stdout == f"10-1-2-3.{peers} {container['args'][0]}\n"
        elif workload["kind"] == "StatefulSet":
            assert {"name": "MESH_SERVER_ADVERTISE", "value": f"$(MESH_NODE_ID).{peers}"} in container["env"]


def test_the_chart_is_of_this_release() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert (chart["version"], chart["appVersion"]) == (version, version)


def test_an_upgrade_that_does_not_serve_is_taken_back() -> None:
    page = (ROOT / "docs" / "deploy.md").read_text()
    upgrades = re.findall(r"helm upgrade [^\n]*(?:\\\n[^\n]*)*", page)
    assert upgrades
    assert [each for each in upgrades if "--atomic" not in each] == []
