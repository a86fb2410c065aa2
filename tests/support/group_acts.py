"""Calls of GroupService and CommunityService on a real node, and what people do in groups, for tests."""

from __future__ import annotations

import secrets
from typing import Any

from sessionmesh.simnet.v1 import wire_pb2 as wire
from sessionmesh.v1 import community_pb2, group_pb2
from tests.support import service_calls
from tests.support.session_node_stage import Account, NodeProcess, Stage

ADA, BOB, EVE = "+4915112345611", "+4915112345612", "+4915112345613"


async def ask(stage: Stage, node: NodeProcess, account: Account, method: str, **fields: Any) -> Any:
    """Call a method of either service; a request id is filled in where the request has one."""
    return await service_calls.ask(_of(method), stage, node, account, method, **_with_id(method, fields))


async def refused(stage: Stage, node: NodeProcess, account: Account, method: str, **fields: Any) -> list[str]:
    """Code, reason and, where there is one, field of the error that a call is answered with."""
    return await service_calls.refused(_of(method), stage, node, account, method, **_with_id(method, fields))


def somebody(stage: Stage, phone: str, **query: Any) -> wire.Answer:
    """A person does this in a group."""
    answer = stage.network.group_queries.answer(phone, wire.Query(**query))
    stage.network.flush()
    return answer


def group_id(address: str) -> str:
    return address.removeprefix("group:")


async def made(stage: Stage, node: NodeProcess, account: Account, *people: str, **fields: Any) -> Any:
    """A group of the account and these people (phone numbers)."""
    answer = await ask(
        stage,
        node,
        account,
        "CreateGroup",
        **{"name": "Crew", "members": [f"phone:{person}" for person in people], **fields},
    )
    return answer.group


async def roles(stage: Stage, node: NodeProcess, account: Account, group: str) -> dict[str, str]:
    """What the members of a group may do, by their phone numbers."""
    members = (await ask(stage, node, account, "ListGroupMembers", group=group, page_size=1000)).members
    return {
        one.person.phone: group_pb2.GroupRole.Name(one.role).removeprefix("GROUP_ROLE_") for one in members
    }


def _of(method: str) -> str:
    return "group" if hasattr(group_pb2, f"{method}Request") else "community"


def _with_id(method: str, fields: dict[str, Any]) -> dict[str, Any]:
    module: Any = group_pb2 if _of(method) == "group" else community_pb2
    if "request_id" in getattr(module, f"{method}Request").DESCRIPTOR.fields_by_name:
        fields.setdefault("request_id", secrets.token_hex(8))
    return fields
