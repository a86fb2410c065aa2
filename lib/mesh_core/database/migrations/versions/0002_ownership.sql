-- Who owns a shard, as Postgres sees it. Needs PostgreSQL 17 (transaction_timeout). One cluster per database.
-- Lock order everywhere: shard_fence (by shard), node_incarnation (by id), data. Keeping it is why nothing deadlocks, and why
-- nothing but these functions (and the journal, for shards it gives back) may write shard_fence.

CREATE TABLE node_incarnation (                -- one row per start of a session-node's process
  id       text PRIMARY KEY,
  node     text NOT NULL,
  address  text NOT NULL,
  beat_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
  expired  boolean NOT NULL DEFAULT false      -- never goes back: a node judged dead starts again under a new id
) WITH (fillfactor = 50);

CREATE TABLE shard_fence (
  shard        smallint PRIMARY KEY,
  holder       text,                           -- incarnation; null before the first owner
  epoch        bigint NOT NULL DEFAULT 0,      -- rises by one with each tenure
  released     boolean NOT NULL DEFAULT false, -- the holder gave it back: its writes no longer match
  claim_no     bigint NOT NULL DEFAULT 0,      -- of the holder's take: tells its resends and late requests from new ones
  wanted_until timestamptz                     -- another node waits for it, and said so recently
) WITH (fillfactor = 50);
CREATE INDEX shard_fence_wanted ON shard_fence (holder) WHERE wanted_until IS NOT NULL;
INSERT INTO shard_fence (shard) SELECT generate_series(0, 4095);

-- "I live", and the shards of mine that somebody waits for. A plain UPDATE (NO KEY UPDATE) passes a running batch, which holds KEY
-- SHARE, and waits for a judge, who holds UPDATE.
CREATE FUNCTION beat(me text) RETURNS TABLE (shard smallint, epoch bigint) LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
  UPDATE node_incarnation SET beat_at = clock_timestamp() WHERE id = me AND NOT expired;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'incarnation % has expired', me USING ERRCODE = 'SM001';
  END IF;
  RETURN QUERY SELECT shard, epoch FROM shard_fence
    WHERE holder = me AND NOT released AND wanted_until > clock_timestamp() ORDER BY shard;
END $$;

-- Take shards over; `claims[i]` is the claim number of `wanted[i]`. outcome:
--   taken  it is mine at `epoch` (also the answer to a resend with the same claim number)
--   wait   `holder` lives (its node and address are told): asked to release, ask again within `patience`
--   stale  a newer request of mine overtook this one
-- `dead` are incarnations known to be reaped; any other is judged by its beat. Must be a transaction by itself.
CREATE FUNCTION take_shards(wanted smallint[], claims bigint[], me text, dead text[], ttl interval, patience interval)
RETURNS TABLE (shard smallint, epoch bigint, outcome text, holder text, node text, address text) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE judged text[]; oldest_beat timestamptz;
BEGIN
  PERFORM FROM shard_fence WHERE shard = ANY (wanted) ORDER BY shard FOR NO KEY UPDATE;
  oldest_beat := clock_timestamp() - ttl;      -- not now(): the call may have waited for locks
  -- Waits for the last batch of a dying node, and looks again after the wait. FOR UPDATE: a weaker lock passes KEY SHARE.
  judged := ARRAY(
    SELECT n.id FROM node_incarnation n
      WHERE n.id IN (SELECT holder FROM shard_fence WHERE shard = ANY (wanted) AND holder <> me AND NOT released)
        AND NOT n.expired AND (n.id = ANY (dead) OR n.beat_at < oldest_beat)
      ORDER BY n.id FOR UPDATE);
  UPDATE node_incarnation SET expired = true WHERE id = ANY (judged);
  IF NOT EXISTS (SELECT FROM node_incarnation WHERE id = me AND NOT expired) THEN
    RAISE EXCEPTION 'incarnation % has expired', me USING ERRCODE = 'SM001';
  END IF;
  UPDATE shard_fence f SET wanted_until = clock_timestamp() + 2 * patience
    WHERE f.shard = ANY (wanted) AND f.holder <> me AND NOT f.released
      AND (f.wanted_until > clock_timestamp() + patience) IS NOT TRUE    -- pollers must not churn the rows
      AND EXISTS (SELECT FROM node_incarnation n WHERE n.id = f.holder AND NOT n.expired);
  RETURN QUERY
    WITH asked AS MATERIALIZED (SELECT a.shard, a.claim FROM unnest(wanted, claims) AS a(shard, claim)),
    taken AS (
      UPDATE shard_fence f
        SET holder = me, epoch = f.epoch + 1, released = false, claim_no = a.claim, wanted_until = NULL
        FROM asked a
        WHERE f.shard = a.shard
          AND CASE WHEN f.holder IS NULL THEN true
                   WHEN f.holder = me THEN a.claim > f.claim_no
                   ELSE f.released OR NOT EXISTS (SELECT FROM node_incarnation n WHERE n.id = f.holder AND NOT n.expired)
              END
        RETURNING f.shard, f.epoch)
    SELECT t.shard, t.epoch, 'taken', me, NULL, NULL FROM taken t
    UNION ALL
    SELECT f.shard, f.epoch,
           CASE WHEN f.holder <> me THEN 'wait' WHEN f.claim_no = a.claim AND NOT f.released THEN 'taken' ELSE 'stale' END,
           f.holder, n.node, n.address
      FROM asked a JOIN shard_fence f ON f.shard = a.shard LEFT JOIN node_incarnation n ON n.id = f.holder
      WHERE NOT EXISTS (SELECT FROM taken t WHERE t.shard = f.shard);
END $$;

-- Give shards back that I hold at these epochs; for a node with nothing left to flush (the journal's last batch releases by itself).
-- Returns how many were mine.
CREATE FUNCTION release_shards(given smallint[], epochs bigint[], me text) RETURNS int LANGUAGE plpgsql AS $$
DECLARE n int;
BEGIN
  PERFORM FROM shard_fence WHERE shard = ANY (given) ORDER BY shard FOR NO KEY UPDATE;
  PERFORM FROM node_incarnation WHERE id = me FOR UPDATE;   -- waits for a batch of mine that still runs
  UPDATE shard_fence f SET released = true, wanted_until = NULL
    FROM unnest(given, epochs) AS g(shard, epoch)
    WHERE f.shard = g.shard AND f.epoch = g.epoch AND f.holder = me AND NOT f.released;
  GET DIAGNOSTICS n = ROW_COUNT;
  RETURN n;
END $$;
