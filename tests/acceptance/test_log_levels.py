"""`mesh log level` on the shared mesh: one node logs more for two seconds, and then as before."""

from __future__ import annotations

import pytest
from google.protobuf.duration_pb2 import Duration

from sessionmesh.admin.v1 import fleet_pb2
from tests.support.eventually import wait_until
from tests.support.log import Log
from tests.support.mesh_api import Caller, Tenant
from tests.support.mesh_process import MeshProcess, run_mesh_here

CHANGED = "levels of logs changed"


def levels_of(log: Log) -> list[object]:
    """What the log tells of its levels, from the first to the latest."""
    return [event["levels"] for event in log.events(CHANGED)]


@pytest.mark.read_back("SetLogLevel")
def test_a_node_logs_more_for_a_time_without_a_restart(mesh: MeshProcess) -> None:
    nodes = sorted(name for name in mesh.file.parts if name.startswith("node"))
    chosen, other = (Log(mesh.state / "logs" / f"{name}.log") for name in nodes[:2])
    pid, before = mesh.file.parts[nodes[0]].pid, len(levels_of(chosen))
    level = ("log", "level", nodes[0], "debug", "--logger", "mesh_core.etcd", "--for", "2s")
    ended = run_mesh_here("--state", str(mesh.state), *level)
    assert ended.exit_code == 0, ended.output
    assert f"{nodes[0]} logs from debug on in mesh_core.etcd until" in " ".join(ended.stdout.split())
    told = wait_until(lambda: levels_of(chosen)[before + 1 :] and levels_of(chosen)[before:])
    assert told == [{"mesh_core.etcd": "debug"}, "as configured"]
    assert mesh.file.parts[nodes[0]].pid == pid
    assert {"mesh_core.etcd": "debug"} not in levels_of(other)
    audit = run_mesh_here("--state", str(mesh.state), "audit", "--about", nodes[0])
    assert "SetLogLevel" in audit.stdout


async def test_only_operators_set_levels_and_only_of_parts_that_there_are(
    admin: Caller, tenant: Tenant
) -> None:
    debug = fleet_pb2.LOG_LEVEL_DEBUG
    request = fleet_pb2.SetLogLevelRequest(part_id="all", level=debug)
    assert (await tenant.caller.refused(tenant.caller.fleet.SetLogLevel, request)).reason == "SCOPE_MISSING"
    for wrong, field in (
        (fleet_pb2.SetLogLevelRequest(level=debug), "part_id"),
        (fleet_pb2.SetLogLevelRequest(part_id="all"), "level"),
        (fleet_pb2.SetLogLevelRequest(part_id="all", level=debug, logger="x y"), "logger"),
        (fleet_pb2.SetLogLevelRequest(part_id="all", level=debug, duration=Duration(seconds=0)), "duration"),
        (
            fleet_pb2.SetLogLevelRequest(part_id="all", level=debug, duration=Duration(seconds=10**6)),
            "duration",
        ),
    ):
        assert (await admin.refused(admin.fleet.SetLogLevel, wrong)).fields == (field,)
    nobody = fleet_pb2.SetLogLevelRequest(part_id="node-of-nobody", level=debug)
    assert (await admin.refused(admin.fleet.SetLogLevel, nobody)).code.name == "NOT_FOUND"
