"""`mesh doctor`: every member of etcd that is named, and whether they take what the mesh writes."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import grpc
from grpc.aio import AioRpcError
from rich.filesize import decimal

from mesh_cli.commands.doctor.findings import (
    NO_ANSWER,
    Finding,
    fastest,
    measured,
    milliseconds,
    warning,
    wrong,
)
from mesh_core.errors import MeshError
from mesh_core.etcd import Etcd
from mesh_core.etcd.member import CHANNEL_OPTIONS, channel_credentials
from mesh_core.settings import EtcdSettings
from mesh_wire.etcd import admin_pb2, admin_pb2_grpc, rpc_pb2, rpc_pb2_grpc

SUBJECT = "etcd"
MEMBER_SECONDS = 3.0
OLDEST, SOUND = (3, 5), (3, 5, 3)
"""The oldest release that the mesh works with, and the first that a kill under load does not damage."""
DEFAULT_QUOTA = 2 * 1024**3
"""What a member may take on disk unless it is told otherwise; members before 3.6 do not say."""
SLOW_SECONDS = (0.1, 1.0)
"""The mesh waits a second for each answer."""
FULL = (0.8, 0.95)
MOST_BEHIND = 5_000
"""Entries of the log that a member may still have to apply."""
_LEASE_SECONDS = 5


@dataclass(frozen=True, slots=True)
class Answered:
    """What one member says of itself, and how long a read took that a majority confirmed."""

    endpoint: str
    status: admin_pb2.StatusResponse
    seconds: float


async def check_etcd(settings: EtcdSettings, cluster: str) -> list[Finding]:
    """Ask each endpoint, and write and delete a key of the cluster's."""
    asked = await asyncio.gather(*(_ask(settings, endpoint, cluster) for endpoint in settings.endpoints))
    answered = [one for one in asked if isinstance(one, Answered)]
    findings = [one for one in asked if isinstance(one, Finding)]
    for one in answered:
        findings += member_findings(one)
    if answered:
        findings += [*cluster_findings(answered), await _write(settings, cluster)]
    return findings


def member_findings(one: Answered) -> Iterator[Finding]:
    """What is to be said of a member that answered."""
    status = one.status
    quota = status.dbSizeQuota or DEFAULT_QUOTA
    role = "leader" if status.leader == status.header.member_id else "follower"
    size = f"{decimal(status.dbSize)} of {decimal(quota)}{'' if status.dbSizeQuota else ', its default'}"
    seen = f"{one.endpoint} {status.version}, {role}, a read {milliseconds(one.seconds)}, {size}"
    yield measured(SUBJECT, one.seconds, SLOW_SECONDS, seen, _SLOW)
    at = f"{one.endpoint}:"
    if (version := version_of(status.version)) < OLDEST:
        yield wrong(SUBJECT, f"{at} etcd {status.version} is too old", "Upgrade to etcd 3.5.3 or newer.")
    elif version < SOUND:
        remedy = "Outside of development use etcd 3.5.3 or newer."
        yield warning(SUBJECT, f"{at} etcd {status.version} may damage its data when killed", remedy)
    if not status.leader:
        yield wrong(SUBJECT, f"{at} sees no leader", "Most members must run, and reach each other.")
    if status.isLearner:
        yield warning(SUBJECT, f"{at} is a learner, which has no vote", "etcdctl member promote")
    for alarm in status.errors:
        yield wrong(SUBJECT, f"{at} alarm {alarm}", _alarm_remedy(alarm))
    share = status.dbSize / quota
    if share > FULL[0]:
        yield measured(SUBJECT, share, FULL, f"{at} {share:.0%} of its quota is used", _ROOM)
    behind = status.raftIndex - status.raftAppliedIndex
    if behind > MOST_BEHIND:
        yield warning(SUBJECT, f"{at} is {behind:,} entries behind its log", "Is its disk too slow?")


def cluster_findings(answered: Sequence[Answered]) -> Iterator[Finding]:
    """What members say differently that should agree."""
    states = [one.status for one in answered]
    if len({status.header.cluster_id for status in states}) > 1:
        remedy = "MESH_ETCD_ENDPOINTS must name members of one cluster."
        yield wrong(SUBJECT, "the endpoints are of different clusters", remedy)
    elif len({(status.leader, status.raftTerm) for status in states}) > 1:
        remedy = "During an election that is usual; else a member is cut off from the others."
        yield warning(SUBJECT, "the members do not agree on who leads", remedy)
    if len(versions := sorted({status.version for status in states})) > 1:
        yield warning(SUBJECT, f"members of {', '.join(versions)}", "Finish the upgrade.")


