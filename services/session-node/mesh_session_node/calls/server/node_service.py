"""NodeService: what other parts of the mesh call on a session-node."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from grpc.aio import ServicerContext

from mesh_core.ids import Prefix, decode
from mesh_session_node.account.session import Session
from mesh_session_node.node.loader import AccountLoader
from mesh_session_node.node.reconnecting import connect_waiting
from sessionmesh.internal.v1 import node_pb2 as pb
from sessionmesh.internal.v1 import node_pb2_grpc


class NodeService(node_pb2_grpc.NodeServiceServicer):
    """AcceptMessages, which acts for a caller of the mesh, is `MessageService.accept_messages`."""

    def __init__(self, loader: AccountLoader, sessions: Mapping[str, Session]) -> None:
        self._loader = loader
        self._sessions = sessions

    async def RefreshAccounts(
        self, request: pb.RefreshAccountsRequest, _context: ServicerContext[Any, Any]
    ) -> pb.RefreshAccountsResponse:
        await self._loader.refresh(
            [decode(Prefix.ACCOUNT, account_id, "account_ids") for account_id in request.account_ids]
        )
        return pb.RefreshAccountsResponse()

    async def ConnectAccounts(
        self, request: pb.ConnectAccountsRequest, _context: ServicerContext[Any, Any]
    ) -> pb.ConnectAccountsResponse:
        return await connect_waiting(self._sessions, request)

    async def ForgetPerson(
        self, request: pb.ForgetPersonRequest, _context: ServicerContext[Any, Any]
    ) -> pb.ForgetPersonResponse:
        for session in self._sessions.values():
            if session.context.events.tenant_id == request.tenant_id:
                session.context.people.forget(request.addresses)
        return pb.ForgetPersonResponse()
