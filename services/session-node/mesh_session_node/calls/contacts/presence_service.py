"""What is of the moment. PresenceService: whether the account shows as online, and whose presence it watches.
CallService: calls to the account are rejected, or ring until they end.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

from mesh_core import addresses
from mesh_core.errors import MeshError
from mesh_core.validation import text
from mesh_session_node.calls.account_call import AccountCalls, Context, in_time
from mesh_session_node.context.presence import Watches
from mesh_session_node.drivers.interface.capabilities import Capability
from mesh_session_node.inbound.calls import Calls
from sessionmesh.v1 import call_pb2, call_pb2_grpc, presence_pb2_grpc
from sessionmesh.v1 import presence_pb2 as pb

MAX_CALL_ID = 128
"""Characters of the network's id of a call."""


class PresenceService(presence_pb2_grpc.PresenceServiceServicer):
    """Both calls may be repeated."""

    def __init__(self, calls: AccountCalls) -> None:
        self._calls = calls

    async def SetPresence(self, request: pb.SetPresenceRequest, context: Context) -> pb.SetPresenceResponse:
        session = await self._calls.session(request.account_id, context)
        online = request.state == pb.PRESENCE_STATE_AVAILABLE
        await self._calls.act(session, Capability.PRESENCE, lambda link: link.show_online(online=online))
        return pb.SetPresenceResponse()

    async def WatchPresence(
        self, request: pb.WatchPresenceRequest, context: Context
    ) -> pb.WatchPresenceResponse:
        session = await self._calls.session(request.account_id, context)
        person = addresses.person("address", request.address)
        shared, now = session.context, session.context.host.loop.time()
        if shared.watches is None:
            shared.watches = Watches()
        watch = shared.watches.add(person, now)
        heard = watch.heard.version
        try:
            await self._calls.act(
                session, Capability.WATCH_PRESENCE, lambda link: link.watch_presence(person), about=person
            )
        except MeshError:
            if not watch.heard.version:  # nobody has watched them before
                shared.watches.remove(watch)
            raise
        if not watch.shown.state:
            with suppress(TimeoutError):
                async with asyncio.timeout(_FIRST_WORD_SECONDS):
                    await watch.heard.wait(heard)
        response = pb.WatchPresenceResponse(presence=watch.shown)
        if not response.presence.HasField("person"):
            response.presence.person.CopyFrom(shared.people.find(person))
        response.watch_for.FromSeconds(int(watch.until - shared.host.loop.time()))
        return response


class CallService(call_pb2_grpc.CallServiceServicer):
    """What is not answered otherwise rings on."""

    def __init__(self, calls: AccountCalls, ringing: Calls) -> None:
        self._calls = calls
        self._ringing = ringing

    async def RejectCall(
        self, request: call_pb2.RejectCallRequest, context: Context
    ) -> call_pb2.RejectCallResponse:
        session = await self._calls.session(request.account_id, context)
        call_id = text("call_id", request.call_id, MAX_CALL_ID)
        caller = addresses.person("caller", request.caller)
        await self._calls.act(
            session, Capability.REJECT_CALL, lambda link: link.reject_call(call_id, caller), about=call_id
        )
        async with self._ringing.turn_of(session.context, call_id):
            rows = await self._ringing.rejected(session.context, call_id)
            if rows:
                await in_time(self._calls.write(session, *rows))
        return call_pb2.RejectCallResponse()


_FIRST_WORD_SECONDS = 1.0
"""How long the network is waited for to tell how it is now: it does so at once, or not at all."""
