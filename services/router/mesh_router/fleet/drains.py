"""Drains: jobs that end when a node owns nothing.

A drain has no work of its own: the node obeys its key in etcd, and the owner keys say how far it has come.
What Postgres has is the operator's wish. Any router brings etcd in line with the wish and notes the end,
again and again until the job has ended, so it matters to no job which router is there.
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
from mesh_core.database import Database
from mesh_core.database.requests import Method, claim_request
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
from mesh_router.fleet.occupancy import Occupancy
from mesh_router.jobs import queries
from mesh_router.jobs.queries import Connection
from mesh_router.jobs.rows import Progress
from mesh_router.postgres import AWAY
from mesh_router.requests import NO_TENANT, digest_of
from sessionmesh.v1 import fleet_pb2, job_pb2

logger = structlog.get_logger(__name__)

GONE_SECONDS = 15.0
"""A node that left while it drained may be back, and must drain on; after so long it is gone for good."""
BUSY_SECONDS, IDLE_SECONDS = 0.25, 1.0


@dataclass(frozen=True, slots=True)
class _Step:
    """How a job stands after a look at etcd."""

    state: job_pb2.JobState.ValueType
    progress: Progress
    error: bytes | None = None


class Drains:
    """Starts, ends and looks after drains; `run` must run in every router."""

    def __init__(
        self, database: Database, etcd: Etcd, cluster: str, view: OwnerView, occupancy: Occupancy
    ) -> None:
        self._database = database
        self._etcd = etcd
        self._cluster = cluster
        self._view = view
        self._occupancy = occupancy
        self._missing: dict[UUID, float] = {}

    async def run(self) -> None:
        """Until it is cancelled."""
        waiting = ""
        while True:
            busy, before, waiting = False, waiting, ""
            try:
                rows = await queries.unfinished(self._database.pool, job_pb2.JOB_KIND_DRAIN_NODE)
                busy = bool(rows)
                for row in rows:
                    await self._settle(row["id"], wait=False)
            except AWAY as error:
                waiting = f"Postgres: {error!r}"
            except (EtcdUnavailable, EtcdRefused) as error:
                waiting = error.message
            if waiting and not before:
                logger.warning("drains wait", reason=waiting)
            await asyncio.sleep(BUSY_SECONDS if busy else IDLE_SECONDS)

    async def start(self, request: fleet_pb2.DrainNodeRequest) -> asyncpg.Record:
        """The job's row; for a node that drains already that drain's.

        Raises `NotFound`, `FailedPrecondition`, and `AlreadyExists` while it drains to another replacement.
        """
        request_id = validation.request_id(request.request_id)
        node_id = validation.required_text("node_id", request.node_id)
        replacement = validation.text("replacement_node_id", request.replacement_node_id)
        if replacement == node_id:
            raise InvalidField("replacement_node_id", "must be another node")
        job = ids.new_uuid()
        async with self._database.pool.acquire() as connection, connection.transaction():
            present = await self._unfinished(connection, node_id)
            claimed = present["id"] if present is not None else job
            first = await claim_request(
                connection, NO_TENANT, Method.DRAIN_NODE, request_id, digest_of(request), claimed
            )
            if first is not None:
                return _found(await queries.get(connection, first), first)
            if present is not None:
                return _same(present, replacement)
            nodes = await registered_nodes(self._etcd, self._cluster)
            check_drain(nodes, node_id, replacement)
            if not request.force:
                self._check_room(nodes, node_id, replacement)
            detail = json.dumps({"replacement": replacement} if replacement else {})
            row = await queries.insert(connection, job, job_pb2.JOB_KIND_DRAIN_NODE, node_id, detail)
        logger.info("drain asked for", node=node_id, replacement=replacement, job=_name(job))
        try:
            return await self.settle(job) or row
        except EtcdUnavailable:  # it is told to the node as soon as etcd is back
            return row

    async def undrain(self, node_id: str) -> NodeInfo:
        """Ends a drain of the node, if there is one, and makes it ACTIVE. Raises `NotFound`."""
        validation.required_text("node_id", node_id)
        async with self._database.pool.acquire() as connection, connection.transaction():
            present = await self._unfinished(connection, node_id)
            if present is not None:
                await queries.ask_to_cancel(connection, present["id"])
        if present is not None:
            await self.settle(present["id"])
        return await set_node_state(self._etcd, self._cluster, node_id, NodeState.ACTIVE)

    async def settle(self, job: UUID) -> asyncpg.Record | None:
        """Brings etcd in line with the job, and the job with etcd; its row then. Raises `EtcdUnavailable`."""
        return await self._settle(job, wait=True)

    def progress(self, row: asyncpg.Record) -> Progress:
        """From the owners as this router sees them: fresher than the row."""
        if row["state"] == job_pb2.JOB_STATE_PENDING:
            return Progress(row["total"], row["done"])
        return _progress(row["total"], self._owned(row["subject"]))

    async def _settle(self, job: UUID, *, wait: bool) -> asyncpg.Record | None:
        lock = queries.wait_lock if wait else queries.lock
        async with self._database.pool.acquire() as connection, connection.transaction():
            row = await lock(connection, job)
            if row is None or row["end_time"] is not None:
                self._missing.pop(job, None)
                return row
            step = await self._step(row)
            if step.state == row["state"]:
                return row
            logger.info(
                "drain",
                node=row["subject"],
                job=_name(job),
                state=job_pb2.JobState.Name(step.state),
                shards=step.progress.total,
            )
            return await queries.change(
                connection, job, step.state, step.progress.total, step.progress.done, step.error
            )

    async def _step(self, row: asyncpg.Record) -> _Step:
        """The row is locked, so that no other router orders the opposite at the same time."""
        node_id, replacement = row["subject"], json.loads(row["detail"]).get("replacement", "")
        owned = self._owned(node_id)
        progress = _progress(row["total"], owned)
        if row["cancel_time"] is not None:
            try:
                await set_node_state(self._etcd, self._cluster, node_id, NodeState.ACTIVE)
            except NotFound:
                logger.info("a node whose drain is cancelled is gone", node=node_id)
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
            return _Step(job_pb2.JOB_STATE_SUCCEEDED, Progress(row["total"], row["total"]))
        return _Step(job_pb2.JOB_STATE_RUNNING, progress)

    async def _without_node(self, row: asyncpg.Record, progress: Progress) -> _Step:
        since = self._missing.setdefault(row["id"], monotonic())
        owned = await count_owned(self._etcd, self._cluster, row["subject"])
        if owned == 0 and monotonic() - since > GONE_SECONDS:
            return _Step(job_pb2.JOB_STATE_SUCCEEDED, Progress(row["total"], row["total"]))
        return _Step(job_pb2.JOB_STATE_RUNNING, progress)

    async def _unfinished(self, connection: Connection, node_id: str) -> asyncpg.Record | None:
        """The node's drain that has not ended; none is begun until the transaction ends."""
        await connection.execute("SELECT pg_advisory_xact_lock(hashtextextended('drain ' || $1, 0))", node_id)
        found = await queries.unfinished(connection, job_pb2.JOB_KIND_DRAIN_NODE, node_id)
        return found[0] if found else None

    def _owned(self, node_id: str) -> int:
        return sum(owner.node_id == node_id for owner in self._view.owners().values())

    def _accounts(self, node_id: str) -> int:
        counted = self._occupancy.by_shard
        return sum(
            counted.get(shard, 0) for shard, owner in self._view.owners().items() if owner.node_id == node_id
        )

    def _check_room(self, nodes: dict[str, NodeInfo], node_id: str, replacement: str) -> None:
        """Raises `FailedPrecondition` NO_CAPACITY when those who stay cannot run all accounts."""
        heirs = {
            name: info.capacity
            for name, info in nodes.items()
            if name == replacement or (info.state is NodeState.ACTIVE and name != node_id)
        }
        left, accounts = sum(heirs.values()), self._occupancy.accounts
        if replacement:
            moving = self._accounts(node_id) + self._accounts(replacement)
            if moving > nodes[replacement].capacity:
                raise FailedPrecondition(
                    f"{replacement} runs {nodes[replacement].capacity} sessions and would get {moving} "
                    "accounts: name another one, or use force",
                    "NO_CAPACITY",
                )
        if accounts > left:
            raise FailedPrecondition(
                f"without {node_id} the fleet runs {left} sessions, and {accounts} accounts want one: "
                "add a node, or use force",
                "NO_CAPACITY",
            )


def _progress(total: int, owned: int) -> Progress:
    return Progress(max(total, owned), max(total, owned) - owned)


def _failed(progress: Progress, error: MeshError) -> _Step:
    return _Step(job_pb2.JOB_STATE_FAILED, progress, details_of(error))


def _same(present: asyncpg.Record, replacement: str) -> asyncpg.Record:
    name, node_id = _name(present["id"]), present["subject"]
    if present["cancel_time"] is not None:
        raise Unavailable(
            f"a drain of {node_id} is just being cancelled", "BACKEND_UNAVAILABLE", retry_after=1.0
        )
    if json.loads(present["detail"]).get("replacement", "") != replacement:
        raise AlreadyExists(
            f"node {node_id} drains already, to another replacement: job {name}",
            "RESOURCE_EXISTS",
            resource="job",
            name=name,
        )
    return present


def _found(row: asyncpg.Record | None, job: UUID) -> asyncpg.Record:
    if row is None:  # a job is kept for longer than a request id
        raise NotFound("job", _name(job))
    return row


def _name(job: UUID) -> str:
    return ids.encode(Prefix.JOB, job)
