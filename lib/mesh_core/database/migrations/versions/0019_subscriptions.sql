-- Named subscriptions, whose consumers share the accounts of a tenant; and replays, which come after what is new.

-- Subscriptions ---------------------------------------------------------------------------------------------------------

-- A place in the order of events as bytes in the same order: what a cursor is made of.
CREATE FUNCTION event_place(generation int, xid xid8, seq int) RETURNS bytea LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
  SELECT '\x01'::bytea || int4send(generation) || int8send(xid::text::bigint) || int4send(seq)
$$;

CREATE TABLE subscription (
  id          uuid        PRIMARY KEY,
  tenant      uuid        NOT NULL REFERENCES tenant ON DELETE CASCADE,
  name        text        NOT NULL,
  event_types text[]      NOT NULL,                   -- empty: all
  account_ids uuid[]      NOT NULL,                   -- empty: all
  labels      jsonb       NOT NULL,
  create_time timestamptz NOT NULL DEFAULT now(),
  expire_time timestamptz,                            -- when it lost its place
  UNIQUE (tenant, name)
);

-- One open stream of a subscription. Only the process that serves it changes `sent`; while the row is there, its lanes are its own.
CREATE TABLE subscription_consumer (
  id           uuid        PRIMARY KEY,
  subscription uuid        NOT NULL REFERENCES subscription ON DELETE CASCADE,
  origin       uuid        NOT NULL,                  -- the id that its stream began with: the order in which they came
  sent         bytea       NOT NULL DEFAULT '',       -- the place of the last event that it was sent
  done         bytea       NOT NULL DEFAULT '',       -- everything of its lanes up to here is acknowledged, or is nothing for it
  lapse_at     timestamptz NOT NULL                   -- then anybody may end it
) WITH (fillfactor = 50);
CREATE INDEX ON subscription_consumer (subscription);

-- The accounts of a subscription in 32 parts, each of which one consumer has at a time.
CREATE TABLE subscription_lane (
  subscription uuid     NOT NULL REFERENCES subscription ON DELETE CASCADE,
  lane         smallint NOT NULL,
  place        bytea    NOT NULL,                     -- where the next consumer begins; its holder may be further
  holder       uuid,
  PRIMARY KEY (subscription, lane)
) WITH (fillfactor = 50);

-- How many lanes a consumer should have: as many as the others, those that came first one more.
CREATE FUNCTION subscription_share(consumer uuid) RETURNS int LANGUAGE sql STABLE AS $$
  SELECT 32 / c.fellows + (c.number <= 32 % c.fellows)::int
    FROM (SELECT id, row_number() OVER (ORDER BY origin) AS number, count(*) OVER () AS fellows FROM subscription_consumer
      WHERE subscription = (SELECT s.subscription FROM subscription_consumer s WHERE s.id = consumer)) AS c
    WHERE c.id = consumer
$$;

-- All that changes who has which lane locks the subscription first.

-- Adds a consumer and gives it its share of the lanes that are free; or has it follow `former`, of the same stream, which has
-- nothing that waits to be acknowledged: then it keeps what is its share of those. Answers
--   joined
--   gone   there is no such subscription, or it has lost its place
--   full   there are `most` consumers
--   lost   there is no `former` any more
CREATE FUNCTION subscription_join(subscription_ uuid, consumer uuid, former uuid, lease interval, most int)
RETURNS text LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE before record; share int;
BEGIN
  PERFORM FROM subscription WHERE id = subscription_ AND expire_time IS NULL FOR UPDATE;
  IF NOT FOUND THEN
    RETURN 'gone';
  END IF;
  IF former IS NOT NULL THEN
    SELECT origin, done INTO before FROM subscription_consumer WHERE id = former FOR UPDATE;
    IF NOT FOUND THEN
      RETURN 'lost';
    END IF;
    UPDATE subscription_lane SET place = greatest(place, before.done) WHERE subscription = subscription_ AND holder = former;
    DELETE FROM subscription_consumer WHERE id = former;
    INSERT INTO subscription_consumer (id, subscription, origin, lapse_at)
      VALUES (consumer, subscription_, before.origin, clock_timestamp() + lease);
  ELSIF (SELECT count(*) FROM subscription_consumer WHERE subscription = subscription_) >= most THEN
    RETURN 'full';
  ELSE
    INSERT INTO subscription_consumer (id, subscription, origin, lapse_at)
      VALUES (consumer, subscription_, consumer, clock_timestamp() + lease);
  END IF;
  share := subscription_share(consumer);
  UPDATE subscription_lane l SET holder = CASE WHEN free.number <= share THEN consumer END
    FROM (SELECT lane, row_number() OVER (ORDER BY holder IS NULL, lane) AS number FROM subscription_lane
      WHERE subscription = subscription_ AND (holder IS NULL OR holder = former)) AS free
    WHERE l.subscription = subscription_ AND l.lane = free.lane;
  RETURN 'joined';
