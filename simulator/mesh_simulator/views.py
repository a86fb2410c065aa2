"""Conversion between the network's objects and the messages of its API."""

from __future__ import annotations

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from mesh_simulator.accounts.account import Account, Behaviour, Group
from mesh_simulator.checker import Call, Verdict
from mesh_simulator.ledger.records import Kind, Record
from mesh_simulator.network import Network
from sessionmesh.simulator.v1 import simulator_pb2 as api


def account_view(account: Account) -> api.NetworkAccount:
    return api.NetworkAccount(
        phone=account.phone,
        user_id=account.user_id,
        hidden_id=account.hidden_id,
        push_name=account.push_name,
        paired=bool(account.secret_digest),
        connected=account.client is not None,
        banned=account.banned,
        counter=account.counter,
        pending_inbound=len(account.inbound),
    )


def group_view(group: Group) -> api.NetworkGroup:
    return api.NetworkGroup(
        group_id=group.group_id,
        subject=group.subject,
        members=list(group.members),
        admins=[phone for phone, admin in group.members.items() if admin],
        create_time=_time(group.create_time_us),
    )


def behaviour_of(message: api.NetworkBehaviour) -> Behaviour:
    default = Behaviour()
    return Behaviour(
        delivered_delay=(
            seconds(message.delivered_after)
            if message.HasField("delivered_after")
            else default.delivered_delay
        ),
        read_delay=seconds(message.read_after) if message.HasField("read_after") else None,
        auto_reply=message.auto_reply,
        messages_per_minute=message.messages_per_minute,
    )


def record_view(record: Record) -> api.LedgerRecord:
    return api.LedgerRecord(
        kind=api.LedgerRecord.Kind.ValueType(record.kind),
        time=_time(record.time_us),
        connection=record.connection,
        account=record.account,
        counter=record.counter,
        code=record.code,
        digest=record.digest,
        id=record.id,
        peer=record.peer,
    )


def call_of(message: api.CallerRecord) -> Call:
    acknowledged = message.acknowledge_time.ToJsonString() if message.HasField("acknowledge_time") else None
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


def seconds(duration: Duration) -> float:
    return duration.seconds + duration.nanos / 1e9


def _time(microseconds: int) -> Timestamp:
    return Timestamp(seconds=microseconds // 1_000_000, nanos=microseconds % 1_000_000 * 1000)
