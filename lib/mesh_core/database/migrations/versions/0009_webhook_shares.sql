-- Webhooks: work that is bounded and shared out, so that no tenant's endpoints keep those of others waiting.

-- Endpoints -------------------------------------------------------------------------------------------------------------

-- What changed of a tenant's endpoints, so that who knows them reads again only what is newer.
CREATE TABLE webhook_tenant (
  tenant    uuid   PRIMARY KEY REFERENCES tenant ON DELETE CASCADE,
  revision  bigint NOT NULL,                          -- raised by every change of one of them
  deletions bigint NOT NULL DEFAULT 0                 -- how many were deleted so far
);
ALTER TABLE webhook_endpoint
  ADD COLUMN revision       bigint        NOT NULL DEFAULT 1,     -- the tenant's when it last changed
  ADD COLUMN former_secrets bytea[]       NOT NULL DEFAULT '{}',  -- sealed, the latest first; each signs as well ...
  ADD COLUMN former_until   timestamptz[] NOT NULL DEFAULT '{}';  -- ... until then
CREATE INDEX ON webhook_endpoint (tenant, revision);
INSERT INTO webhook_tenant (tenant, revision) SELECT DISTINCT tenant, 1 FROM webhook_endpoint;

-- Deleted endpoints whose deliveries are still to be cleared away.
CREATE TABLE webhook_leaving (
  endpoint    uuid        PRIMARY KEY,
  delete_time timestamptz NOT NULL DEFAULT now(),
  check_at    timestamptz NOT NULL DEFAULT now()      -- later than delete_time: there was nothing left when it was looked at
);
CREATE INDEX ON webhook_leaving (check_at);
INSERT INTO webhook_leaving (endpoint) SELECT DISTINCT d.endpoint FROM webhook_delivery d
  WHERE d.state = 1 AND NOT EXISTS (SELECT FROM webhook_endpoint e WHERE e.id = d.endpoint);

-- Deliveries ------------------------------------------------------------------------------------------------------------

-- When an endpoint's first pending delivery is due, or is to be looked at again. At or before that: a delivery may have gone.
CREATE TABLE webhook_queue (
  endpoint uuid        PRIMARY KEY,
  tenant   uuid        NOT NULL,
  due_at   timestamptz NOT NULL,
  awake    boolean     NOT NULL                       -- it is due: only these are looked through for what to claim
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.02);
CREATE INDEX ON webhook_queue (tenant, due_at) WHERE awake;
CREATE INDEX ON webhook_queue (due_at) WHERE NOT awake;
INSERT INTO webhook_queue (endpoint, tenant, due_at, awake)
  SELECT endpoint, min(tenant::text)::uuid, min(due_at), false FROM webhook_delivery WHERE state = 1 GROUP BY endpoint;
CREATE INDEX webhook_delivery_first ON webhook_delivery (endpoint, due_at) WHERE state = 1 AND tries = 0;
CREATE INDEX webhook_delivery_retry ON webhook_delivery (endpoint, due_at) WHERE state = 1 AND tries > 0;

CREATE FUNCTION webhook_queue_new() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO webhook_queue AS q (endpoint, tenant, due_at, awake)
    SELECT DISTINCT ON (endpoint) endpoint, tenant, due_at, due_at <= clock_timestamp() FROM made WHERE state = 1 ORDER BY endpoint, due_at
    -- The row is locked even where it stays as it is: a claim that is about to put it to sleep has to see these deliveries.
    ON CONFLICT (endpoint) DO UPDATE SET due_at = EXCLUDED.due_at, awake = EXCLUDED.awake WHERE q.due_at > EXCLUDED.due_at;
  RETURN NULL;
END $$;
CREATE TRIGGER webhook_queue_new AFTER INSERT ON webhook_delivery REFERENCING NEW TABLE AS made
  FOR EACH STATEMENT EXECUTE FUNCTION webhook_queue_new();

-- A trigger, because the release before changes endpoints too, and knows nothing of this; its fan-out looks at webhook_revision.
CREATE FUNCTION webhook_endpoint_changed() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE gone boolean := TG_OP = 'DELETE'; raised bigint;
BEGIN
  INSERT INTO webhook_tenant AS t (tenant, revision, deletions)
    VALUES (CASE WHEN gone THEN OLD.tenant ELSE NEW.tenant END, 1, gone::int)
    ON CONFLICT (tenant) DO UPDATE SET revision = t.revision + 1, deletions = t.deletions + gone::int
    RETURNING revision INTO raised;
  UPDATE webhook_revision SET revision = revision + 1;
  IF gone THEN
    INSERT INTO webhook_leaving (endpoint) VALUES (OLD.id) ON CONFLICT DO NOTHING;
    RETURN OLD;
  END IF;
  IF TG_OP = 'UPDATE' AND NEW.state = 1 AND OLD.state <> 1 THEN
    UPDATE webhook_queue SET due_at = now(), awake = true WHERE endpoint = NEW.id;
  END IF;
  NEW.revision := raised;
  RETURN NEW;