END $$;

-- Ends a consumer, or with `lapsed` one whose time is over: its lanes are free, from what it acknowledged on. A time that is further
-- away than a lease is of a clock that was set back.
CREATE FUNCTION subscription_leave(consumer uuid, lapsed boolean, lease interval) RETURNS boolean LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE acknowledged bytea;
BEGIN
  PERFORM FROM subscription WHERE id = (SELECT subscription FROM subscription_consumer WHERE id = consumer) FOR UPDATE;
  DELETE FROM subscription_consumer WHERE id = consumer
    AND (NOT lapsed OR lapse_at NOT BETWEEN clock_timestamp() AND clock_timestamp() + 2 * lease)
    RETURNING done INTO acknowledged;
  IF NOT FOUND THEN
    RETURN false;
  END IF;
  UPDATE subscription_lane SET place = greatest(place, acknowledged), holder = NULL WHERE holder = consumer;
  RETURN true;
END $$;

-- Replays ---------------------------------------------------------------------------------------------------------------

ALTER TABLE webhook_delivery ADD COLUMN replay uuid;  -- the job that made it pending again
CREATE INDEX webhook_delivery_replay ON webhook_delivery (endpoint, due_at) WHERE state = 1 AND replay IS NOT NULL;

-- Makes deliveries of events pending again, or for the first time, and returns how many; none of what waits already. Null: an event
-- is no more what it was when it was read. `e_...` are events in their order.
-- Lock order as for completions: deliveries by id, then the queue.
CREATE FUNCTION webhook_replay(
  job_ uuid, endpoint_ uuid, tenant_ uuid, failed_only boolean, d_id uuid[],
  e_id uuid[], e_xid xid8[], e_seq int[], e_size int[], e_account uuid[], e_type text[], e_body bytea[], e_trace text[])
RETURNS int LANGUAGE plpgsql
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
AS $$
DECLARE instant timestamptz := clock_timestamp(); again int; made int := 0;
BEGIN
  IF EXISTS (SELECT FROM unnest(e_xid, e_seq, e_id, e_size) AS r(xid, seq, id, size)
      WHERE (SELECT octet_length(e.body) FROM event e WHERE e.xid = r.xid AND e.seq = r.seq AND e.id = r.id)
        IS DISTINCT FROM r.size) THEN
    RETURN NULL;
  END IF;
  PERFORM FROM webhook_delivery d WHERE d.endpoint = endpoint_ AND d.event = ANY (e_id) ORDER BY d.id FOR UPDATE;
  UPDATE webhook_delivery d SET state = 1, tries = 0, token = NULL, end_time = NULL, replay = job_,
      due_at = instant + e.n * interval '1 microsecond'
    FROM unnest(e_id) WITH ORDINALITY AS e(id, n)
    WHERE d.endpoint = endpoint_ AND d.event = e.id AND d.state <> 1 AND (d.state = 3 OR NOT failed_only);
  GET DIAGNOSTICS again = ROW_COUNT;
  IF NOT failed_only THEN
    INSERT INTO webhook_delivery (id, endpoint, tenant, account, event, event_type, body, traceparent, replay, due_at)
      SELECT d_id[e.n], endpoint_, tenant_, e_account[e.n], e.id, e_type[e.n], e_body[e.n], e_trace[e.n], job_,
          instant + e.n * interval '1 microsecond'
        FROM unnest(e_id) WITH ORDINALITY AS e(id, n)
      ON CONFLICT (endpoint, event) DO NOTHING;
    GET DIAGNOSTICS made = ROW_COUNT;
  END IF;
  IF again > 0 THEN                                   -- what is inserted is queued by a trigger
    INSERT INTO webhook_queue AS q (endpoint, tenant, due_at, awake) VALUES (endpoint_, tenant_, instant, true)
      ON CONFLICT (endpoint) DO UPDATE SET due_at = least(q.due_at, excluded.due_at), awake = true;
  END IF;
  IF again + made > 0 THEN
    PERFORM pg_notify('webhook_deliveries', '');
  END IF;
  RETURN again + made;
END $$;

-- As webhook_take, which the release before goes on with: but replays come last, whenever they are due, and count as retries.
CREATE FUNCTION webhook_claim_due(claim uuid, lease interval, endpoints uuid[], rooms int[], retry_rooms int[])
RETURNS TABLE (
  id uuid, endpoint uuid, tenant uuid, event uuid, event_type text, tries int, body bytea, traceparent text, create_time timestamptz,
  replay uuid, endpoint_version bigint)
