"""SimulatorService: lets tests and people act on the network, inject faults, and read what it saw."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from hashlib import sha256
from typing import TYPE_CHECKING

from mesh_core import addresses
from mesh_core.errors import AlreadyExists, FailedPrecondition, InvalidField
from mesh_core.paging import Pager, listing
from mesh_core.validation import phone, text
from mesh_simulator import views
from mesh_simulator.accounts.account import Account
from mesh_simulator.accounts.addresses import GROUP, PHONE, USERNAME
from mesh_simulator.accounts.shown import Shown
from mesh_simulator.channels_service import ChannelsService
from mesh_simulator.checker import check
from mesh_simulator.faults.faults import FaultKind
from mesh_simulator.groups_service import GroupsService
from mesh_simulator.network import Network
from mesh_simulator.people_service import PeopleService
from mesh_simulator.phone_service import PhoneService
from mesh_simulator.resolving import phones
from sessionmesh.simnet.v1 import wire_pb2 as wire
from sessionmesh.simulator.v1 import simulator_pb2 as api
from sessionmesh.simulator.v1 import simulator_pb2_grpc

if TYPE_CHECKING:
    from grpc.aio import ServicerContext

    Context = ServicerContext[object, object]

_RECORDS_PER_RESPONSE = 500
_MAX_PICTURE_BYTES = 2 * 1024 * 1024


class SimulatorServicer(
    PeopleService,
    GroupsService,
    PhoneService,
    ChannelsService,
    simulator_pb2_grpc.SimulatorServiceServicer,
):
    """Each method reads the request, calls a part of the network, and flushes what that sent to clients."""

    def __init__(self, network: Network) -> None:
        super().__init__(network)
        self._pager = Pager(b"simulator")

    async def CreateNetworkAccount(
        self, request: api.CreateNetworkAccountRequest, context: Context
    ) -> api.CreateNetworkAccountResponse:
        number = phone("phone", request.phone)
        if number in self._directory.by_phone:
            raise AlreadyExists(f"{number} has an account", "RESOURCE_EXISTS")
        name = text("push_name", request.push_name)
        account = self._directory.create_account(number, name or f"Person {number[-4:]}")
        return api.CreateNetworkAccountResponse(account=self._shown(account))

    async def GetNetworkAccount(
        self, request: api.GetNetworkAccountRequest, context: Context
    ) -> api.GetNetworkAccountResponse:
        return api.GetNetworkAccountResponse(account=self._shown(self._account(request.phone)))

    async def ListNetworkAccounts(
        self, request: api.ListNetworkAccountsRequest, context: Context
    ) -> api.ListNetworkAccountsResponse:
        filters = listing(request)
        page = self._pager.parse(request.page_size, request.page_token, filters)
        first = int.from_bytes(page.after, "big") + 1 if page.after is not None else 0
        accounts = self._directory.accounts[first : first + page.limit]
        more = first + page.limit < len(self._directory.accounts)
        last = (first + page.limit - 1).to_bytes(8, "big")
        return api.ListNetworkAccountsResponse(
            accounts=[self._shown(account) for account in accounts],
            next_page_token=self._pager.token(last, filters) if more else "",
        )

    async def IssueCredential(
        self, request: api.IssueCredentialRequest, context: Context
    ) -> api.IssueCredentialResponse:
        account = self._account(request.phone)
        secret = self._network.pairing.issue(account)
        return api.IssueCredentialResponse(
            user_id=account.user_id, secret=secret, counter=account.counter + 1
        )

    async def AcceptPairing(
        self, request: api.AcceptPairingRequest, context: Context
    ) -> api.AcceptPairingResponse:
        shown = request.WhichOneof("shown")
        if shown is None:
            raise InvalidField("shown", "qr or code is required")
        account = self._network.pairing.accept(request.qr or request.code, request.phone)
        self._network.flush()
        return api.AcceptPairingResponse(account=self._shown(account))

    async def InjectMessage(
        self, request: api.InjectMessageRequest, context: Context
    ) -> api.InjectMessageResponse:
        account = self._account(request.phone)
        own_address = PHONE + account.phone
        if not request.from_own_device:
            sender = self._person("sender", request.sender)
        elif request.sender:
            raise InvalidField("sender", "must be empty with from_own_device")
        else:
            sender = own_address
        if request.chat or request.from_own_device:
            chat = self._chat("chat", request.chat, account)
            if not request.from_own_device and not chat.startswith(GROUP):
                raise InvalidField("chat", "must be a group, or empty for the sender's own chat")
        else:
            chat = sender
        quoted_sender = own_address
        if request.quoted.sender:
            quoted_sender = self._person("quoted.sender", request.quoted.sender)
        message = wire.Inbound(
            id=views.network_message_id("network_message_id", request.network_message_id),
            sender=sender,
            chat=chat,
            push_name=text("push_name", request.push_name),
            content=views.content_of(request, quoted_sender),
            from_me=request.from_own_device,
        )
        self._network.inbound.offer(account, message)
        self._network.flush()
        return api.InjectMessageResponse(network_message_id=message.id)

    async def PutNetworkBlob(
        self, request: api.PutNetworkBlobRequest, context: Context
    ) -> api.PutNetworkBlobResponse:
        ref = self._network.blobs.put(request.data)
        return api.PutNetworkBlobResponse(ref=ref, sha256=sha256(request.data).digest())

    async def SetBehaviour(
        self, request: api.SetBehaviourRequest, context: Context
    ) -> api.SetBehaviourResponse:
        behaviour = views.behaviour_of(request.behaviour)
        if not request.phone:
            self._directory.set_default_behaviour(behaviour)
            self._network.flush()
            return api.SetBehaviourResponse()
        account = self._account(request.phone)
        self._directory.set_own_behaviour(account, behaviour if request.HasField("behaviour") else None)
        self._network.flush()
        return api.SetBehaviourResponse()

    async def SetNetwork(self, request: api.SetNetworkRequest, context: Context) -> api.SetNetworkResponse:
        if request.passkey_phones or request.history_messages:
            raise FailedPrecondition(
                "this network knows no passkeys and no history", "UNSUPPORTED_BY_NETWORK"
            )
        accept_after = None
        if request.HasField("accept_after"):
            accept_after = views.seconds("accept_after", request.accept_after)
        unregistered = set(phones("unregistered_phones", request.unregistered_phones))
        hidden = set(phones("hidden_phones", request.hidden_phones))
        unaddable = set(phones("unaddable_phones", request.unaddable_phones))
        usernames = {}
        for number, name in request.usernames.items():
            field = f"usernames[{number}]"
            addresses.parse(field, USERNAME + name)
            usernames[phone(field, number)] = name
        self._network.pairing.auto_accept = accept_after
        self._directory.unregistered, self._directory.hidden = unregistered, hidden
        self._directory.usernames, self._directory.unaddable = usernames, unaddable
        return api.SetNetworkResponse()

    async def ChangeNetworkPerson(
        self, request: api.ChangeNetworkPersonRequest, context: Context
    ) -> api.ChangeNetworkPersonResponse:
        number = phone("phone", request.phone)
        if len(request.picture) > _MAX_PICTURE_BYTES:
            raise InvalidField("picture", "must have at most 2 MiB")
        account = self._directory.by_phone.get(number) or self._directory.create_account(number, "")
        change = wire.ChangeProfile()
        if request.HasField("push_name"):
            change.push_name = text("push_name", request.push_name)
        if request.HasField("about"):
            change.about = text("about", request.about)
        if request.HasField("picture"):
            change.picture_ref = self._network.blobs.put(request.picture) if request.picture else ""
        if request.HasField("business"):
            shown = account.shown = account.shown or Shown()
            shown.business = (shown.business or b"") if request.business else None
        self._network.profiles.change(account, change)
        self._network.flush()
        return api.ChangeNetworkPersonResponse()

    async def ChangeNetworkContact(
        self, request: api.ChangeNetworkContactRequest, context: Context
    ) -> api.ChangeNetworkContactResponse:
        account, contact = self._account(request.phone), phone("contact", request.contact)
        full_name, first_name = (
            text("full_name", request.full_name),
            text("first_name", request.first_name),
        )
        self._network.contacts.change(account, contact, full_name, first_name)
        self._network.person_news.contact(account, contact)
        self._network.flush()
        return api.ChangeNetworkContactResponse()

    async def InjectFault(self, request: api.InjectFaultRequest, context: Context) -> api.InjectFaultResponse:
        if request.kind > max(FaultKind) and request.kind in api.FaultKind.values():
            raise FailedPrecondition("this network has no such fault", "UNSUPPORTED_BY_NETWORK")
        if int(request.kind) not in FaultKind.__members__.values():
            raise InvalidField("kind", "is required")
        kind = FaultKind(request.kind)
        account = self._account(request.phone) if request.phone else None
        amount = views.seconds("delay", request.delay)
        if kind is FaultKind.BANDWIDTH:
            amount = float(request.bytes_per_second)
        if amount <= 0 and kind in (FaultKind.DELAY_ACKS, FaultKind.SLOW):
            raise InvalidField("delay", "must be above 0")
        if amount <= 0 and kind is FaultKind.BANDWIDTH:
            raise InvalidField("bytes_per_second", "must be above 0")
        duration = views.seconds("duration", request.duration) if request.HasField("duration") else None
        return api.InjectFaultResponse(fault_id=self._network.faults.inject(kind, account, amount, duration))

    async def ClearFaults(self, request: api.ClearFaultsRequest, context: Context) -> api.ClearFaultsResponse:
        if request.fault_id:
            cleared = int(self._network.faults.clear(request.fault_id))
        else:
            account = self._account(request.phone) if request.phone else None
            cleared = self._network.faults.clear_all(account)
        return api.ClearFaultsResponse(cleared=cleared)

    async def GetNetworkStats(
        self, request: api.GetNetworkStatsRequest, context: Context
    ) -> api.GetNetworkStatsResponse:
        return views.stats_view(self._network)

    async def ExportLedger(
        self, request: api.ExportLedgerRequest, context: Context
    ) -> AsyncIterator[api.ExportLedgerResponse]:
        batch = []
        for record in self._network.ledger.read():
            batch.append(views.record_view(record))
            if len(batch) == _RECORDS_PER_RESPONSE:
                yield api.ExportLedgerResponse(records=batch)
                batch = []
        if batch:
            yield api.ExportLedgerResponse(records=batch)

    async def GetVerdict(self, request: api.GetVerdictRequest, context: Context) -> api.GetVerdictResponse:
        calls = [views.call_of(f"calls[{at}]", call) for at, call in enumerate(request.calls)]
        records = self._network.ledger.read()
        verdict = await asyncio.to_thread(check, records, calls)
        return views.verdict_view(verdict)

    def _shown(self, account: Account) -> api.NetworkAccount:
        view = views.account_view(account)
        view.online = self._network.presences.online(account)
        view.ringing_calls = self._network.calls.ringing(account)
        return view
