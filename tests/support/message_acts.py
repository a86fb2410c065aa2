"""Calls of MessageService on a real node, and what comes of them, for tests on a stage."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any

import grpc.aio
import pytest

from mesh_core.rpc.server.status import from_rpc_error
from sessionmesh.simnet.v1 import wire_pb2 as wire
from sessionmesh.v1 import event_pb2, message_pb2
from tests.support.eventually import eventually
from tests.support.network_acts import seen_in
from tests.support.session_node_stage import Account, NodeProcess, Stage


async def act(stage: Stage, node: NodeProcess, account: Account, method: str, **fields: Any) -> Any:
    """Call a method of MessageService; a request id is filled in where the request has one."""
    kind = getattr(message_pb2, f"{method}Request")
    if "request_id" in kind.DESCRIPTOR.fields_by_name:
        fields.setdefault("request_id", secrets.token_hex(8))
    request = kind(**{"account_id": account.id, **fields})
    return await getattr(node.messages, method)(request, metadata=stage.metadata, timeout=20)


async def refusal(
    stage: Stage, node: NodeProcess, account: Account, method: str, **fields: Any
) -> tuple[str, str, str]:
    """Code, reason and field of the error that a call is answered with."""
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await act(stage, node, account, method, **fields)
    error = from_rpc_error(refused.value)
    return refused.value.code().name, error.reason, getattr(error, "field", "")


async def sent(stage: Stage, node: NodeProcess, account: Account, to: str = "", text: str = "hello") -> Any:
    """A message of the account that the network has."""
    fields = {"recipient": to} if to else {}
    return await stage.send(node, account, text, wait_for=message_pb2.WAIT_FOR_SENT, **fields)


async def send_content(
    stage: Stage, node: NodeProcess, account: Account, to: str, content: dict[str, Any]
) -> Any:
    """A message of the account with any content, once the network has it."""
    fields = {"recipient": to, "content": content, "wait_for": message_pb2.WAIT_FOR_SENT}
    return (await act(stage, node, account, "SendMessage", **fields)).message


def ref(message: Any) -> dict[str, str]:
    return {"message_id": message.id}


def words(text: str) -> dict[str, Any]:
    return {"text": {"body": text}}


async def received(
    stage: Stage, account: Account, type_: str, fits: Callable[[Any], object] = lambda _: True
) -> Any:
    """An event of the account's, once there is one that fits."""

    async def found() -> Any:
        for kind, body in await stage.events(account):
            if kind == type_ and fits(event := event_pb2.Event.FromString(body)):
                return event
        return None

    return await eventually(found)


async def saw(stage: Stage, account: Account, what: str) -> None:
    user = account.phone[1:]

    def seen() -> bool:
        return what in seen_in(record for record in stage.network.ledger.read() if record.account == user)

    await eventually(seen)


async def written_to(stage: Stage, account: Account, content: wire.Content | None = None) -> Any:
    """A message that somebody wrote to the account, as it is stored."""
    network_id = stage.receive(account, content or wire.Content(text="hello"))

    def is_it(event: Any) -> bool:
        return bool(event.message.message.network_message_id == network_id)

    return (await received(stage, account, "message.received", is_it)).message.message