LANGUAGE plpgsql
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off
AS $$
#variable_conflict use_column
DECLARE one record; picked uuid; room int; wait timestamptz; next timestamptz; paced timestamptz; taken int; instant timestamptz := clock_timestamp();
BEGIN
  FOR i IN 1 .. cardinality(endpoints) LOOP
    PERFORM FROM webhook_queue q WHERE q.endpoint = endpoints[i] FOR UPDATE SKIP LOCKED;
    CONTINUE WHEN NOT FOUND;
    SELECT e.version, e.state, e.rate_per_second AS rate, h.hold_until, h.endpoint AS health INTO one
      FROM webhook_endpoint e LEFT JOIN webhook_health h ON h.endpoint = e.id WHERE e.id = endpoints[i];
    IF NOT FOUND THEN
      DELETE FROM webhook_queue q WHERE q.endpoint = endpoints[i];
      CONTINUE;
    END IF;
    room := rooms[i];
    wait := CASE WHEN one.state <> 1 THEN 'infinity' WHEN one.hold_until > instant THEN one.hold_until END;
    IF wait IS NULL AND one.rate > 0 THEN             -- a bucket of one second's worth
      SELECT greatest(h.paced_until, instant) INTO paced FROM webhook_health h WHERE h.endpoint = endpoints[i] FOR UPDATE SKIP LOCKED;
      CONTINUE WHEN NOT FOUND AND one.health IS NOT NULL;
      room := least(room, floor(extract(epoch FROM instant + interval '1 second' - paced) * one.rate)::int);
      IF room <= 0 THEN
        wait := paced - interval '1 second' + interval '1 second' / one.rate;
      END IF;
    END IF;
    IF wait IS NOT NULL THEN
      UPDATE webhook_queue q SET due_at = wait, awake = false WHERE q.endpoint = endpoints[i];
      CONTINUE;
    END IF;
    taken := 0;
    FOR picked IN
      SELECT x.id FROM (
          (SELECT f.id, f.due_at, false AS replayed FROM (
            SELECT w.id, w.due_at FROM webhook_delivery w
              WHERE w.state = 1 AND w.tries = 0 AND w.endpoint = endpoints[i] AND w.due_at <= instant AND w.replay IS NULL
              ORDER BY w.due_at LIMIT room FOR UPDATE SKIP LOCKED) AS f)
          UNION ALL
          (SELECT y.id, y.due_at, y.replayed FROM (
              (SELECT r.id, r.due_at, false AS replayed FROM (
                SELECT w.id, w.due_at FROM webhook_delivery w
                  WHERE w.state = 1 AND w.tries > 0 AND w.endpoint = endpoints[i] AND w.due_at <= instant AND w.replay IS NULL
                  ORDER BY w.due_at LIMIT least(room, retry_rooms[i]) FOR UPDATE SKIP LOCKED) AS r)
              UNION ALL
              (SELECT p.id, p.due_at, true FROM (
                SELECT w.id, w.due_at FROM webhook_delivery w
                  WHERE w.state = 1 AND w.replay IS NOT NULL AND w.endpoint = endpoints[i] AND w.due_at <= instant
                  ORDER BY w.due_at LIMIT least(room, retry_rooms[i]) FOR UPDATE SKIP LOCKED) AS p)) AS y
            ORDER BY y.replayed, y.due_at LIMIT least(room, retry_rooms[i]))) AS x
        ORDER BY x.replayed, x.due_at LIMIT room
    LOOP
      RETURN QUERY UPDATE webhook_delivery d SET token = claim, due_at = instant + lease WHERE d.id = picked
        RETURNING d.id, d.endpoint, d.tenant, d.event, d.event_type, d.tries, d.body, d.traceparent, d.create_time, d.replay, one.version;
      taken := taken + 1;
    END LOOP;
    IF one.rate > 0 AND taken > 0 THEN
      UPDATE webhook_health h SET paced_until = paced + taken * interval '1 second' / one.rate WHERE h.endpoint = endpoints[i];
    END IF;
    next := least(
      (SELECT w.due_at FROM webhook_delivery w WHERE w.state = 1 AND w.tries = 0 AND w.endpoint = endpoints[i] ORDER BY w.due_at LIMIT 1),
      (SELECT w.due_at FROM webhook_delivery w WHERE w.state = 1 AND w.tries > 0 AND w.endpoint = endpoints[i] ORDER BY w.due_at LIMIT 1));
    IF next IS NULL THEN
      DELETE FROM webhook_queue q WHERE q.endpoint = endpoints[i];
    ELSE
      UPDATE webhook_queue q SET due_at = next, awake = next <= instant
        WHERE q.endpoint = endpoints[i] AND (q.due_at <> next OR q.awake <> (next <= instant));
    END IF;
  END LOOP;
END $$;
