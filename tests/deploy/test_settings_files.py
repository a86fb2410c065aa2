"""The settings for so many accounts: parts take them, and they fit the machines that they are for."""

from __future__ import annotations

import re
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml

from mesh_cli.plan import Demand
from mesh_cli.plan.deployments import SIZES, fleet_of
from mesh_cli.plan.layout import GIB, ONE_MACHINE, PARTS, connections, node_limit
from mesh_core.process.start_checks import BESIDE_SESSIONS
from mesh_core.settings import read
from mesh_core.sizing.figures import WHATSAPP_WEB
from tests.deploy import parts
from tests.deploy.compose_file import COMPOSE, DEPLOY, STACK, rendered
from tests.support.settings_files import settings_of

PARTS_OF_A_MESH = ("router", "session-node", "media", "webhook")
OPEN_FILES = 65_536
sizes = pytest.mark.parametrize("size", SIZES)


@cache
def read_by(part: str, size: int, config: Path) -> Any:
    """The settings of a part that has the file in its environment."""
    given = settings_of(size) | {"MESH_CONFIG": str(config), "MESH_OBJECTS_URL": "s3://bucket"}
    return read(parts.PARTS[part], given | {"MESH_ETCD_ENDPOINTS": "etcd:2379"})


@sizes
def test_each_line_says_why_and_differs_from_the_default(size: int, config: Path) -> None:
    lines = (DEPLOY / "settings" / f"{size}-accounts.env").read_text().splitlines()
    for before, line in pairwise(lines):
        assert line.startswith("#") or before.startswith("#"), f"{line} has no reason"
    plain = {part: read_by(part, 0, config) for part in PARTS_OF_A_MESH}
    for name in settings_of(size):
        changed = [
            part
            for part in PARTS_OF_A_MESH
            if values(read_by(part, size, config), name) - values(plain[part], name)
        ]
        assert changed, f"{name} changes nothing"


def values(settings: Any, variable: str) -> set[str]:
    """What a part has for a variable; nothing when it knows none such."""
    for section in settings.__struct_fields__:
        prefix = f"MESH_{section}_".upper()
        if variable.startswith(prefix) and hasattr(
            getattr(settings, section), variable[len(prefix) :].lower()
        ):
            return {str(getattr(getattr(settings, section), variable[len(prefix) :].lower()))}
    return set()


@sizes
def test_all_accounts_fit_when_one_node_is_lost(size: int, config: Path) -> None:
    fleet = fleet_of(Demand(size, 100 * size, 0, 30, WHATSAPP_WEB, 32 * GIB, 8))
    node = read_by("session-node", size, config)
    assert (fleet.nodes - 1) * node.node.capacity >= size
    assert node.node.capacity + BESIDE_SESSIONS <= OPEN_FILES
    assert node.session.node_outbox_bytes + fleet.node_bytes < node_limit(fleet.node_bytes)


@sizes
def test_postgres_takes_the_connections_of_all_parts(size: int, config: Path) -> None:
    text = (DEPLOY / "settings" / f"{size}-accounts.env").read_text()
    [most] = re.findall(r"Postgres: max_connections=(\d+)$", text, flags=re.MULTILINE)
    fleet = fleet_of(Demand(size, 100 * size, 0, 30, WHATSAPP_WEB, 32 * GIB, 8))
    pool = read_by("router", size, config).database.pool_size
    layout = ONE_MACHINE if size <= 500 else PARTS
    assert connections(fleet.nodes, layout, pool) <= int(most)


@pytest.mark.parametrize("size", [100, 500, 7_000])
def test_the_chart_has_as_many_nodes_and_as_large_ones(size: int) -> None:
    chart = DEPLOY / "helm" / "sessionmesh"
    default, own = (
        yaml.safe_load((chart / f"{name}.yaml").read_text())["sessionNode"]
        for name in ("values", f"values-{size}")
    )
    node = default | own
    assert node["capacity"] == int(settings_of(size)["MESH_NODE_CAPACITY"])
    assert node["replicas"] == fleet_of(Demand(size, 100 * size, 0, 30, WHATSAPP_WEB, 32 * GIB, 8)).nodes


@pytest.mark.parametrize("size", [100, 500])
def test_the_parts_of_compose_read_them(size: int) -> None:
    given = {"SESSIONMESH_IMAGE": "sessionmesh:0.1.0", "SESSIONMESH_ACCOUNTS": str(size)}
    services = rendered(COMPOSE, "-f", "../settings/compose.yaml", **given)["services"]
    for name in ("router-1", "router-2", "session-node-1", "session-node-2", "media", "webhook"):
        missing = settings_of(size).items() - services[name]["environment"].items()
        assert not missing, name


def test_the_parts_of_swarm_read_those_for_seven_thousand() -> None:
    services = rendered(STACK, "-f", "../settings/swarm.yaml", SESSIONMESH_IMAGE="sessionmesh:0.1.0")[
        "services"
    ]
    for name in PARTS_OF_A_MESH:
        assert not settings_of(7_000).items() - services[name]["environment"].items(), name
