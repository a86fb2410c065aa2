"""Networks that SimulatorService drives, for the contract that every driver keeps: what they have in common,
and the simulated one, in this process.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from hashlib import sha256
from typing import Any, ClassVar

from mesh_session_node.drivers.interface.outcomes import End, Failure
from mesh_session_node.drivers.interface.pairing import Paired, PairingCode
from mesh_session_node.drivers.simulated.driver import SimulatedDriver
from mesh_session_node.drivers.simulated.state import SimulatedState, StoredState
from mesh_simulator.network import Network
from mesh_simulator.service import SimulatorServicer
from mesh_simulator.settings import SimulatorSettings
from sessionmesh.simnet.v1 import wire_pb2 as wire
from sessionmesh.simulator.v1 import simulator_pb2 as api
from sessionmesh.v1 import call_pb2, message_pb2
from tests.support.network_acts import seen_in
from tests.support.proxy_server import ProxyServer

_ENDS = {
    End.LOST: api.FAULT_KIND_DROP_CONNECTION,
    End.REFUSED: api.FAULT_KIND_REFUSE_LOGINS,
    End.LOGGED_OUT: api.FAULT_KIND_LOG_OUT,
    End.BANNED: api.FAULT_KIND_BAN,
}
_REASONS = {
    Failure.BLOCKED: wire.REJECT_REASON_BLOCKED,
    Failure.CONTENT: wire.REJECT_REASON_TOO_LARGE,
    Failure.RATE_LIMITED: wire.REJECT_REASON_RATE_LIMITED,
    Failure.RESTRICTED: wire.REJECT_REASON_RESTRICTED,
}


class SimulatorWorld:
    """What every world does that SimulatorService drives. `numbers` are the network's of refusals."""

    numbers: ClassVar[Mapping[Failure, int]]

    def __init__(self, phone: str, service: Any) -> None:
        self.phone = phone
        self._service = service
        self._invites: dict[str, str] = {}

    async def accept(self, code: PairingCode) -> None:
        request = api.AcceptPairingRequest(phone=self.phone)
        if code.qr:
            request.qr = code.qr
        else:
            request.code = code.letters
        await self.ask("AcceptPairing", request)

    async def refuse_pairing(self) -> None:
        """The network refuses a bad number by itself."""

    async def time_out_pairing(self) -> None:
        """The attempt ends by itself."""

    async def answer(self) -> None:
        """The network answers by itself."""

    async def group_of(self, *people: str) -> str:
        members = [self.phone, *(person.removeprefix("phone:") for person in people)]
        made = await self.ask("CreateNetworkGroup", api.CreateNetworkGroupRequest(members=members))
        address: str = made.group.address
        return address

    async def group_run_by(self, person: str) -> str:
        members = [person.removeprefix("phone:"), self.phone]
        made = await self.ask("CreateNetworkGroup", api.CreateNetworkGroupRequest(members=members))
        address: str = made.group.address
        return address

    async def ask_to_join(self, group: str, code: str, person: str) -> None:
        answer = await self.act_in_group(person, wire.Query(join_group=wire.Invite(code=code)))
        assert answer.joined.pending

    async def act_in_group(self, person: str, query: wire.Query) -> wire.Answer:
        request = api.ActInGroupRequest(phone=person.removeprefix("phone:"), query=query)
        answer: wire.Answer = (await self.ask("ActInGroup", request)).answer
        return answer

    async def refuse_being_added(self, person: str) -> None:
        await self.ask("SetNetwork", api.SetNetworkRequest(unaddable_phones=[person.removeprefix("phone:")]))

    async def channel_of_others(self, name: str, *posts: str) -> str:
        request = api.CreateNetworkChannelRequest(name=name, followers=9)
        made = await self.ask("CreateNetworkChannel", request)
        address: str = made.channel.address
        self._invites[address] = made.channel.invite_code
        for text in posts:
            await self.post_in(address, text)
        return address

    async def invite_to(self, channel: str) -> str:
        return self._invites[channel]

    async def post_in(self, channel: str, text: str) -> str:
        request = api.PostInNetworkChannelRequest(channel=channel, text=text)
        posted = await self.ask("PostInNetworkChannel", request)
        network_id: str = posted.network_message_id
        return network_id

    async def post_file_in(self, channel: str, data: bytes) -> None:
        put = await self.ask("PutNetworkBlob", api.PutNetworkBlobRequest(data=data))
        blob = wire.Blob(ref=put.ref, sha256=put.sha256, size=len(data), shown_as="image")
        encoded = wire.Content(blob=blob).SerializeToString()
        request = api.PostInNetworkChannelRequest(channel=channel, encoded=encoded)
        await self.ask("PostInNetworkChannel", request)

    async def edit_in(self, channel: str, post: str, text: str) -> None:
        request = api.PostInNetworkChannelRequest(channel=channel, text=text, edits=post)
        await self.ask("PostInNetworkChannel", request)

    async def react_in(self, channel: str, post: str, emoji: str, count: int, views: int) -> None:
        request = api.ReactInNetworkChannelRequest(
            channel=channel, network_message_id=post, emoji=emoji, count=count, views=views
        )
        await self.ask("ReactInNetworkChannel", request)

    async def refuse_posts(self) -> None:
        """The network does so by itself."""

    async def rename(self, channel: str, name: str) -> None:
        await self.ask("ChangeNetworkChannel", api.ChangeNetworkChannelRequest(channel=channel, name=name))

    async def write_to(self, sender: str, text: str) -> None:
        await self._inject(sender=sender, text=text)

    async def write_from_phone(self, to: str, text: str) -> None:
        await self._inject(from_own_device=True, chat=to, text=text)

    async def answer_to(self, sender: str, quoted: str) -> None:
        said = api.QuotedMessage(network_message_id="M1", text=quoted)
        await self._inject(sender=sender, text="yes", quoted=said)

    async def show_typing(
        self, person: str, state: message_pb2.TypingState.ValueType, group: str = ""
    ) -> None:
        shown = wire.TypingState.Value(message_pb2.TypingState.Name(state))
        request = api.ShowTypingRequest(phone=self.phone, sender=person, group=group, state=shown)
        await self.ask("ShowTyping", request)

    async def show_presence(self, person: str, *, online: bool, last_seen: int | None = None) -> None:
        request = api.ShowPresenceRequest(person=person, online=online)
        if last_seen is not None:
            request.last_seen_time.FromMicroseconds(last_seen)
        await self.ask("ShowPresence", request)

    async def shows_online(self) -> bool:
        return bool((await self._found()).online)

    async def ringing_calls(self) -> int:
        return int((await self._found()).ringing_calls)

    async def _found(self) -> api.NetworkAccount:
        request = api.GetNetworkAccountRequest(phone=self.phone)
        found: api.NetworkAccount = (await self.ask("GetNetworkAccount", request)).account
        return found

    async def place_call(self, caller: str, *, video: bool) -> str:
        placed = await self.ask(
            "PlaceCall", api.PlaceCallRequest(phone=self.phone, caller=caller, video=video)
        )
        call_id: str = placed.call_id
        return call_id

    async def end_call(self, call_id: str, cause: call_pb2.CallEndCause.ValueType) -> None:
        end = wire.CallEnd.Value(call_pb2.CallEndCause.Name(cause).replace("_CAUSE", ""))
        await self.ask("EndCall", api.EndCallRequest(phone=self.phone, call_id=call_id, end=end))

    async def unacknowledged_notices(self) -> int:
        return int((await self._found()).pending_notices)

    async def refuse(self, failure: Failure) -> int:
        request = api.SetBehaviourRequest(phone=self.phone)
        request.behaviour.refusals.add(reason=_REASONS[failure], code=self.numbers[failure])
        await self.ask("SetBehaviour", request)
        return self.numbers[failure]

    async def on_phone(self, chat: str, **act: Any) -> None:
        await self.ask("ActOnPhone", api.ActOnPhoneRequest(phone=self.phone, chat=chat, **act))

    async def give_history(self, chat: str, messages: int) -> None:
        request = api.GivePhoneHistoryRequest(phone=self.phone, chat=chat, messages=messages)
        await self.ask("GivePhoneHistory", request)

    async def unacknowledged(self) -> int:
        return int((await self._found()).pending_inbound)

    async def end(self, end: End) -> None:
        await self.ask("InjectFault", api.InjectFaultRequest(kind=_ENDS[end], phone=self.phone))

    async def refuse_logins(self, end: End) -> None:
        await self.end(end)

    async def device(self) -> tuple[str, bool]:
        found = await self.ask("GetNetworkAccount", api.GetNetworkAccountRequest(phone=self.phone))
        return found.account.device_name, found.account.with_history

    def went_through(self, server: ProxyServer, connections: int) -> bool:
        return len(server.targets) == connections

    async def refuse_proxy(self, _server: ProxyServer) -> None:
        """It refuses by itself."""

    async def show(
        self, phone: str, *, about: str = "", picture: bytes = b"", business: bool = False
    ) -> None:
        await self.ask(
            "ChangeNetworkPerson",
            api.ChangeNetworkPersonRequest(phone=phone, about=about, picture=picture, business=business),
        )

    async def save_on_phone(self, phone: str, full_name: str, first_name: str = "") -> None:
        await self.ask(
            "ChangeNetworkContact",
            api.ChangeNetworkContactRequest(
                phone=self.phone, contact=phone, full_name=full_name, first_name=first_name
            ),
        )

    async def register(self, phone: str, *, on_network: bool) -> None:
        if not on_network:
            await self.ask("SetNetwork", api.SetNetworkRequest(unregistered_phones=[phone]))

    async def ask(self, method: str, request: Any) -> Any:
        """Call SimulatorService."""
        return await getattr(self._service, method)(request, None)

    async def _inject(self, **said: Any) -> None:
        await self.ask("InjectMessage", api.InjectMessageRequest(phone=self.phone, **said))