END $$;
CREATE TRIGGER webhook_endpoint_changed BEFORE INSERT OR UPDATE OR DELETE ON webhook_endpoint
  FOR EACH ROW EXECUTE FUNCTION webhook_endpoint_changed();

-- Events whose deliveries the fan-out left to be made in turns, because their tenant had its share of a page.
CREATE TABLE webhook_owed (
  tenant      uuid  NOT NULL,
  xid         xid8  NOT NULL,                         -- the event's position
  seq         int   NOT NULL,
  event       uuid  NOT NULL,
  account     uuid,
  event_type  text  NOT NULL,
  labels      bytea NOT NULL,                         -- JSON, which may have characters that no jsonb can
  body        bytea NOT NULL,
  traceparent text  NOT NULL,
  after       uuid  NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000',  -- endpoints up to this one are done
  PRIMARY KEY (tenant, xid, seq)
);

-- Inserts deliveries and what is owed, and moves the reader; or nothing of all that, when the reader no longer stands at
-- (from_xid, from_seq): another instance moved it, or an earlier call whose answer was lost. `e_...` are events, and
-- d_event and o_event say which of them, from 1.
CREATE FUNCTION webhook_advance(
  reader text, generation_ int, from_xid xid8, from_seq int, to_xid xid8, to_seq int,
  e_id uuid[], e_tenant uuid[], e_account uuid[], e_type text[], e_body bytea[], e_trace text[],
  d_id uuid[], d_endpoint uuid[], d_event int[], o_event int[], o_xid xid8[], o_seq int[], o_labels bytea[])
RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
  PERFORM FROM webhook_reader WHERE name = reader AND generation = generation_ AND xid = from_xid AND seq = from_seq FOR UPDATE;
  IF NOT FOUND THEN
    RETURN false;
  END IF;
  IF d_id <> '{}' THEN
    INSERT INTO webhook_delivery (id, endpoint, tenant, account, event, event_type, body, traceparent)
      SELECT d.id, d.endpoint, e_tenant[d.n], e_account[d.n], e_id[d.n], e_type[d.n], e_body[d.n], e_trace[d.n]
        FROM unnest(d_id, d_endpoint, d_event) AS d(id, endpoint, n)
        WHERE (SELECT true FROM webhook_endpoint w WHERE w.id = d.endpoint)
      ON CONFLICT (endpoint, event) DO NOTHING;
    PERFORM pg_notify('webhook_deliveries', '');
  END IF;
  INSERT INTO webhook_owed (tenant, xid, seq, event, account, event_type, labels, body, traceparent)
    SELECT e_tenant[o.n], o.xid, o.seq, e_id[o.n], e_account[o.n], e_type[o.n], o.labels, e_body[o.n], e_trace[o.n]
      FROM unnest(o_event, o_xid, o_seq, o_labels) AS o(n, xid, seq, labels)
    ON CONFLICT DO NOTHING;
  UPDATE webhook_reader SET xid = to_xid, seq = to_seq, update_time = now() WHERE name = reader;
  RETURN true;
END $$;

-- Makes deliveries of owed events of one tenant; or none, when somebody else is at them, or was. `o_known` is how far each was,
-- o_after how far it then is, null: done.
CREATE FUNCTION webhook_settle(
  tenant_ uuid, o_xid xid8[], o_seq int[], o_known uuid[], o_after uuid[], d_id uuid[], d_endpoint uuid[], d_owed int[])
RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
  -- All of them are locked before one is changed, so that nothing has to be undone.
  FOR i IN 1 .. cardinality(o_xid) LOOP
    PERFORM FROM webhook_owed w WHERE w.tenant = tenant_ AND w.xid = o_xid[i] AND w.seq = o_seq[i] AND w.after = o_known[i]
      FOR UPDATE SKIP LOCKED;
    IF NOT FOUND THEN
      RETURN false;
    END IF;
  END LOOP;
  -- One statement for all, so that the queues are locked by endpoint.
  INSERT INTO webhook_delivery (id, endpoint, tenant, account, event, event_type, body, traceparent)
    SELECT d.id, d.endpoint, w.tenant, w.account, w.event, w.event_type, w.body, w.traceparent
      FROM unnest(d_id, d_endpoint, d_owed) AS d(id, endpoint, n)
        JOIN webhook_owed w ON w.tenant = tenant_ AND w.xid = o_xid[d.n] AND w.seq = o_seq[d.n]
      WHERE (SELECT true FROM webhook_endpoint e WHERE e.id = d.endpoint)
    ON CONFLICT (endpoint, event) DO NOTHING;
  FOR i IN 1 .. cardinality(o_xid) LOOP
    IF o_after[i] IS NULL THEN
      DELETE FROM webhook_owed w WHERE w.tenant = tenant_ AND w.xid = o_xid[i] AND w.seq = o_seq[i];
    ELSE
      UPDATE webhook_owed w SET after = o_after[i] WHERE w.tenant = tenant_ AND w.xid = o_xid[i] AND w.seq = o_seq[i];
    END IF;
  END LOOP;
  IF d_id <> '{}' THEN
    PERFORM pg_notify('webhook_deliveries', '');
  END IF;
  RETURN true;
END $$;

-- Endpoints that have something due: at most `tenants` tenants, in turn after `start`, at most `most` endpoints of each, those
-- first that have been due longest, without what the caller cannot serve. What it costs depends on the tenants that have something
-- due, not on how many endpoints wait.
CREATE FUNCTION webhook_due(start uuid, tenants int, most int, full_tenants uuid[], full_endpoints uuid[])
RETURNS TABLE (tenant uuid, endpoint uuid) LANGUAGE plpgsql
SET enable_seqscan = off SET enable_sort = off
AS $$
#variable_conflict use_column
DECLARE instant timestamptz := clock_timestamp(); at uuid := start; turned boolean := false;
BEGIN
  UPDATE webhook_queue q SET awake = true WHERE q.endpoint = ANY (ARRAY(
    SELECT s.endpoint FROM webhook_queue s WHERE NOT s.awake AND s.due_at <= instant ORDER BY s.due_at LIMIT 200
      FOR UPDATE SKIP LOCKED));
  WHILE tenants > 0 LOOP
    at := (SELECT q.tenant FROM webhook_queue q WHERE q.awake AND q.tenant > at ORDER BY q.tenant LIMIT 1);
    IF at IS NULL AND NOT turned THEN
      turned := true;
      at := (SELECT q.tenant FROM webhook_queue q WHERE q.awake ORDER BY q.tenant LIMIT 1);
    END IF;
    EXIT WHEN at IS NULL OR turned AND at > start;
    CONTINUE WHEN at = ANY (full_tenants);
    RETURN QUERY SELECT q.tenant, q.endpoint FROM webhook_queue q
      WHERE q.awake AND q.tenant = at AND q.endpoint <> ALL (full_endpoints) ORDER BY q.due_at LIMIT most;
    tenants := tenants - 1;
  END LOOP;
END $$;

-- Claims deliveries of endpoints: of each at most as many as it has room for, and of those at most `retry_room` that were tried before.
-- It waits for no lock, whatever the order of the endpoints: an endpoint whose queue or health somebody has locked is left to the
-- next claim, and so is a delivery.
CREATE FUNCTION webhook_take(claim uuid, lease interval, endpoints uuid[], rooms int[], retry_rooms int[])
RETURNS TABLE (
  id uuid, endpoint uuid, tenant uuid, event uuid, event_type text, tries int, body bytea, traceparent text, create_time timestamptz,
  endpoint_version bigint)
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
          (SELECT f.id, f.due_at FROM (
            SELECT w.id, w.due_at FROM webhook_delivery w
              WHERE w.state = 1 AND w.tries = 0 AND w.endpoint = endpoints[i] AND w.due_at <= instant
              ORDER BY w.due_at LIMIT room FOR UPDATE SKIP LOCKED) AS f)
          UNION ALL
          (SELECT r.id, r.due_at FROM (
            SELECT w.id, w.due_at FROM webhook_delivery w
              WHERE w.state = 1 AND w.tries > 0 AND w.endpoint = endpoints[i] AND w.due_at <= instant
              ORDER BY w.due_at LIMIT least(room, retry_rooms[i]) FOR UPDATE SKIP LOCKED) AS r)) AS x
        ORDER BY x.due_at LIMIT room
    LOOP
      RETURN QUERY UPDATE webhook_delivery d SET token = claim, due_at = instant + lease WHERE d.id = picked
        RETURNING d.id, d.endpoint, d.tenant, d.event, d.event_type, d.tries, d.body, d.traceparent, d.create_time, one.version;
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

