"""The part of SimulatorService in which people show what they do, and call."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mesh_core.errors import InvalidField, NotFound
from mesh_core.validation import choice
from mesh_simulator.accounts.account import Account
from mesh_simulator.accounts.addresses import GROUP
from mesh_simulator.messages.presence import Online
from mesh_simulator.resolving import Resolving
from sessionmesh.simnet.v1 import wire_pb2 as wire
from sessionmesh.simulator.v1 import simulator_pb2 as api

if TYPE_CHECKING:
    from grpc.aio import ServicerContext

    Context = ServicerContext[object, object]


class PeopleService(Resolving):
    """Acts of people towards an account."""

    async def ShowTyping(self, request: api.ShowTypingRequest, context: Context) -> api.ShowTypingResponse:
        account = self._account(request.phone)
        sender = self._person("sender", request.sender)
        states = wire.TypingState.values()[1:]
        choice("state", request.state, states, "the states of the network")
        chat = self._called_group(request.group, account) or sender
        self._network.inbound.show_typing(account, sender, chat, request.state)
        self._network.flush()
        return api.ShowTypingResponse()

    async def ShowPresence(
        self, request: api.ShowPresenceRequest, context: Context
    ) -> api.ShowPresenceResponse:
        phone = self._directory.phone_at(self._person("person", request.person))
        if phone is None or phone in self._directory.by_phone:
            raise InvalidField("person", "must be somebody without an account")
        seen = request.last_seen_time.ToMicroseconds()
        if request.online and seen:
            raise InvalidField("last_seen_time", "is only for who is not online")
        if seen < 0:
            raise InvalidField("last_seen_time", "must be after 1970")
        self._network.presences.show(phone, Online(online=request.online, last_seen_us=seen))
        self._network.flush()
        return api.ShowPresenceResponse()

    async def PlaceCall(self, request: api.PlaceCallRequest, context: Context) -> api.PlaceCallResponse:
        account = self._account(request.phone)
        caller = self._person("caller", request.caller)
        group = self._called_group(request.group, account)
        call_id = self._network.calls.place(account, caller, group, video=request.video)
        self._network.flush()
        return api.PlaceCallResponse(call_id=call_id)

    async def EndCall(self, request: api.EndCallRequest, context: Context) -> api.EndCallResponse:
        account = self._account(request.phone)
        choice("end", request.end, wire.CallEnd.values()[1:], "the ends of the network")
        if not self._network.calls.end(account, request.call_id, request.end):
            raise NotFound("call", request.call_id)
        self._network.flush()
        return api.EndCallResponse()

    def _called_group(self, address: str, account: Account) -> str:
        if not address:
            return ""
        group = self._chat("group", address, account)
        if not group.startswith(GROUP):
            raise InvalidField("group", "must be a group, or empty")
        return group
