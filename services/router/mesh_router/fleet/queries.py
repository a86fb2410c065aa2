"""Counts of accounts and sessions."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

from mesh_core.database import Database
from mesh_core.database.requests import Method
from sessionmesh.v1 import session_pb2


@dataclass(frozen=True, slots=True)
class Counts:
    """`accounts` by shard, of those that want a session; `sessions` by shard and state."""

    accounts: dict[int, int] = field(default_factory=dict)
    sessions: dict[int, dict[session_pb2.SessionState.ValueType, int]] = field(default_factory=dict)

    def accounts_of(self, shards: set[int]) -> int:
        """Accounts of these shards."""
        return sum(self.accounts.get(shard, 0) for shard in shards)

    def sessions_of(self, shards: set[int]) -> list[session_pb2.SessionStateCount]:
        """Sessions of these shards by state; states without sessions are left out."""
        totals: dict[session_pb2.SessionState.ValueType, int] = defaultdict(int)
        for shard in shards:
            for state, count in self.sessions.get(shard, {}).items():
                totals[state] += count
        return [
            session_pb2.SessionStateCount(state=state, count=count) for state, count in sorted(totals.items())
        ]


async def counts(database: Database) -> Counts:
    """The counts at this moment."""
    rows = await database.pool.fetch(_COUNTS)
    accounts: dict[int, int] = defaultdict(int)
    sessions: dict[int, dict[session_pb2.SessionState.ValueType, int]] = defaultdict(dict)
    for row in rows:
        if row["wanted"]:
            accounts[row["shard"]] += row["wanted"]
        sessions[row["shard"]][row["state"]] = row["count"]
    return Counts(accounts, sessions)


async def wanted(database: Database) -> dict[int, int]:
    """Accounts that want a session, by shard: cheap, by an index alone."""
    rows = await database.pool.fetch(_WANTED)
    return {row["shard"]: row["count"] for row in rows}


async def messages_per_second(database: Database) -> float:
    """Sends accepted in the last ten minutes, per second, by the request ids that they left."""
    return float(await database.pool.fetchval(_SENDS, Method.SEND_MESSAGE)) / 600


_WANTED = """SELECT shard, count(*) AS count FROM account
  WHERE delete_time IS NULL AND desired_state = 1 GROUP BY shard"""
_SENDS = "SELECT count(*) FROM request WHERE created_at >= now() - interval '10 minutes' AND method = $1"
# A session that its node has not stored yet is NEW.
_COUNTS = """
SELECT a.shard, coalesce(s.state, 1) AS state, count(*) AS count,
       count(*) FILTER (WHERE a.desired_state = 1) AS wanted
FROM account a LEFT JOIN session s ON s.account = a.id
WHERE a.delete_time IS NULL GROUP BY 1, 2
"""
