"""What happens around every call: identity, scope, trace, errors, metrics. Handlers are wrapped once."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from time import perf_counter
from typing import Any

import grpc
from grpc import StatusCode
from grpc.aio import AbortError, InternalError, UsageError

from mesh_core import errors
from mesh_core.rpc.account_id import account_of
from mesh_core.rpc.auth import Identity, Role, assume, check_scope, current_identity
from mesh_core.rpc.limits.entry import RELAYED_KEY
from mesh_core.rpc.server import status
from mesh_core.rpc.server.batched_context import BatchedContext
from mesh_core.rpc.server.drain import taken
from mesh_core.rpc.server.gate import Gate, Method, RpcHandler, ServeBytes
from mesh_core.rpc.server.parsing import Context, Parse, Serve, parsed, parsing, parsing_all
from mesh_core.rpc.server.reading_out import read_out, reading_out
from mesh_core.rpc.server.refusals import Refusals
from mesh_core.telemetry import rpc_metrics, tracing
from sessionmesh.v1.authorization_pb2 import SCOPE_PUBLIC

INTERNAL = "sessionmesh.internal."
"""The package of what the parts of the mesh say to each other."""
DEADLINE_SLACK_SECONDS = 0.2
"""How much later a deadline passes here than at the caller, whose client then cancels the call: the request
was under way, and gRPC rounds the time that it names up, by 0.1 s where it is a minute.
"""

PATIENCE_SECONDS = 1.0
"""Who gives a call less than this has left it, as far as metrics and traces go: callers could have somebody
woken otherwise, by deadlines that nobody keeps.
"""


def wrap(handler: RpcHandler, method: Method, gate: Gate) -> RpcHandler:
    """`handler` with all that surrounds it; raises `TypeError` when its function is not asynchronous.

    A unary method's handler is one of bytes afterwards. A method that the servicer inherits from its
    generated base class is answered as not served.
    """
    function: Any = (
        handler.unary_unary or handler.unary_stream or handler.stream_unary or handler.stream_stream
    )
    body: Serve
    parse = handler.request_deserializer
    if not (inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)):
        if not getattr(function, "__module__", "").endswith("_pb2_grpc"):
            raise TypeError(f"{method.path} must be served by an asynchronous function")
        body, parse = _not_served(method), None
    elif handler.response_streaming:
        body = _pump(function) if inspect.isasyncgenfunction(function) else function
        if method.streams and not getattr(function, "finishes", False):
            body = _until_drained(body, gate)
    else:
        body = function
    if not (handler.request_streaming or handler.response_streaming):
        answer = gate.bodies.holding(_of_bytes(body, parse, handler.response_serializer), method.scope)
        return grpc.unary_unary_rpc_method_handler(
            _surround(_or_forwarded(answer, method, gate), method, gate)
        )
    if parse is not None:
        body = (parsing_all if handler.request_streaming else parsing)(body, parse)
    if not handler.request_streaming:
        body = gate.bodies.holding(body, method.scope)
    if method.scope == SCOPE_PUBLIC:
        body = gate.strangers.streaming(
            body, takes_stream=handler.request_streaming, brief=getattr(function, "brief", False)
        )
    else:
        body = _judged(body, method, gate)
        if handler.request_streaming:
            body = gate.bodies.streaming(body)
    if not handler.response_streaming:
        body = reading_out(body)
    return _MAKERS[handler.request_streaming, handler.response_streaming](
        _surround(body, method, gate), None, handler.response_serializer
    )


def not_served(service: str, name: str, refusals: Refusals | None = None) -> RpcHandler:
    """A handler that answers UNIMPLEMENTED. It asks for no key: there is no scope to check. `refusals` is for
    callers who are not known.
    """

    async def serve(requests: Any, context: Context) -> None:
        error = errors.Unimplemented(f"/{service}/{name} is not served here", "NOT_SERVED")
        if isinstance(requests, AsyncIterator):  # bytes in a batched call
            if refusals is not None:
                refusals.count(error, context)
            await read_out(requests)
        await context.abort(error.code, error.message, status.trailing_metadata(error))

    return grpc.stream_stream_rpc_method_handler(serve)


def _surround(body: Serve, method: Method, gate: Gate) -> Serve:
    # Everything that a call touches is a local name: this is on the way of every call.
    recall, authenticate = gate.authenticator.recall, gate.authenticator.authenticate
    in_flight, scope, path, limit = gate.in_flight, method.scope, method.path, method.limit
    takes_stream = method.takes_stream
    relayed_calls, source_of, admit = gate.entry.relayed, gate.entry.sources.of, gate.entry.admit
    names_account, call_class = method.names_account, method.call_class
    internal = method.service.startswith(INTERNAL) and bool(relayed_calls)
    observe, came = rpc_metrics.served(path).observe, gate.bodies.came
    noted = gate.audit is not None and method.audited is not None
    begin, enter, adopt, is_sampled = tracing.begin, tracing.enter, tracing.adopt, tracing.is_sampled

    async def serve(request: Any, context: Context) -> Any:
        started = perf_counter()
        came()
        period = in_flight.calls
        period.count += 1
        code = StatusCode.OK
        span = None
        identity: Identity | None = None
        begun = enters = False
        answer = failure = None
        asked = request if noted else None
        authorization = tenant = traceparent = relayed = account_id = ""
        try:
            metadata: Any = context.invocation_metadata()  # pairs of text; never None on a server
            for key, value in metadata:
                if key == "authorization":
                    authorization = value
                elif key == "traceparent":
                    traceparent = value
                elif key == "x-mesh-tenant":
                    tenant = value
                elif key == RELAYED_KEY:
                    relayed = value
            enters = not isinstance(context, BatchedContext) and relayed not in relayed_calls
            traceparent = enter(traceparent, known=scope != SCOPE_PUBLIC) if enters else begin(traceparent)
            if is_sampled(traceparent):
                span = _server_span(method, traceparent)
                traceparent = span.traceparent
            adopt(traceparent)
            if scope != SCOPE_PUBLIC:
                identity = recall(authorization, tenant)
                if identity is None:
                    source = source_of(context) if enters else ""
                    identity = await authenticate(authorization, tenant, source)
                if scope not in identity.scopes:
                    check_scope(identity, scope)
                if identity.account_ids is not None:
                    request = limit.applied(identity, request)
                if enters:
                    if names_account:
                        account_id = account_of(request)
                    if call_class:
                        waits = admit(identity, call_class, account_id, context)
                        if waits is not None:
                            await waits
                    elif internal and identity.role is not Role.MESH:
                        raise _between_parts(method)
                assume(identity)
            begun = True
            answer = await body(request, context)
            return answer  # noqa: TRY300 - it is noted at the end, with what was raised instead
        except AbortError:
            code = _CODES.get(context.code(), StatusCode.UNKNOWN)
            raise
        except asyncio.CancelledError:
            over = _is_over(context, DEADLINE_SLACK_SECONDS)
            late = over and perf_counter() - started >= PATIENCE_SECONDS
            code = StatusCode.DEADLINE_EXCEEDED if late else StatusCode.CANCELLED
            raise
        except Exception as error:
            failure = _deadline(error, context) or status.as_mesh_error(error, path)
            code = failure.code
            if enters and identity is None:
                gate.refusals.count(error, context)
            if span is not None and code in _FAULTS:
                span.fail(failure)
            trailing = (*context.trailing_metadata(), *status.trailing_metadata(failure))
            if takes_stream and not begun:
                await read_out(request)
            # gRPC keeps what is raised until the garbage is collected, and with it all that its frames know.
            error.__traceback__ = request = None
            try:
                with in_flight.telling():
                    await context.abort(code, failure.message, trailing)
            except (InternalError, UsageError):
                # The call is over already: the caller is gone, or gRPC refused what was written and said so.
                code = StatusCode.CANCELLED
                raise asyncio.CancelledError from None
        finally:
            observe(code, perf_counter() - started, traceparent)
            if span is not None:
                _end_span(span, code, told=failure is not None)
            if noted and enters:
                gate.note(method, identity, asked, answer, status.ended(code, failure, context), context)
            period.leave()

    return serve


def _of_bytes(body: Serve, parse: Parse | None, serialise: Callable[[Any], bytes] | None) -> ServeBytes:
    """`body`, a function of messages or already one of bytes, as a function of bytes."""
    if parse is None or serialise is None:
        return body

    async def serve(request: bytes, context: Context) -> bytes:
        answer = await body(parsed(parse, request), context)
        if answer is None:  # grpcio's own servicers set a code, and return nothing
            await context.abort(_CODES[context.code()], str(context.details()))
        return serialise(answer)

    return serve


def _or_forwarded(body: ServeBytes, method: Method, gate: Gate) -> ServeBytes:
    path = method.path

    async def serve(request: bytes, context: Context) -> bytes:
        try:
            return await body(request, context)
        except errors.NotOwner as refused:
            if gate.not_owner_handler is None:
                raise
            return await gate.not_owner_handler(path, request, context, refused)

    return serve


def _pump(function: Callable[[Any, Context], AsyncGenerator[Any, None]]) -> Serve:
    seconds: float | None = getattr(function, "taken_within", None)

    async def serve(request: Any, context: Context) -> None:
        async with aclosing(function(request, context)) as responses:
            async for response in responses:
                if seconds is None:
                    await context.write(response)
                else:
                    await taken(context.write(response), seconds)

    return serve


def _until_drained(body: Serve, gate: Gate) -> Serve:
    async def serve(request: Any, context: Context) -> None:
        if gate.draining.begun:
            raise errors.GoingAway
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - inside a coroutine
        gate.in_flight.opened(task)
        cancelled = None
        try:
            await body(request, context)
        except asyncio.CancelledError as error:
            cancelled = error
        finally:
            cut = gate.in_flight.closed(task)
        if cancelled is not None:
            if not cut:
                raise cancelled
            task.uncancel()
            raise errors.GoingAway

    return serve


def _between_parts(method: Method) -> errors.PermissionDenied:
    """A caller's own key is good for these methods only where a part of the mesh passes a call on."""
    return errors.PermissionDenied(
        f"{method.path} is spoken between the parts of the mesh", "SCOPE_MISSING", metadata={"scope": "MESH"}
    )


