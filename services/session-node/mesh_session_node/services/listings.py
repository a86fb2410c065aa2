"""Listings over all nodes, from Postgres."""

from __future__ import annotations

from asyncpg import Record

from mesh_core.ids import Prefix, encode
from mesh_core.validation import to_timestamp
from sessionmesh.v1 import session_pb2 as pb

SESSIONS = """
SELECT a.id, a.tenant, a.phone AS account_phone, coalesce(s.state, 1) AS state, s.cause, s.detail, s.phone,
       s.network_user_id, s.push_name, s.paired, s.node, s.epoch, s.recent_failures, s.sent, s.received,
       s.failed, s.connects, s.connect_time, s.last_heard_time, s.next_connect_time, s.update_time, (SELECT
       count(*) FROM outbox o WHERE o.shard = a.shard AND o.account = a.id) AS queued
FROM account a LEFT JOIN session s ON s.account = a.id
WHERE a.delete_time IS NULL AND ($1::uuid IS NULL OR a.tenant = $1) AND ($2::uuid IS NULL OR a.id > $2)
  AND ($3::int[] IS NULL OR coalesce(s.state, 1) = ANY ($3)) AND ($4::text IS NULL OR s.node = $4)
ORDER BY a.id LIMIT $5
"""
COUNTS = """
SELECT coalesce(s.state, 1) AS state, count(*) AS count
FROM account a LEFT JOIN session s ON s.account = a.id
WHERE a.delete_time IS NULL AND ($1::uuid IS NULL OR a.tenant = $1) GROUP BY 1 ORDER BY 1
"""
DISCONNECTS = """
SELECT id, cause, detail, node, connect_time, disconnect_time FROM disconnect
WHERE account = $1 AND ($2::uuid IS NULL OR id < $2) ORDER BY id DESC LIMIT $3
"""


def session_of_row(row: Record) -> pb.Session:
    """A session as last stored; one that its owner has not stored yet is NEW."""
    session = pb.Session(
        account_id=encode(Prefix.ACCOUNT, row["id"]),
        tenant_id=encode(Prefix.TENANT, row["tenant"]),
        state=row["state"],
        phone=row["phone"] or row["account_phone"],
        counters=pb.SessionCounters(queued=row["queued"]),
    )
    if row["node"] is None:
        return session
    session.cause, session.detail = row["cause"], row["detail"]
    session.network_user_id, session.push_name = row["network_user_id"], row["push_name"]
    session.paired, session.node_id, session.epoch = row["paired"], row["node"], row["epoch"]
    session.recent_failures = row["recent_failures"]
    counters = session.counters
    counters.sent, counters.received = row["sent"], row["received"]
    counters.failed, counters.connects = row["failed"], row["connects"]
    for field in ("connect_time", "last_heard_time", "next_connect_time", "update_time"):
        if row[field] is not None:
            getattr(session, field).CopyFrom(to_timestamp(row[field]))
    return session
