-- Old data goes: when it was last done, how far each shorter tenant is swept, and the indexes that make finding it cheap.

CREATE TABLE retention_run (                    -- of the one router that does it at a time
  single       boolean     PRIMARY KEY DEFAULT true CHECK (single),
  start_time   timestamptz,                     -- of the last run; null: none yet
  success_time timestamptz NOT NULL DEFAULT now(),
  failure      text        NOT NULL DEFAULT ''  -- of the last run; empty: it did all of its work
);
INSERT INTO retention_run DEFAULT VALUES;

-- Tenants that keep bodies and events for less time than partitions stand. Events of theirs up to (xid, seq) were deleted: a cursor
-- before it has missed some.
CREATE TABLE tenant_sweep (
  tenant      uuid        PRIMARY KEY,          -- no reference: it must not hold up who deletes the tenant
  swept_until timestamptz NOT NULL,             -- what was stored before is done
  xid         xid8        NOT NULL DEFAULT '0',
  seq         int         NOT NULL DEFAULT 0
);

-- Events are stored in the order of their ids, nearly: an hour of them is a few pages.
CREATE INDEX ON event USING brin (id) WITH (pages_per_range = 32, autosummarize = on);
CREATE INDEX ON disconnect USING brin (disconnect_time);
CREATE INDEX ON media_fetch (account);

-- A tenant is deleted once.
CREATE UNIQUE INDEX job_one_deletion_per_tenant ON job (subject) WHERE kind = 8 AND end_time IS NULL;
