"""Calls of a service of accounts on a real node, for tests on a stage."""

from __future__ import annotations

from typing import Any

import grpc.aio
import pytest

from mesh_core.rpc.server.status import from_rpc_error
from sessionmesh.v1 import (
    community_pb2,
    community_pb2_grpc,
    contact_pb2,
    contact_pb2_grpc,
    group_pb2,
    group_pb2_grpc,
    profile_pb2,
    profile_pb2_grpc,
)
from tests.support.session_node_stage import Account, NodeProcess, Stage

_SERVICES: dict[str, tuple[Any, Any]] = {
    "community": (community_pb2, community_pb2_grpc.CommunityServiceStub),
    "contact": (contact_pb2, contact_pb2_grpc.ContactServiceStub),
    "group": (group_pb2, group_pb2_grpc.GroupServiceStub),
    "profile": (profile_pb2, profile_pb2_grpc.ProfileServiceStub),
}


async def ask(
    service: str, stage: Stage, node: NodeProcess, account: Account, method: str, **fields: Any
) -> Any:
    """The answer of a method of the service that is named so."""
    module, stub = _SERVICES[service]
    request = getattr(module, f"{method}Request")(account_id=account.id, **fields)
    return await getattr(stub(node.channel), method)(request, metadata=stage.metadata, timeout=20)


async def refused(
    service: str, stage: Stage, node: NodeProcess, account: Account, method: str, **fields: Any
) -> list[str]:
    """Code, reason and, where there is one, field of the error that a call is answered with."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await ask(service, stage, node, account, method, **fields)
    error = from_rpc_error(caught.value)
    named = [caught.value.code().name, error.reason, getattr(error, "field", "")]
    return [part for part in named if part]
