"""Counts of accounts, sessions and messages in Postgres."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

from mesh_core.database import Database
from mesh_core.database.requests import Method
from sessionmesh.v1 import account_pb2, session_pb2


@dataclass(frozen=True, slots=True)
class Counts:
    """`accounts` that want a session, by shard; `sessions`, by shard and state."""

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


async def wanted_by_shard(database: Database) -> dict[int, int]:
    """The number of accounts that want a session, by shard. Cheap: it reads an index only."""
    rows = await database.pool.fetch(_WANTED)
    return {row["shard"]: row["count"] for row in rows}


async def messages_per_second(database: Database) -> float:
    """Messages accepted per second, the mean of the last ten minutes, from the request ids that they left."""
    return float(await database.pool.fetchval(_SENDS, Method.SEND_MESSAGE)) / 600


# Constants, not arguments: only then Postgres can use its index of accounts that are ONLINE.
_ONLINE = int(account_pb2.DESIRED_STATE_ONLINE)
_NEW = int(session_pb2.SESSION_STATE_NEW)
_WANTED = f"""SELECT shard, count(*) AS count FROM account
  WHERE delete_time IS NULL AND desired_state = {_ONLINE} GROUP BY shard"""  # noqa: S608 - a number of ours
_SENDS = "SELECT count(*) FROM request WHERE created_at >= now() - interval '10 minutes' AND method = $1"
# An account without a stored session is NEW.
_COUNTS = f"""
SELECT a.shard, coalesce(s.state, {_NEW}) AS state, count(*) AS count,
       count(*) FILTER (WHERE a.desired_state = {_ONLINE}) AS wanted
FROM account a LEFT JOIN session s ON s.account = a.id
WHERE a.delete_time IS NULL GROUP BY 1, 2
"""  # noqa: S608 - numbers of ours
