"""A server that answers like a session-node, to the router and to callers, and does nothing.

It stands on the chassis of all services, checks the same keys, and answers every message as accepted, naming
itself. `python -m bench.routing.echo` runs one; its settings come from the environment.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import msgspec
from grpc.aio import ServicerContext

from mesh_core.database import Database
from mesh_core.process.service import Stop, run
from mesh_core.rpc.auth import KeyAuthenticator, api_key_lookup
from mesh_core.rpc.server import Server
from mesh_core.settings import AuthSettings, DatabaseSettings, NodeSettings, ServerSettings, TelemetrySettings
from sessionmesh.internal.v1 import node_pb2
from sessionmesh.v1 import message_pb2 as pb
from sessionmesh.v1 import message_pb2_grpc

Context = ServicerContext[Any, Any]
_NODE_SERVICE = node_pb2.DESCRIPTOR.services_by_name["NodeService"].full_name


class EchoSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The sections that it reads."""

    server: ServerSettings
    database: DatabaseSettings
    auth: AuthSettings
    node: NodeSettings
    telemetry: TelemetrySettings


class EchoMessages(message_pb2_grpc.MessageServiceServicer):
    """Sends nothing. `Message.network_message_id` is the name of the node that answered."""

    def __init__(self, node: str) -> None:
        self._node = node

    async def SendMessage(self, request: pb.SendMessageRequest, _context: Context) -> pb.SendMessageResponse:
        return pb.SendMessageResponse(message=self._accepted(request))

    async def SendMessages(
        self, request_iterator: AsyncIterator[pb.SendMessagesRequest], _context: Context
    ) -> AsyncIterator[pb.SendMessagesResponse]:
        async for frame in request_iterator:
            yield self._results(frame)

    async def accept_messages(self, raw: bytes, _context: Context) -> bytes:
        """NodeService.AcceptMessages: the part of a frame that the router has for this node."""
        return self._results(pb.SendMessagesRequest.FromString(raw)).SerializeToString()

    def _results(self, frame: pb.SendMessagesRequest) -> pb.SendMessagesResponse:
        return pb.SendMessagesResponse(
            results=[
                pb.SendResult(
                    account_id=item.account_id, request_id=item.request_id, message=self._accepted(item)
                )
                for item in frame.messages
            ]
        )

    def _accepted(self, request: pb.SendMessageRequest) -> pb.Message:
        return pb.Message(
            account_id=request.account_id,
            content=request.content,
            status=pb.MESSAGE_STATUS_QUEUED,
            network_message_id=self._node,
        )


async def main(settings: EchoSettings, stop: Stop) -> None:
    """Serve until asked to stop."""
    database = await Database.open(settings.database)
    server = Server(settings.server, authenticator=KeyAuthenticator(api_key_lookup(database), settings.auth))
    messages = EchoMessages(settings.node.id)
    server.add(message_pb2_grpc.add_MessageServiceServicer_to_server, messages)
    server.add_bytes(_NODE_SERVICE, {"AcceptMessages": messages.accept_messages})
    await server.start()
    await stop.wait()
    await server.stop()
    await database.close()


if __name__ == "__main__":
    run("bench-echo", EchoSettings, main)
