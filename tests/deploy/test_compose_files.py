"""The files of Compose and Swarm: Compose takes them, all in them fits together, no change goes unnoticed."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml

from mesh_cli.plan.layout import ONE_MACHINE, PARTS, connections
from tests.deploy.changes import changed
from tests.deploy.compose_file import COMPOSE, DEPLOY, STACK, read_compose, rendered
from tests.deploy.deployment import Deployment
from tests.deploy.rules import findings
from tests.deploy.servers import server_of

IMAGE = "sessionmesh:0.1.0"
DATASOURCES = DEPLOY / "grafana" / "provisioning" / "datasources"
EXAMPLE = COMPOSE.with_name(".env.example")
SWARM_MACHINES, SWARM_ACCOUNTS = 9, 7_000
GIB = 1024**3

deployments = pytest.mark.parametrize("read", ["compose", "swarm"], indirect=True)


@pytest.fixture
def read(request: pytest.FixtureRequest) -> Deployment:
    """A deployment, by the name of its folder."""
    if request.param == "compose":
        return read_compose(COMPOSE, profiles=("trial",), SESSIONMESH_IMAGE=IMAGE)
    return read_compose(STACK, SESSIONMESH_IMAGE=IMAGE)


@deployments
def test_all_of_it_fits_together(read: Deployment, config: Path) -> None:
    assert findings(read, config) == []
    assert len(read.start_order()) == len(read.services)


@deployments
def test_no_change_goes_unnoticed(
    read: Deployment, config: Path, record_property: Callable[[str, object], None]
) -> None:
    noticed = {what: bool(findings(other, config)) for what, other in changed(read)}
    record_property("deploy_mutations", len(noticed))
    record_property("deploy_mutations_noticed", sum(noticed.values()))
    assert len(noticed) > 100
    assert [what for what, seen in noticed.items() if not seen] == []


def test_folders_of_this_checkout_can_be_read_under_selinux_and_the_machines_own_keep_their_labels() -> None:
    given = [
        each
        for service in yaml.safe_load(COMPOSE.read_text())["services"].values()
        for each in service.get("volumes", ())
    ]
    labelled = {each.split(":")[0] for each in given if each.endswith(",z")}
    assert labelled == {each.split(":")[0] for each in given if each.startswith("../")}


def test_another_secret_takes_the_place_of_the_parts_file_in_swarm() -> None:
    for given, name in (({}, "sessionmesh_config"), ({"SESSIONMESH_CONFIG": "second"}, "second")):
        stack = rendered(STACK, SESSIONMESH_IMAGE=IMAGE, **given)
        assert stack["secrets"]["sessionmesh_config"]["name"] == name


def test_what_is_mounted_from_here_is_there() -> None:
    compose = read_compose(COMPOSE, SESSIONMESH_IMAGE=IMAGE)
    mounted = [
        mount for service in compose.services.values() for mount in service.mounts if not mount.is_volume
    ]
    ours = [COMPOSE.parent / mount.source for mount in mounted if mount.source.startswith("..")]
    assert {place.resolve().name for place in ours} >= {"otel", "prometheus", "provisioning", "dashboards"}
    assert [place for place in ours if not place.is_dir() or not any(place.iterdir())] == []


@pytest.mark.parametrize("place", [COMPOSE, STACK], ids=["compose", "swarm"])
def test_a_machine_is_watched_by_its_own_files(place: Path) -> None:
    """In a container's own /proc there are only the container's file systems."""
    watching = rendered(place, SESSIONMESH_IMAGE=IMAGE)["services"]["node-exporter"]
    assert watching.get("pid") == "host" or "--path.procfs=/host/proc" in watching["command"]


def test_only_routers_are_where_callers_reach_the_machine() -> None:
    """What watches speaks plain text, and Jaeger asks for no password."""
    services = rendered(COMPOSE, SESSIONMESH_IMAGE=IMAGE, SESSIONMESH_PUBLISH="0.0.0.0")["services"]
    published = {
        (name, port["host_ip"]) for name, service in services.items() for port in service.get("ports") or ()
    }
    assert {name for name, host in published if host != "127.0.0.1"} == {"router-1", "router-2"}
    assert {name for name, _ in published} == {"router-1", "router-2", "jaeger", "grafana"}


def test_swarm_forgets_no_connection_that_says_nothing() -> None:
    """A virtual address does, after 15 minutes, and tells neither end."""
    raw = rendered(STACK, SESSIONMESH_IMAGE=IMAGE)["services"]
    kept = {
        name
        for name, service in read_compose(STACK, SESSIONMESH_IMAGE=IMAGE).services.items()
        if service.is_part or ((kind := server_of(service)) and kind.backing)
    }
    assert {name for name in kept if raw[name]["deploy"].get("endpoint_mode") != "dnsrr"} == set()


@deployments
def test_grafana_reaches_what_it_shows(read: Deployment) -> None:
    sources = [
        source
        for place in sorted(DATASOURCES.glob("*.yml"))
        for source in yaml.safe_load(place.read_text())["datasources"]
    ]
    assert {source["type"] for source in sources} == {"prometheus", "jaeger"}
    for source in sources:
        url = urlsplit(source["url"])
        asked = read.services[url.hostname or ""]
        kind = server_of(asked)
        assert kind is not None
        assert url.port in kind.ports(asked)
        assert set(asked.networks) & set(read.services["grafana"].networks)


def test_six_lines_are_all_that_is_to_be_filled_in() -> None:
    lines = EXAMPLE.read_text().splitlines()
    assert len(lines) == 6
    named = {line.partition("=")[0] for line in lines}
    assert named == set(re.findall(r"\$\{(\w+)", COMPOSE.read_text()))
    assert rendered(COMPOSE, "--env-file", EXAMPLE.name)


def test_an_image_must_be_named() -> None:
    with pytest.raises(AssertionError, match="SESSIONMESH_IMAGE"):
        rendered(COMPOSE)


def test_a_plan_counts_what_the_files_give() -> None:
    compose = read_compose(COMPOSE, SESSIONMESH_IMAGE=IMAGE).services
    stack = read_compose(STACK, SESSIONMESH_IMAGE=IMAGE).services
    for name, each in ONE_MACHINE.items():
        given = [one for one in compose.values() if re.sub(r"-\d$", "", one.name) == name]
        assert (len(given), given[0].memory_bytes) == (each.replicas, each.memory), name
    for name, each in PARTS.items():
        assert (stack[name].replicas, stack[name].memory_bytes) == (each.replicas, each.memory), name
    for services, parts, nodes in ((compose, ONE_MACHINE, 2), (stack, PARTS, stack["session-node"].replicas)):
        [most] = re.findall(r"max_connections=(\d+)", " ".join(services["postgres"].command))
        assert connections(nodes, parts) <= int(most)


@pytest.mark.parametrize("away", [0, 1])
def test_the_stack_holds_all_accounts_on_its_machines(away: int) -> None:
    """Also with one session-node's machine away."""
    stack = read_compose(STACK, SESSIONMESH_IMAGE=IMAGE)
    node = stack.services["session-node"]
    assert (node.replicas - away) * int(node.environment["MESH_NODE_CAPACITY"]) >= SWARM_ACCOUNTS
    on_nodes = [stack.services[name] for name in ("router", "session-node", "media", "webhook")]
    assert sum(service.memory_bytes for service in on_nodes) < 32 * GIB
