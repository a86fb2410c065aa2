"""SimulatorService: lets tests and people act on the network, inject faults, and read what it saw."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from hashlib import sha256
from typing import TYPE_CHECKING

from mesh_core.errors import AlreadyExists, InvalidField, NotFound
from mesh_core.paging import Pager, listing
from mesh_core.validation import required_text
from mesh_simulator import views
from mesh_simulator.accounts.account import Account, Group
from mesh_simulator.accounts.addresses import GROUP, is_phone
from mesh_simulator.accounts.queries import new_group_id
from mesh_simulator.checker import check
from mesh_simulator.faults.faults import FaultKind
from mesh_simulator.network import Network
from sessionmesh.simnet.v1 import wire_pb2 as wire
from sessionmesh.simulator.v1 import simulator_pb2 as api
from sessionmesh.simulator.v1 import simulator_pb2_grpc

if TYPE_CHECKING:
    from grpc.aio import ServicerContext

    Context = ServicerContext[object, object]

_RECORDS_PER_RESPONSE = 500


class SimulatorServicer(simulator_pb2_grpc.SimulatorServiceServicer):
    """Each method reads the request, calls a part of the network, and flushes what that sent to clients."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self._directory = network.directory
        self._pager = Pager(b"simulator")

    async def CreateNetworkAccount(
        self, request: api.CreateNetworkAccountRequest, context: Context
    ) -> api.CreateNetworkAccountResponse:
        phone = _phone("phone", request.phone)
        if phone in self._directory.by_phone:
            raise AlreadyExists(f"{phone} has an account", "RESOURCE_EXISTS")
        account = self._directory.create_account(phone, request.push_name or f"Person {phone[-4:]}")
        return api.CreateNetworkAccountResponse(account=views.account_view(account))

    async def GetNetworkAccount(
        self, request: api.GetNetworkAccountRequest, context: Context
    ) -> api.GetNetworkAccountResponse:
        return api.GetNetworkAccountResponse(account=views.account_view(self._account(request.phone)))

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
            accounts=[views.account_view(account) for account in accounts],
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
        return api.AcceptPairingResponse(account=views.account_view(account))

    async def InjectMessage(
        self, request: api.InjectMessageRequest, context: Context
    ) -> api.InjectMessageResponse:
        account = self._account(request.phone)
        sender = self._directory.find(required_text("sender", request.sender))
        if sender is None or isinstance(sender, Group):
            raise InvalidField("sender", "must be the address of a person on the network")
        chat = request.sender
        if request.group_id:
            self._member_of(request.group_id, account)
            chat = GROUP + request.group_id
        content = request.encoded
        if request.WhichOneof("content") == "text":
            content = wire.Content(text=request.text).SerializeToString()
        elif not content:
            raise InvalidField("content", "text or encoded is required")
        message = wire.Inbound(
            id=request.network_message_id,
            sender=request.sender,
            chat=chat,
            push_name=request.push_name,
            content=content,
        )
        self._network.inbound.offer(account, message)
        self._network.flush()
        return api.InjectMessageResponse(network_message_id=message.id)

    async def PutNetworkBlob(
        self, request: api.PutNetworkBlobRequest, context: Context
    ) -> api.PutNetworkBlobResponse:
        ref = self._network.blobs.put(request.data)
        return api.PutNetworkBlobResponse(ref=ref, sha256=sha256(request.data).digest())

    async def CreateNetworkGroup(
        self, request: api.CreateNetworkGroupRequest, context: Context
    ) -> api.CreateNetworkGroupResponse:
        if not request.members:
            raise InvalidField("members", "is required")
        members = {_phone("members", phone): False for phone in request.members}
        for phone in request.admins or request.members[:1]:
            if phone not in members:
                raise InvalidField("admins", f"{phone} is not among the members")
            members[phone] = True
        group = self._directory.create_group(new_group_id(), request.subject, members)
        return api.CreateNetworkGroupResponse(group=views.group_view(group))

    async def ChangeNetworkGroupMembers(
        self, request: api.ChangeNetworkGroupMembersRequest, context: Context
    ) -> api.ChangeNetworkGroupMembersResponse:
        group = self._group(request.group_id)
        for phone in request.add:
            group.members.setdefault(_phone("add", phone), False)
        for phone in request.remove:
            group.members.pop(phone, None)
        self._directory.save_group(group)
        return api.ChangeNetworkGroupMembersResponse(group=views.group_view(group))

    async def SetBehaviour(
        self, request: api.SetBehaviourRequest, context: Context
    ) -> api.SetBehaviourResponse:
        behaviour = views.behaviour_of(request.behaviour)
        if not request.phone:
            self._directory.set_default_behaviour(behaviour)
            return api.SetBehaviourResponse()
        account = self._account(request.phone)
        account.has_own_behaviour = request.HasField("behaviour")
        account.behaviour = behaviour if account.has_own_behaviour else self._directory.default_behaviour
        return api.SetBehaviourResponse()

    async def SetNetwork(self, request: api.SetNetworkRequest, context: Context) -> api.SetNetworkResponse:
        self._network.pairing.auto_accept = (
            views.seconds(request.accept_after) if request.HasField("accept_after") else None
        )
        self._directory.unregistered = set(request.unregistered_phones)
        return api.SetNetworkResponse()

    async def InjectFault(self, request: api.InjectFaultRequest, context: Context) -> api.InjectFaultResponse:
        if int(request.kind) not in FaultKind.__members__.values():
            raise InvalidField("kind", "is required")
        kind = FaultKind(request.kind)
        account = self._account(request.phone) if request.phone else None
        amount = views.seconds(request.delay)
        if kind is FaultKind.BANDWIDTH:
            amount = float(request.bytes_per_second)
        if amount <= 0 and kind in (FaultKind.DELAY_ACKS, FaultKind.SLOW):
            raise InvalidField("delay", "must be above 0")
        if amount <= 0 and kind is FaultKind.BANDWIDTH:
            raise InvalidField("bytes_per_second", "must be above 0")
        duration = views.seconds(request.duration) if request.HasField("duration") else None
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
        calls = [views.call_of(call) for call in request.calls]
        records = self._network.ledger.read()
        verdict = await asyncio.to_thread(check, records, calls)
        return views.verdict_view(verdict)

    def _account(self, phone: str) -> Account:
        account = self._directory.by_phone.get(_phone("phone", phone))
        if account is None:
            raise NotFound("network account", phone)
        return account

    def _group(self, group_id: str) -> Group:
        group = self._directory.groups.get(required_text("group_id", group_id))
        if group is None:
            raise NotFound("network group", group_id)
        return group

    def _member_of(self, group_id: str, account: Account) -> None:
        if account.phone not in self._group(group_id).members:
            raise InvalidField("group_id", "the account is not in that group")


def _phone(field: str, value: str) -> str:
    if not is_phone(value):
        raise InvalidField(field, "must be a phone number in E.164")
    return value