class SimulatedWorld(SimulatorWorld):
    """Implements `DriverWorld` on a real port."""

    numbers: ClassVar[Mapping[Failure, int]] = dict.fromkeys(_REASONS, 131_047)

    def __init__(self, network: Network) -> None:
        super().__init__("+15550000001", SimulatorServicer(network))
        self.driver = SimulatedDriver(network.address)
        self._network = network
        self._away = False

    async def paired(self) -> Paired:
        await self.ask("CreateNetworkAccount", api.CreateNetworkAccountRequest(phone=self.phone))
        issued = await self.ask("IssueCredential", api.IssueCredentialRequest(phone=self.phone))
        stored = StoredState(issued.user_id, issued.secret, self.phone, "", "", issued.counter)
        return Paired(SimulatedState(stored))

    async def accept_with_passkey(self, _code: PairingCode) -> None:
        """The network never asks."""

    def passkey_answer(self, _options: bytes) -> bytes:
        """The network never asks."""
        return b""

    async def let_it_be_late(self) -> None:
        request = api.SetBehaviourRequest(phone=self.phone)
        request.behaviour.edit_within.FromTimedelta(timedelta())
        request.behaviour.revoke_within.FromTimedelta(timedelta())
        await self.ask("SetBehaviour", request)

    async def seen(self) -> list[str]:
        return seen_in(self._network.ledger.read())

    async def go_away(self) -> None:
        if not self._away:
            self._away = True
            await self._network.close()

    async def file(self, data: bytes) -> bytes:
        put = await self.ask("PutNetworkBlob", api.PutNetworkBlobRequest(data=data))
        return wire.Blob(ref=put.ref, sha256=put.sha256, size=len(data)).SerializeToString()

    async def without_file(self) -> bytes:
        return wire.Blob(ref=sha256(b"nothing").hexdigest()).SerializeToString()


@asynccontextmanager
async def simulated_world() -> AsyncIterator[SimulatedWorld]:
    """QR codes are replaced every 0.2 s, and an attempt ends after 0.5 s."""
    network = Network(
        SimulatorSettings(
            listen="127.0.0.1:0",
            delivered_after_seconds=0.0,
            linger_seconds=0.2,
            qr_seconds=0.2,
            pair_timeout_seconds=0.5,
        )
    )
    await network.start()
    timers = asyncio.create_task(network.timers.run(), name="timers")
    world = SimulatedWorld(network)
    try:
        yield world
    finally:
        timers.cancel()
        await world.go_away()
