"""Conversion between the network's objects and the messages of its API."""

from __future__ import annotations

from datetime import timedelta

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError
from google.protobuf.timestamp_pb2 import Timestamp

from mesh_core import addresses, validation
from mesh_core.errors import InvalidField
from mesh_simulator.accounts.account import Account, Behaviour, Refusal
from mesh_simulator.accounts.addresses import GROUP
from mesh_simulator.accounts.channel import Channel
from mesh_simulator.accounts.group import Group
from mesh_simulator.checker import Call, Verdict
from mesh_simulator.ledger.records import Kind, Record
from mesh_simulator.messages.inbound import check_message_id
from mesh_simulator.messages.outbound import MAX_CONTENT_BYTES
from mesh_simulator.network import Network
from sessionmesh.simnet.v1 import wire_pb2 as wire
from sessionmesh.simulator.v1 import simulator_pb2 as api

_LONGEST = timedelta(days=366)
_MAX_TEXT = 4096
_LAST_MICROSECOND = 253_402_300_799_999_999
"""The last of the year 9999."""


def account_view(account: Account) -> api.NetworkAccount:
    return api.NetworkAccount(
        device_name=account.device_name,
        with_history=account.with_history,
        phone=account.phone,
        user_id=account.user_id,
        hidden_id=account.hidden_id,
        push_name=account.push_name,
        paired=bool(account.secret_digest),
        connected=account.client is not None,
        banned=account.banned,
        counter=account.counter,
        pending_inbound=len(account.inbound),
        pending_notices=len(account.notices or ()),
    )


def group_view(group: Group) -> api.NetworkGroup:
    return api.NetworkGroup(
        address=GROUP + group.group_id,
        subject=group.subject,
        members=list(group.members),
        admins=[phone for phone, admin in group.members.items() if admin],
        create_time=_time(group.create_time_us),
    )


def channel_view(channel: Channel, posts: int) -> api.NetworkChannel:
    return api.NetworkChannel(
        address=channel.address,
        name=channel.name,
        description=channel.description,
        invite_code=channel.invite_code,
        followers=list(channel.followers),
        deleted=channel.deleted,
        posts=posts,
    )


def behaviour_of(message: api.NetworkBehaviour) -> Behaviour:
    """The field `behaviour` of a request. Raises `InvalidField`."""
    default = Behaviour()
    refusals = []
    for at, refusal in enumerate(message.refusals):
        field = f"behaviour.refusals[{at}]"
        reasons = wire.RejectReason.values()[1:]
        validation.choice(f"{field}.reason", refusal.reason, reasons, "the reasons of the network")
        recipient = refusal.recipient and addresses.chat(f"{field}.recipient", refusal.recipient)
        refusals.append(Refusal(recipient, refusal.reason, refusal.code))
    for at, restriction in enumerate(message.restrictions):
        field = f"behaviour.restrictions[{at}]"
        kinds = wire.RestrictionKind.values()
        validation.choice(f"{field}.kind", restriction.kind, kinds, "the kinds of the network")
        validation.text(f"{field}.message", restriction.message)
        if restriction.until_us > _LAST_MICROSECOND:
            raise InvalidField(f"{field}.until_us", "must be before the year 10000")
    return Behaviour(
        delivered_delay=(
            seconds("behaviour.delivered_after", message.delivered_after)
            if message.HasField("delivered_after")
            else default.delivered_delay
        ),
        read_delay=(
            seconds("behaviour.read_after", message.read_after) if message.HasField("read_after") else None
        ),
        auto_reply=validation.text("behaviour.auto_reply", message.auto_reply, _MAX_TEXT),
        messages_per_minute=message.messages_per_minute,
        refusals=tuple(refusals),
        restrictions=tuple(message.restrictions),
        edit_within=(
            seconds("behaviour.edit_within", message.edit_within)
            if message.HasField("edit_within")
            else default.edit_within
        ),
        revoke_within=(
            seconds("behaviour.revoke_within", message.revoke_within)
            if message.HasField("revoke_within")
            else default.revoke_within
        ),
    )


def network_message_id(field: str, value: str) -> str:
    """An id as clients may choose them, or empty. Raises `InvalidField`."""
    if value:
        check_message_id(field, value)
    return value