-- As before, but row by row, and it wakes the queues of what is pending again. A join was planned while little was pending and then
-- went through all that is, of all tenants, for each batch. Lock order: deliveries, which its claim alone changes; webhook_queue by
-- endpoint; webhook_health by endpoint. Others that lock several queues or health rows and wait do it in the same order.
CREATE OR REPLACE FUNCTION webhook_complete(
  c_id uuid[], c_token uuid[], c_state smallint[], c_wait interval[],
  c_attempt uuid[], c_start timestamptz[], c_duration interval[], c_status smallint[], c_error text[], c_body bytea[],
  c_hold interval[])
RETURNS SETOF uuid LANGUAGE plpgsql
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
AS $$
DECLARE
  done record; well uuid[] := '{}'; ill uuid[] := '{}';
  p_endpoint uuid[] := '{}'; p_tenant uuid[] := '{}'; p_due timestamptz[] := '{}';
  h_endpoint uuid[] := '{}'; h_hold interval[] := '{}'; locked uuid[];
BEGIN
  FOR i IN 1 .. cardinality(c_id) LOOP
    -- Not `state = 1`, for which there are indexes of all that is pending.
    UPDATE webhook_delivery d SET state = c_state[i], attempts = d.attempts + 1, tries = d.tries + 1, token = NULL,
        due_at = CASE c_state[i] WHEN 1 THEN now() + c_wait[i] ELSE d.due_at END, last_status = c_status[i],
        last_error = c_error[i], end_time = CASE c_state[i] WHEN 1 THEN NULL ELSE now() END
      WHERE d.id = c_id[i] AND d.token = c_token[i] AND d.state IS NOT DISTINCT FROM 1
      RETURNING d.endpoint, d.tenant, d.attempts, d.due_at INTO done;
    CONTINUE WHEN NOT FOUND;
    INSERT INTO webhook_attempt (id, endpoint, delivery, number, start_time, duration, status, error, response_body)
      VALUES (c_attempt[i], done.endpoint, c_id[i], done.attempts, c_start[i], c_duration[i], c_status[i], c_error[i], c_body[i]);
    IF c_state[i] = 2 THEN
      well := well || done.endpoint;
    ELSE
      ill := ill || done.endpoint;
    END IF;
    IF c_state[i] = 1 THEN
      p_endpoint := p_endpoint || done.endpoint; p_tenant := p_tenant || done.tenant; p_due := p_due || done.due_at;
    END IF;
    IF c_hold[i] IS NOT NULL THEN
      h_endpoint := h_endpoint || done.endpoint; h_hold := h_hold || c_hold[i];
    END IF;
    RETURN NEXT c_id[i];
  END LOOP;
  INSERT INTO webhook_queue AS q (endpoint, tenant, due_at, awake)
    SELECT DISTINCT ON (p.endpoint) p.endpoint, p.tenant, p.due_at, false
      FROM unnest(p_endpoint, p_tenant, p_due) AS p(endpoint, tenant, due_at) ORDER BY p.endpoint, p.due_at
    ON CONFLICT (endpoint) DO UPDATE SET due_at = EXCLUDED.due_at, awake = false WHERE q.due_at > EXCLUDED.due_at;
  locked := ARRAY(SELECT h.endpoint FROM webhook_health h
    WHERE h.endpoint = ANY (ill || h_endpoint) OR h.endpoint = ANY (well) AND h.failing_since IS NOT NULL
    ORDER BY h.endpoint FOR UPDATE);
  UPDATE webhook_health h SET failing_since = now() WHERE h.endpoint = ANY (ill) AND h.failing_since IS NULL;
  UPDATE webhook_health h SET failing_since = NULL WHERE h.endpoint = ANY (well) AND h.endpoint = ANY (locked) AND h.failing_since IS NOT NULL;
  UPDATE webhook_health h SET hold_until = now() + x.hold
    FROM (SELECT u.endpoint, max(u.hold) AS hold FROM unnest(h_endpoint, h_hold) AS u(endpoint, hold) GROUP BY u.endpoint) AS x
    WHERE h.endpoint = x.endpoint;
END $$;

-- Clock -----------------------------------------------------------------------------------------------------------------

-- The latest time that was seen. A clock that reads less was set back, and what was due by the former one must not wait for it.
CREATE TABLE webhook_clock (
  single boolean     PRIMARY KEY DEFAULT true CHECK (single),
  latest timestamptz NOT NULL DEFAULT '-infinity'
);
INSERT INTO webhook_clock DEFAULT VALUES;
