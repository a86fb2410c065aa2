"""What tracing adds to a call that is not recorded, on one hop: taken in with its trace, and passed on so.

The server's own wrapper around a handler, without a network: as it is, and with nothing in place of what it
calls of tracing. The handler makes the metadata of a call to another part of the mesh.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from unittest.mock import patch

from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from bench.measuring.pairs import Median, compared
from mesh_core.rpc.auth import KeyAuthenticator
from mesh_core.rpc.channels import call_metadata
from mesh_core.rpc.limits import Entry
from mesh_core.rpc.server.batched_context import BatchedContext
from mesh_core.rpc.server.bodies import Bodies
from mesh_core.rpc.server.drain import CallsInFlight, Draining
from mesh_core.rpc.server.gate import Gate, ServeBytes
from mesh_core.rpc.server.methods import Methods
from mesh_core.rpc.server.open_streams import OpenStreams
from mesh_core.rpc.server.parsing import Context
from mesh_core.rpc.server.refusals import Refusals
from mesh_core.rpc.server.strangers import Strangers
from mesh_core.settings import AuthSettings, TelemetrySettings
from mesh_core.telemetry import tracing
from sessionmesh.v1 import message_pb2

_MESH_KEY = "the-key-of-the-mesh-in-this-benchmark"
_METADATA = (
    ("authorization", f"Bearer {_MESH_KEY}"),
    ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"),
)


async def cost_us(pairs: int, calls: int) -> Median:
    """Microseconds that a call and hop takes longer, of `pairs` comparisons of `calls` each."""
    tracing.configure("bench", TelemetrySettings(sample_ratio=0.01), exporter=InMemorySpanExporter())
    with_tracing = _served()
    with _without_tracing():
        without = _served()
    ones: list[float] = []
    others: list[float] = []
    for number in range(pairs + 1):  # the first pair warms up
        for serve, found in ((with_tracing, ones), (without, others))[:: 1 if number % 2 else -1]:
            with contextlib.nullcontext() if serve is with_tracing else _without_tracing():
                found.append(await _microseconds(serve, calls))
    tracing.shutdown()
    return compared(ones[1:], others[1:], lambda one, other: one - other)


async def _microseconds(serve: ServeBytes, calls: int) -> float:
    request = message_pb2.GetMessageRequest(account_id="acc_1").SerializeToString()
    context = BatchedContext(_METADATA, 10.0).as_grpc()
    began = time.process_time()
    for _ in range(calls):
        await serve(request, context)
    return (time.process_time() - began) / calls * 1e6


def _served() -> ServeBytes:
    authenticator, entry = KeyAuthenticator(_no_key, AuthSettings(mesh_key=_MESH_KEY)), Entry()
    gate = Gate(
        authenticator,
        Draining(),
        CallsInFlight(),
        entry,
        OpenStreams(authenticator),
        Strangers(entry.sources.of),
        Refusals(entry.sources, len),
        Bodies(entry.is_relayed),
    )
    methods = Methods(gate)
    methods.add_bytes("sessionmesh.v1.MessageService", {"GetMessage": _pass_on}, None)
    return methods.unary("/sessionmesh.v1.MessageService/GetMessage")


async def _pass_on(request: bytes, _context: Context) -> bytes:
    call_metadata(_METADATA[:1], account_id="acc_1")
    return request


@contextlib.contextmanager
def _without_tracing() -> Iterator[None]:
    with (
        patch.object(tracing, "begin", lambda _traceparent: ""),
        patch.object(tracing, "is_sampled", lambda _traceparent: False),
        patch.object(tracing, "adopt", lambda _traceparent: None),
        patch("mesh_core.rpc.channels.current_traceparent", str),
    ):
        yield


async def _no_key(_key: object) -> None:
    return None