def content_of(request: api.InjectMessageRequest, quoted_sender: str) -> bytes:
    """The serialised `Content` of an injected message; `quoted_sender` wrote the message that it answers.

    Raises `InvalidField`.
    """
    content = _content("", request)
    if request.HasField("quoted"):
        field = "quoted.network_message_id"
        if not request.quoted.network_message_id:
            raise InvalidField(field, "is required")
        content.context.reply_to = network_message_id(field, request.quoted.network_message_id)
        content.context.reply_to_sender = quoted_sender
        if request.quoted.WhichOneof("content") is not None:
            content.context.quoted = _content("quoted.", request.quoted).SerializeToString()
    encoded = content.SerializeToString()
    if len(encoded) > MAX_CONTENT_BYTES:
        raise InvalidField("content", f"must be at most {MAX_CONTENT_BYTES} bytes")
    return encoded


def posted_content(request: api.PostInNetworkChannelRequest) -> bytes:
    """The serialised `Content` of a post. Raises `InvalidField`."""
    encoded = _content("", request).SerializeToString()
    if len(encoded) > MAX_CONTENT_BYTES:
        raise InvalidField("content", f"must be at most {MAX_CONTENT_BYTES} bytes")
    return encoded


def _content(
    path: str, message: api.InjectMessageRequest | api.QuotedMessage | api.PostInNetworkChannelRequest
) -> wire.Content:
    kind = message.WhichOneof("content")
    if kind is None:
        raise InvalidField(f"{path}content", "text or encoded is required")
    if kind == "text":
        return wire.Content(text=message.text)
    try:
        return wire.Content.FromString(message.encoded)
    except DecodeError:
        raise InvalidField(f"{path}encoded", "must be a sessionmesh.simnet.v1.Content") from None


def record_view(record: Record) -> api.LedgerRecord:
    return api.LedgerRecord(
        kind=api.LedgerKind.ValueType(record.kind),
        time=_time(record.time_us),
        connection=record.connection,
        account=record.account,
        counter=record.counter,
        code=record.code,
        digest=record.digest,
        id=record.id,
        peer=record.peer,
    )


def call_of(field: str, message: api.CallerRecord) -> Call:
    acknowledged = None
    if message.HasField("acknowledge_time"):
        acknowledged = validation.timestamp(f"{field}.acknowledge_time", message.acknowledge_time).isoformat()
    return Call(
        message.request_id,
        message.account,
        message.message_id,
        message.network_message_id,
        message.recipient,
        acknowledged,
    )


def verdict_view(verdict: Verdict) -> api.GetVerdictResponse:
    return api.GetVerdictResponse(
        clean=verdict.clean,
        sent=verdict.sent,
        delivered=verdict.delivered,
        unacked=verdict.unacked,
        lost=verdict.lost,
        duplicates=verdict.duplicates,
        overlaps=verdict.overlaps,
        ratchet_reuse=verdict.ratchet_reuse,
        inbound=verdict.inbound,
        inbound_unacked=verdict.inbound_unacked,
        unreadable=verdict.unreadable,
        findings=verdict.findings,
    )


def stats_view(network: Network) -> api.GetNetworkStatsResponse:
    counts = network.ledger.counts
    accounts = network.directory.accounts
    return api.GetNetworkStatsResponse(
        accounts=len(accounts),
        connected=sum(account.client is not None for account in accounts),
        connections=network.connections,
        accepted=counts[Kind.ACCEPTED],
        resent=counts[Kind.RESENT],
        rejected=counts[Kind.REJECTED],
        acked=counts[Kind.ACKED],
        receipts=counts[Kind.RECEIPT],
        inbound=counts[Kind.INBOUND],
        inbound_acked=counts[Kind.INBOUND_ACKED],
        logins=counts[Kind.LOGIN],
        replaced=counts[Kind.REPLACED],
        logins_refused=counts[Kind.LOGIN_REFUSED],
        blobs=len(network.blobs),
        blob_bytes=network.blobs.total_bytes,
        address=network.address,
    )


def seconds(field: str, duration: Duration) -> float:
    """A delay of a request. Raises `InvalidField`."""
    return validation.duration(field, duration, least=timedelta(), most=_LONGEST).total_seconds()


def _time(microseconds: int) -> Timestamp:
    return Timestamp(seconds=microseconds // 1_000_000, nanos=microseconds % 1_000_000 * 1000)
