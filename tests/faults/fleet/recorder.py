"""Keeps the history of a database while the mesh writes it: triggers, and what they have gathered."""

from __future__ import annotations

from collections.abc import Collection

import asyncpg

from mesh_core.database.requests import Method
from mesh_core.ids import Prefix, decode, encode
from sessionmesh.v1 import message_pb2
from tests.faults.fleet.history import Change, Kind, Outcome

# Row triggers see rows of the journal's batches one by one, in its transaction. `position` orders within it.
TRIGGERS = """
CREATE SCHEMA history;
CREATE TABLE history.change (
  position bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  xid      xid8     NOT NULL DEFAULT pg_current_xact_id(),
  kind     text     NOT NULL,
  shard    smallint,
  account  uuid,
  key      text     NOT NULL DEFAULT '',
  epoch    bigint   NOT NULL DEFAULT 0,
  holder   text     NOT NULL DEFAULT '',
  released boolean  NOT NULL DEFAULT false,
  before   smallint NOT NULL DEFAULT 0,
  status   smallint NOT NULL DEFAULT 0
);

CREATE FUNCTION history.fence() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO history.change (kind, shard, epoch, holder, released)
    VALUES ('fence', NEW.shard, NEW.epoch, coalesce(NEW.holder, ''), NEW.released);
  RETURN NULL;
END $$;
CREATE TRIGGER history AFTER UPDATE ON shard_fence FOR EACH ROW
  WHEN ((OLD.holder, OLD.epoch, OLD.released) IS DISTINCT FROM (NEW.holder, NEW.epoch, NEW.released))
  EXECUTE FUNCTION history.fence();

CREATE FUNCTION history.expired() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO history.change (kind, key) VALUES ('expired', NEW.id);
  RETURN NULL;
END $$;
CREATE TRIGGER history AFTER UPDATE ON node_incarnation FOR EACH ROW
  WHEN (NEW.expired AND NOT OLD.expired) EXECUTE FUNCTION history.expired();

CREATE FUNCTION history.message() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO history.change (kind, account, key, epoch, status)
    VALUES ('message', NEW.account, NEW.id::text, NEW.epoch, NEW.status);
  RETURN NULL;
END $$;
CREATE TRIGGER history_insert AFTER INSERT ON message FOR EACH ROW EXECUTE FUNCTION history.message();

CREATE FUNCTION history.status() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO history.change (kind, account, key, epoch, before, status)
    VALUES ('status', NEW.account, NEW.id::text, NEW.epoch, OLD.status, NEW.status);
  RETURN NULL;
END $$;
CREATE TRIGGER history_update AFTER UPDATE ON message FOR EACH ROW
  WHEN (OLD.status <> NEW.status) EXECUTE FUNCTION history.status();

CREATE FUNCTION history.event() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO history.change (kind, account, key, epoch)
    VALUES ('event', NEW.account, NEW.id::text, NEW.epoch);
  RETURN NULL;
END $$;
CREATE TRIGGER history AFTER INSERT ON event FOR EACH ROW
  WHEN (NEW.epoch > 0) -- the router and the webhook service write some that belong to no tenure
  EXECUTE FUNCTION history.event();

CREATE FUNCTION history.kept() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO history.change (kind, account, key, epoch)
    VALUES (TG_TABLE_NAME, NEW.account, NEW.account::text, NEW.epoch);
  RETURN NULL;
END $$;
CREATE TRIGGER history AFTER INSERT OR UPDATE ON session FOR EACH ROW EXECUTE FUNCTION history.kept();
CREATE TRIGGER history AFTER INSERT OR UPDATE ON credential FOR EACH ROW EXECUTE FUNCTION history.kept();
"""

# An older epoch's last commit comes before the take that follows it, and that before the newer epoch's first
# one: each waits for a lock of the other. Commits of one microsecond are told apart by their numbers.
CHANGES = """
SELECT c.kind, coalesce(c.shard, a.shard, -1), c.key, c.epoch, c.holder, c.released, c.before, c.status
  FROM history.change c LEFT JOIN account a ON a.id = c.account
  ORDER BY pg_xact_commit_timestamp(c.xid::xid), c.xid, c.position
"""


# Changes of one row are written in the order of their commits.
SEIZURES = """
SELECT count(*) FROM (
  SELECT epoch, lag(epoch) OVER one AS before, lag(released) OVER one AS given_back
    FROM history.change WHERE kind = 'fence' WINDOW one AS (PARTITION BY shard ORDER BY position)) AS change
  WHERE epoch > before AND NOT given_back
"""


async def record_history(database: asyncpg.Pool) -> None:
    """From here on, every change is kept. For a migrated database that no mesh uses yet."""
    await database.execute(TRIGGERS)


async def read_changes(database: asyncpg.Pool) -> list[Change]:
    """All changes until now, in the order of their commits."""
    rows = await database.fetch(CHANGES)
    return [Change(Kind(kind), *rest) for kind, *rest in rows]


async def count_seizures(database: asyncpg.Pool) -> int:
    """How often, until now, a shard was taken from a holder that had not released it."""
    return int(await database.fetchval(SEIZURES))


async def read_outcome(database: asyncpg.Pool, accounts: Collection[str]) -> Outcome:
    """Requests, outbound messages and outbox of `accounts`, by the ids that callers know."""
    uuids = {decode(Prefix.ACCOUNT, account, "account"): account for account in accounts}
    requests = await database.fetch(
        "SELECT scope, request_id, result FROM request WHERE scope = ANY ($1) AND method = $2",
        list(uuids),
        Method.SEND_MESSAGE,
    )
    messages = await database.fetch(
        "SELECT id, status FROM message WHERE account = ANY ($1) AND direction = $2",
        list(uuids),
        message_pb2.DIRECTION_OUTBOUND,
    )
    outbox = await database.fetch("SELECT message FROM outbox WHERE account = ANY ($1)", list(uuids))
    return Outcome(
        {(uuids[row["scope"]], row["request_id"]): _message(row["result"]) for row in requests},
        {_message(row["id"]): row["status"] for row in messages},
        [_message(row["message"]) for row in outbox],
    )


def _message(uuid: object) -> str:
    return encode(Prefix.MESSAGE, uuid)  # type: ignore[arg-type] # asyncpg's rows are untyped