def _judged(body: Serve, method: Method, gate: Gate) -> Serve:
    """A stream ends when its key is no longer good."""
    open_streams, scope = gate.open_streams, method.scope

    async def serve(request: Any, context: Context) -> Any:
        if current_identity().role is Role.MESH:
            return await body(request, context)
        with open_streams.judged(context, scope):
            return await body(request, context)

    return serve


def _not_served(method: Method) -> Serve:
    async def serve(request: Any, _context: Context) -> None:
        if method.takes_stream:
            await read_out(request)
        raise errors.Unimplemented(f"{method.path} is not served here", "NOT_SERVED")

    return serve


def _server_span(method: Method, parent: str) -> tracing.Span:
    name = method.path[1:]
    attributes = {"rpc.system.name": "grpc", "rpc.method": name}
    return tracing.start_span(name, kind="server", parent=parent, attributes=attributes)


def _end_span(span: tracing.Span, code: StatusCode, *, told: bool) -> None:
    """`told`: what failed is noted already. A code that another server answered is passed on as it is."""
    span.set("rpc.response.status_code", code.name)
    if code in _FAULTS and not told:
        span.fail("")
    span.end()


def _deadline(error: Exception, context: Context) -> errors.MeshError | None:
    """A time-out is the caller's when its deadline has passed."""
    if isinstance(error, TimeoutError) and _is_over(context):
        return errors.DeadlineExceeded("the caller's deadline passed", "DEADLINE_EXCEEDED")
    return None


def _is_over(context: Context, slack: float = 0.0) -> bool:
    """The caller's deadline has passed, but for `slack` seconds: what ends now is no change of its mind."""
    remaining = context.time_remaining()
    return remaining is not None and remaining <= slack


_MAKERS: dict[tuple[bool, bool], Callable[..., RpcHandler]] = {
    (False, True): grpc.unary_stream_rpc_method_handler,
    (True, False): grpc.stream_unary_rpc_method_handler,
    (True, True): grpc.stream_stream_rpc_method_handler,
}
_FAULTS = frozenset(
    {
        StatusCode.UNKNOWN,
        StatusCode.DEADLINE_EXCEEDED,
        StatusCode.UNIMPLEMENTED,
        StatusCode.INTERNAL,
        StatusCode.UNAVAILABLE,
        StatusCode.DATA_LOSS,
    }
)
"""Errors of the server, as OpenTelemetry's conventions have them: the others are the caller's."""
_CODES: dict[object, StatusCode] = {code.value[0]: code for code in StatusCode} | {
    code: code for code in StatusCode
}