def version_of(text: str) -> tuple[int, ...]:
    """The numbers of a version such as 3.5.1-rc.1."""
    return tuple(int(number) for number in re.findall(r"\d+", text.partition("-")[0]))


async def _ask(settings: EtcdSettings, endpoint: str, cluster: str) -> Answered | Finding:
    try:
        async with _open(settings, endpoint) as channel:
            metadata = await _log_in(channel, settings)
            status = await admin_pb2_grpc.MaintenanceStub(channel).Status(
                admin_pb2.StatusRequest(), timeout=MEMBER_SECONDS, metadata=metadata
            )
            request, stub = rpc_pb2.RangeRequest(key=f"/{cluster}/".encode()), rpc_pb2_grpc.KVStub(channel)
            read = partial(stub.Range, request, timeout=MEMBER_SECONDS, metadata=metadata)
            return Answered(endpoint, status, await fastest(read))
    except AioRpcError as error:
        seen = f"{endpoint} {error.code().name}: {error.details()}"
        return wrong(SUBJECT, seen, _REMEDIES.get(error.code(), NO_ANSWER))


async def _log_in(channel: grpc.aio.Channel, settings: EtcdSettings) -> tuple[tuple[str, str], ...]:
    if not settings.username:
        return ()
    request = admin_pb2.AuthenticateRequest(name=settings.username, password=settings.password)
    answer = await admin_pb2_grpc.AuthStub(channel).Authenticate(request, timeout=MEMBER_SECONDS)
    return (("token", answer.token),)


def _open(settings: EtcdSettings, endpoint: str) -> grpc.aio.Channel:
    credentials = channel_credentials(settings)
    if credentials is None:
        return grpc.aio.insecure_channel(endpoint, options=CHANNEL_OPTIONS)
    return grpc.aio.secure_channel(endpoint, credentials, options=CHANNEL_OPTIONS)


async def _write(settings: EtcdSettings, cluster: str) -> Finding:
    """A key under a lease, as everything is that the mesh says of who lives."""
    etcd = Etcd(settings, timeout=1.0)
    sent = time.monotonic()
    try:
        lease = await etcd.grant(_LEASE_SECONDS)
        await etcd.put(f"/{cluster}/doctor".encode(), b"", lease.id)
        await etcd.revoke(lease.id)
    except MeshError as error:
        return wrong(SUBJECT, f"does not take a key of /{cluster}/: {error.message}", _WRITE)
    finally:
        await etcd.close()
    took = (time.monotonic() - sent) / 3
    return measured(
        SUBJECT, took, SLOW_SECONDS, f"takes keys of /{cluster}/, a write {milliseconds(took)}", _SLOW
    )


def _alarm_remedy(alarm: str) -> str:
    if "NOSPACE" in alarm:
        return "It takes no writes. etcdctl compact, etcdctl defrag, then etcdctl alarm disarm."
    return "Replace this member: etcdctl member remove, an empty data directory, etcdctl member add."


_SLOW = "Is its disk or the network slow? It wants an SSD of its own."
_ROOM = "etcdctl compact, etcdctl defrag; or a larger --quota-backend-bytes. Full, it takes no writes."
_WRITE = "Is its quota used up, or may the user not write these keys?"
_REMEDIES = {
    grpc.StatusCode.UNAUTHENTICATED: "Check MESH_ETCD_USERNAME and MESH_ETCD_PASSWORD.",
    grpc.StatusCode.INVALID_ARGUMENT: "Check MESH_ETCD_USERNAME and MESH_ETCD_PASSWORD.",
    grpc.StatusCode.FAILED_PRECONDITION: "It knows no users: take MESH_ETCD_USERNAME away.",
    grpc.StatusCode.PERMISSION_DENIED: "The user's role must read and write all keys of the cluster.",
    grpc.StatusCode.UNAVAILABLE: f"{NO_ANSWER} Does it speak TLS (MESH_ETCD_CA)?",
}
