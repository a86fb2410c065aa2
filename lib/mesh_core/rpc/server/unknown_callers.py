"""Calls with one request that is not read as it comes: of callers who are not known yet, whose key is judged
before, and of tenants that have many calls whose request is on its way.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, NoReturn

import grpc
from grpc.aio import InternalError, UsageError

from mesh_core.rpc.auth import Identity
from mesh_core.rpc.limits.entry import RELAYED_KEY
from mesh_core.rpc.server import status
from mesh_core.rpc.server.gate import Gate, Method, RpcHandler
from mesh_core.rpc.server.parsing import Context
from mesh_core.telemetry import rpc_metrics
from sessionmesh.v1.authorization_pb2 import SCOPE_PUBLIC


def reading_late(handler: RpcHandler, method: Method, gate: Gate) -> RpcHandler:
    """`handler`, of a method with one request and all that surrounds it, for gRPC to call as a stream's."""
    serve: Any = handler.unary_stream or handler.unary_unary
    observe = rpc_metrics.served(method.path).observe

    async def refuse(error: Exception, context: Context) -> NoReturn:
        failure = status.as_mesh_error(error, method.path)
        if not gate.entry.is_relayed(context):
            gate.refusals.count(error, context)
            gate.note(method, None, None, None, status.ended(failure.code, failure, context), context)
        error.__traceback__ = None
        observe(failure.code, 0.0)
        try:
            await context.abort(failure.code, failure.message, status.trailing_metadata(failure))
        except (InternalError, UsageError):
            raise asyncio.CancelledError from None  # the caller is gone

    async def serve_late(requests: AsyncIterator[bytes], context: Context) -> None:
        if gate.refusals.ended(context):
            raise asyncio.CancelledError
        try:
            if method.scope == SCOPE_PUBLIC:
                request = await gate.strangers.read(requests, context)
            else:
                request = await gate.bodies.read(requests, await _authenticate(gate, context))
        except Exception as error:
            await refuse(error, context)
        answer = await serve(request, context)
        if not handler.response_streaming:
            await context.write(answer)

    return grpc.stream_stream_rpc_method_handler(serve_late, None, handler.response_serializer)


def known(gate: Gate, metadata: Any) -> Identity | None:
    """Whose key is in a call's metadata, when it is known to be good now, without a look-up."""
    authorization = tenant = ""
    for key, value in metadata:
        if key == "authorization":
            authorization = value
        elif key == "x-mesh-tenant":
            tenant = value
    try:
        return gate.authenticator.recall(authorization, tenant)
    except Exception:  # of any kind: it is not known now
        return None  # why, its own handler says


async def _authenticate(gate: Gate, context: Context) -> Identity:
    """As every call does; raises why the key is no good. The call itself finds the answer remembered."""
    metadata: dict[str, Any] = dict(context.invocation_metadata() or ())
    relayed = metadata.get(RELAYED_KEY, "") in gate.entry.relayed
    source = "" if relayed else gate.entry.sources.of(context)
    authorization, tenant = metadata.get("authorization", ""), metadata.get("x-mesh-tenant", "")
    identity = gate.authenticator.recall(authorization, tenant)
    return identity or await gate.authenticator.authenticate(authorization, tenant, source)
