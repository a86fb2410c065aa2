"""Jobs that fetch the past of chats, as Postgres has them. How far one is, its account's owner stores with
what it has fetched: `JobStep`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import msgspec
from asyncpg import Record
from asyncpg.pgproto.pgproto import UUID

from mesh_core.database import Database
from mesh_core.database.requests import Method, claim_request
from mesh_core.errors import ResourceExhausted
from mesh_core.ids import new_uuid
from mesh_core.jobs import traces
from sessionmesh.v1 import job_pb2

MAX_UNFINISHED = 10
"""Of one account."""
MAX_OF_A_TENANT = 1_000
"""Unfinished jobs of a tenant's accounts."""


class HistoryPlan(msgspec.Struct, frozen=True, omit_defaults=True):
    """How far a job is. `chat` is the one whose past is fetched, from before the message with `network_id`,
    which `sender` wrote ("": the account), or from before `time`, in microseconds since the epoch. `behind`:
    of all chats, those are left that stand behind this one, by address: what comes meanwhile moves none.
    `silent` counts how often the phone has not answered, one time after the other.
    """

    chat: str = ""
    network_id: str = ""
    sender: str = ""
    time: int = 0
    begun: bool = False
    all_chats: bool = False
    behind: str = ""
    silent: int = 0

    @property
    def text(self) -> str:
        """What `plan_of` reads."""
        return msgspec.json.encode(self).decode()


class HistoryJobs:
    """Raises what `mesh_core.database.UNAVAILABLE` names."""

    def __init__(self, database: Database) -> None:
        self._pool = database.pool
        self._callers = database.callers

    async def begin(
        self,
        tenant: UUID,
        account: UUID,
        shard: int,
        request_id: str,
        digest: bytes,
        plan: HistoryPlan,
        most: int,
    ) -> Record:
        """A new job for `most` messages, or the one that the same request began. Raises `AlreadyExists`
        REQUEST_ID_REUSED, `ResourceExhausted` QUOTA_EXCEEDED.
        """
        async with self._callers.of(tenant).transaction() as connection:
            job = new_uuid()
            method = Method.SYNC_HISTORY
            first = await claim_request(connection, account, method, request_id, digest, job)
            if first is not None:
                row = await connection.fetchrow("SELECT * FROM job WHERE id = $1", first)
            else:
                _check_room(await connection.fetchrow(_COUNT, account, _KIND, tenant))
                row = await connection.fetchrow(
                    _BEGIN, job, tenant, account, shard, _KIND, plan.chat, plan.text, most
                )
                traces.record_asked(job, _KIND)
            assert row is not None  # noqa: S101 - it was inserted, and jobs outlive request ids
            return row

    async def unfinished(self, shards: Collection[int]) -> list[Record]:
        """Accounts of these shards with a job that has not ended: `account`, `id` of the oldest."""
        return await self._pool.fetch(_UNFINISHED, _KIND, [*shards])

    async def job(self, job: UUID) -> Record | None:
        """A job that has not ended; None: it has."""
        return await self._pool.fetchrow("SELECT * FROM job WHERE id = $1 AND end_time IS NULL", job)

    async def end_unwanted(self, shards: Collection[int]) -> None:
        """Ends those of these shards' accounts that are to be cancelled, whether they are connected or not,
        and those of accounts that are gone.
        """
        await self._pool.execute(_END_UNWANTED, _KIND, job_pb2.JOB_STATE_CANCELLED, [*shards])

    async def known(self, account: UUID, network_ids: Sequence[str]) -> set[str]:
        """Which of these messages are stored, by the network's ids."""
        rows = await self._pool.fetch(_KNOWN, account, network_ids)
        return {row["network_id"] for row in rows}


def _check_room(unfinished: Record | None) -> None:
    if unfinished is None:
        return
    words = ""
    if unfinished["of_account"] >= MAX_UNFINISHED:
        words = f"the account has {MAX_UNFINISHED} of these jobs under way"
    elif unfinished["of_tenant"] >= MAX_OF_A_TENANT:
        words = f"the tenant has {MAX_OF_A_TENANT:,} of these jobs under way"
    if words:
        raise ResourceExhausted(words, "QUOTA_EXCEEDED", quota="history_jobs", retry_after=60.0)


def plan_of(row: Record) -> HistoryPlan:
    """How far a job is. Raises `msgspec.DecodeError`."""
    return msgspec.json.decode(row["detail"], type=HistoryPlan)


_KIND = job_pb2.JOB_KIND_SYNC_HISTORY
_COUNT = """SELECT count(*) AS of_tenant, count(*) FILTER (WHERE account = $1) AS of_account FROM job
  WHERE kind = $2 AND coalesce(tenant, '00000000-0000-0000-0000-000000000000') = $3 AND end_time IS NULL"""
_UNFINISHED = """SELECT DISTINCT ON (account) account, id FROM job
  WHERE kind = $1 AND shard = ANY ($2) AND end_time IS NULL ORDER BY account, id"""
_BEGIN = """INSERT INTO job (id, tenant, account, shard, kind, subject, detail, total)
  VALUES ($1, $2, $3, $4, $5, $6, $7::jsonb, $8) RETURNING *"""
_END_UNWANTED = """UPDATE job j SET state = $2, detail = '{}', end_time = now(), update_time = now(),
    subject = CASE WHEN EXISTS (SELECT FROM account a WHERE a.id = j.account) THEN subject ELSE '' END
  WHERE kind = $1 AND shard = ANY ($3) AND end_time IS NULL
    AND (cancel_time IS NOT NULL OR NOT EXISTS (SELECT FROM account a WHERE a.id = j.account))"""
_KNOWN = "SELECT network_id FROM network_message WHERE account = $1 AND network_id = ANY ($2)"
