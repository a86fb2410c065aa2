"""Drains: jobs that succeed when a node owns no shard any more.

A drain does no work itself: the node follows its state in etcd, and the owner keys tell the progress. The
row in Postgres is what the operator asked for. Every router sets the node's state in etcd accordingly and
records the job's end, again and again until it has ended, so a drain survives the router that began it.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from time import monotonic

import asyncpg
import structlog
from asyncpg.pgproto.pgproto import UUID

from mesh_core import ids, validation
from mesh_core.database import UNAVAILABLE, Database
from mesh_core.database.requests import OPERATOR_SCOPE, Method, claim_request, request_digest
from mesh_core.errors import (
    AlreadyExists,
    FailedPrecondition,
    InvalidField,
    MeshError,
    NotFound,
    Unavailable,
)
from mesh_core.etcd import Etcd, EtcdRefused, EtcdUnavailable
from mesh_core.ids import Prefix
from mesh_core.jobs import NewJob, Progress, store
from mesh_core.jobs.store import Connection
from mesh_core.ownership.keys import NodeInfo, NodeState
from mesh_core.ownership.nodes import (
    check_drain,
    count_owned,
    drain_node,
    registered_nodes,
    set_node_state,
)
from mesh_core.ownership.view import OwnerView
from mesh_core.rpc.server.status import details_of
from mesh_router.fleet.admission import Admission
from sessionmesh.admin.v1 import fleet_pb2
from sessionmesh.v1 import job_pb2

logger = structlog.get_logger(__name__)

RETURN_SECONDS = 15.0
"""A draining node that leaves may return, and has to go on draining. After this long it counts as drained."""
BUSY_SECONDS, IDLE_SECONDS = 0.25, 1.0
"""Time between two rounds over the unfinished drains: while there are any, and while there are none."""

_AWAY: tuple[type[Exception], ...] = (*UNAVAILABLE, EtcdUnavailable, EtcdRefused)


@dataclass(frozen=True, slots=True)
class _Step:
    """The new state of a job."""

    state: job_pb2.JobState.ValueType
    progress: Progress
    error: bytes | None = None


class Drains:
    """Starts, advances and ends drains; `run` must run in every router."""

    def __init__(
        self, database: Database, etcd: Etcd, cluster: str, view: OwnerView, admission: Admission
    ) -> None:
        self._database = database
        self._etcd = etcd
        self._cluster = cluster
        self._view = view
        self._admission = admission
        self._missing: dict[UUID, float] = {}

    async def run(self) -> None:
        """Advances all unfinished drains again and again, until cancelled."""
        waiting = ""
        while True:
            busy, before, waiting = False, waiting, ""
            try:
                rows = await store.unfinished(self._database.pool, job_pb2.JOB_KIND_DRAIN_NODE)
                busy = bool(rows)
                for row in rows:
                    await self._advance_one(row["id"])
            except UNAVAILABLE as error:
                waiting = f"the database is unavailable: {error!r}"
            except (EtcdUnavailable, EtcdRefused) as error:
                waiting = error.message
            if waiting and not before:
                logger.warning("drains make no progress", reason=waiting)
            await asyncio.sleep(BUSY_SECONDS if busy else IDLE_SECONDS)

    async def _advance_one(self, job: UUID) -> None:
        """One drain that cannot go on does not keep the others from it."""
        try:
            await self._advance(job, wait=False)
        except _AWAY:
            raise  # no drain can go on
        except Exception:  # whatever is wrong with one job
            logger.exception("a drain makes no progress", job=_name(job))

    async def start(self, request: fleet_pb2.DrainNodeRequest) -> asyncpg.Record:
        """Starts a drain; returns the job's row, that of the running drain for a node that drains already.

        Raises `NotFound`, `FailedPrecondition`, and `AlreadyExists` while it drains to another replacement.
        """
        request_id = validation.request_id(request.request_id)
        node_id = validation.text("node_id", request.node_id)
        replacement = validation.text("replacement_node_id", request.replacement_node_id)
        if replacement == node_id:
            raise InvalidField("replacement_node_id", "must be another node")
        job = ids.new_uuid()
        async with self._database.pool.acquire() as connection, connection.transaction():
            running = await self._unfinished(connection, node_id)
            claimed = running["id"] if running is not None else job
            first = await claim_request(
                connection, OPERATOR_SCOPE, Method.DRAIN_NODE, request_id, request_digest(request), claimed
            )
            if first is not None:
                return _found(await store.get(connection, first), first)
            if running is not None:
                return _same(running, replacement)
            nodes = await registered_nodes(self._etcd, self._cluster)
            check_drain(nodes, node_id, replacement)
            if not request.force:
                self._check_room(nodes, node_id, replacement)
            detail = json.dumps({"replacement": replacement} if replacement else {})
            new = NewJob(job, job_pb2.JOB_KIND_DRAIN_NODE, subject=node_id, detail=detail)
            row = await store.insert(connection, new)
        logger.info("drain started", node=node_id, replacement=replacement, job=_name(job))
        try:
            return await self.advance(job) or row
        except EtcdUnavailable:  # `run` tells the node as soon as etcd answers
            return row

    async def undrain(self, node_id: str) -> NodeInfo:
        """Cancels the node's drain, if there is one, and makes it ACTIVE. Raises `NotFound`."""
        validation.text("node_id", node_id)
        async with self._database.pool.acquire() as connection, connection.transaction():
            running = await self._unfinished(connection, node_id)
            if running is not None:
                await store.request_cancel(connection, running["id"])
        if running is not None:
            await self.advance(running["id"])
        return await set_node_state(self._etcd, self._cluster, node_id, NodeState.ACTIVE)

    async def advance(self, job: UUID) -> asyncpg.Record | None:
        """Sets the node's state as the job asks, and the job's by the node's shards; returns the job's row.

        Raises `EtcdUnavailable`.
        """
        return await self._advance(job, wait=True)

    def progress(self, row: asyncpg.Record) -> Progress:
        """From the owners that this router sees, which are newer than the row."""
        if row["state"] == job_pb2.JOB_STATE_PENDING:
            return Progress(row["total"], row["done"])
        return _progress(row["total"], self._owned(row["subject"]))

    async def _advance(self, job: UUID, *, wait: bool) -> asyncpg.Record | None:
        lock = store.lock if wait else store.lock_if_free
        async with self._database.pool.acquire() as connection, connection.transaction():
            row = await lock(connection, job)
            if row is None or row["end_time"] is not None:
                self._missing.pop(job, None)
                return row
            step = await self._step(row)
            if step.state == row["state"]:
                return row
            logger.info(
                "a drain changed its state",
                node=row["subject"],
                job=_name(job),
                state=job_pb2.JobState.Name(step.state),
                shards=step.progress.total,
            )
            return await store.change(
                connection, job, step.state, step.progress.total, step.progress.done, step.error
            )

    async def _step(self, row: asyncpg.Record) -> _Step:
        """The next state of a drain. Its row is locked, so no other router sets another node state now."""
        node_id, replacement = row["subject"], json.loads(row["detail"]).get("replacement", "")
        owned = self._owned(node_id)
        progress = _progress(row["total"], owned)
        if row["cancel_time"] is not None:
            try:
                await set_node_state(self._etcd, self._cluster, node_id, NodeState.ACTIVE)
            except NotFound:
                logger.info("the node of a cancelled drain is not registered", node=node_id)
            return _Step(job_pb2.JOB_STATE_CANCELLED, progress)
        try:
            await drain_node(self._etcd, self._cluster, node_id, replacement)
        except NotFound as error:
            if error.name == node_id:
                return await self._without_node(row, progress)
            return _failed(progress, error)
        except EtcdRefused:
            raise
        except FailedPrecondition as error:
            return _failed(progress, error)
        self._missing.pop(row["id"], None)
        if owned == 0 and await count_owned(self._etcd, self._cluster, node_id) == 0:
            return _Step(job_pb2.JOB_STATE_SUCCEEDED, _finished(row))
        return _Step(job_pb2.JOB_STATE_RUNNING, progress)

    async def _without_node(self, row: asyncpg.Record, progress: Progress) -> _Step:
        since = self._missing.setdefault(row["id"], monotonic())
        owned = await count_owned(self._etcd, self._cluster, row["subject"])
        if owned == 0 and monotonic() - since > RETURN_SECONDS:
            return _Step(job_pb2.JOB_STATE_SUCCEEDED, _finished(row))
        return _Step(job_pb2.JOB_STATE_RUNNING, progress)

    async def _unfinished(self, connection: Connection, node_id: str) -> asyncpg.Record | None:
        """The node's unfinished drain. Until the transaction ends no other call can start one."""
        await connection.execute("SELECT pg_advisory_xact_lock(hashtextextended('drain ' || $1, 0))", node_id)
        found = await store.unfinished(connection, job_pb2.JOB_KIND_DRAIN_NODE, node_id)
        return found[0] if found else None

    def _owned(self, node_id: str) -> int:
        return sum(owner.node_id == node_id for owner in self._view.owners().values())

    def _accounts(self, node_id: str) -> int:
        counted = self._admission.by_shard
        return sum(
            counted.get(shard, 0) for shard, owner in self._view.owners().items() if owner.node_id == node_id
        )

    def _check_room(self, nodes: dict[str, NodeInfo], node_id: str, replacement: str) -> None:
        """Raises `FailedPrecondition` NO_CAPACITY when the other nodes cannot run all accounts."""
        remaining = {
            name: info.capacity
            for name, info in nodes.items()
            if name == replacement or (info.state is NodeState.ACTIVE and name != node_id)
        }
        capacity, accounts = sum(remaining.values()), self._admission.accounts
        if replacement:
            moving = self._accounts(node_id) + self._accounts(replacement)
            if moving > nodes[replacement].capacity:
                raise FailedPrecondition(
                    f"{replacement} runs {nodes[replacement].capacity} sessions and would get {moving} "
                    "accounts: name another one, or use force",
                    "NO_CAPACITY",
                )
        if accounts > capacity:
            raise FailedPrecondition(
                f"without {node_id} the fleet runs {capacity} sessions, and {accounts} accounts want one: "
                "add a node, or use force",
                "NO_CAPACITY",
            )


def _progress(total: int | None, owned: int) -> Progress:
    most = max(total or 0, owned)
    return Progress(most, most - owned)


def _finished(row: asyncpg.Record) -> Progress:
    return Progress(row["total"], row["total"] or 0)


def _failed(progress: Progress, error: MeshError) -> _Step:
    return _Step(job_pb2.JOB_STATE_FAILED, progress, details_of(error))


def _same(running: asyncpg.Record, replacement: str) -> asyncpg.Record:
    name, node_id = _name(running["id"]), running["subject"]
    if running["cancel_time"] is not None:
        raise Unavailable(
            f"a drain of {node_id} is just being cancelled", "BACKEND_UNAVAILABLE", retry_after=1.0
        )
    if json.loads(running["detail"]).get("replacement", "") != replacement:
        raise AlreadyExists(
            f"node {node_id} drains already, to another replacement: job {name}",
            "RESOURCE_EXISTS",
            resource="job",
            name=name,
        )
    return running


def _found(row: asyncpg.Record | None, job: UUID) -> asyncpg.Record:
    if row is None:  # cannot be: jobs are kept for longer than request ids
        raise NotFound("job", _name(job))
    return row


def _name(job: UUID) -> str:
    return ids.encode(Prefix.JOB, job)
