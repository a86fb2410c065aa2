"""Accounts that wait after failures, let to connect at once because an operator says so."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import structlog

from mesh_core.errors import MeshError
from mesh_session_node.account.session import Session
from sessionmesh.internal.v1 import node_pb2
from sessionmesh.v1 import session_pb2

logger = structlog.get_logger(__name__)


async def connect_waiting(
    sessions: Mapping[str, Session], request: node_pb2.ConnectAccountsRequest
) -> node_pb2.ConnectAccountsResponse:
    """Connect those of the sessions that wait and that the request is about, or only count them."""
    answer = node_pb2.ConnectAccountsResponse()
    for number, session in enumerate([*sessions.values()], 1):
        if number % _AT_ONCE == 0:
            await asyncio.sleep(0)
        if session.context.closed or session.state != session_pb2.SESSION_STATE_BACKOFF:
            continue
        quarantined = session.cause == session_pb2.SESSION_CAUSE_QUARANTINED
        of_tenant = not request.tenant_id or session.context.events.tenant_id == request.tenant_id
        if not of_tenant or (request.quarantined_only and not quarantined):
            continue
        if not request.dry_run:
            try:
                session.connect()
            except MeshError as error:
                logger.warning("an account cannot connect", account_id=session.id, problem=error.message)
                continue
        answer.accounts += 1
        answer.quarantined += quarantined
    return answer


_AT_ONCE = 100  # sessions in one turn of the loop
