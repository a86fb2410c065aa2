-- Webhooks: endpoints, the deliveries that are owed to them, and every attempt. Written by webhook alone.

CREATE TABLE webhook_endpoint (
  id              uuid        PRIMARY KEY,
  tenant          uuid        NOT NULL REFERENCES tenant,
  url             text        NOT NULL,
  display_name    text        NOT NULL DEFAULT '',
  event_types     text[]      NOT NULL DEFAULT '{}',  -- empty: all
  account_ids     uuid[]      NOT NULL DEFAULT '{}',  -- empty: all
  labels          jsonb       NOT NULL DEFAULT '{}',
  headers         jsonb       NOT NULL DEFAULT '{}',
  state           smallint    NOT NULL DEFAULT 1,     -- sessionmesh.v1.EndpointState
  rate_per_second int         NOT NULL DEFAULT 0,
  secret          bytea       NOT NULL,               -- sealed
  previous_secret bytea,                              -- sealed; signed with as well until previous_until
  previous_until  timestamptz,
  disable_reason  text        NOT NULL DEFAULT '',
  since           pg_snapshot NOT NULL DEFAULT pg_current_snapshot(),
  version         bigint      NOT NULL DEFAULT 1,     -- the etag; every update raises it
  create_time     timestamptz NOT NULL DEFAULT now(),
  update_time     timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX ON webhook_endpoint (tenant, id);
COMMENT ON COLUMN webhook_endpoint.since IS
  'What was committed when the endpoint was created, or enabled again: of that it gets nothing, of all later events everything.';

-- How an endpoint does: apart from its settings, because this changes with deliveries.
CREATE TABLE webhook_health (
  endpoint      uuid        PRIMARY KEY,
  hold_until    timestamptz,                          -- it asked to be left alone until then
  paced_until   timestamptz,                          -- with a rate: what was claimed so far is used up then
  failing_since timestamptz                           -- first failure after the last success
) WITH (fillfactor = 70);

-- Raised by every change of an endpoint. A fan-out holds it shared, so that it never works with endpoints of yesterday.
CREATE TABLE webhook_revision (
  single   boolean PRIMARY KEY DEFAULT true CHECK (single),
  revision bigint  NOT NULL DEFAULT 1
);
INSERT INTO webhook_revision DEFAULT VALUES;

-- How far the fan-out has come. It moves in the transaction that inserts the deliveries.
CREATE TABLE webhook_reader (
  name        text        PRIMARY KEY,
  generation  int         NOT NULL,
  xid         xid8        NOT NULL,
  seq         int         NOT NULL,
  update_time timestamptz NOT NULL DEFAULT now()
);
INSERT INTO webhook_reader (name, generation, xid, seq) SELECT 'fan-out', generation, '0', 0 FROM cluster_identity;

-- No reference to the endpoint: what a deleted one leaves behind is cleared away in small steps.
CREATE TABLE webhook_delivery (
  id          uuid        PRIMARY KEY,                -- with its prefix the webhook-id of every attempt
  endpoint    uuid        NOT NULL,
  tenant      uuid        NOT NULL,
  account     uuid,                                   -- null: an event of the tenant's own
  event       uuid        NOT NULL,
  event_type  text        NOT NULL,
  state       smallint    NOT NULL DEFAULT 1,         -- sessionmesh.v1.DeliveryState
  attempts    int         NOT NULL DEFAULT 0,
  tries       int         NOT NULL DEFAULT 0,         -- attempts of the present run through the retry schedule
  due_at      timestamptz NOT NULL DEFAULT now(),     -- while claimed: when the claim lapses
  token       uuid,                                   -- of the claim; only its holder may complete it
  last_status smallint    NOT NULL DEFAULT 0,
  last_error  text        NOT NULL DEFAULT '',
  body        bytea       NOT NULL,                   -- the bytes that are sent, and signed, every time
  traceparent text        NOT NULL DEFAULT '',
  create_time timestamptz NOT NULL DEFAULT now(),
  end_time    timestamptz,
  UNIQUE (endpoint, event)
) WITH (fillfactor = 85, autovacuum_vacuum_scale_factor = 0.02);
CREATE INDEX webhook_delivery_due ON webhook_delivery (endpoint, due_at) WHERE state = 1;
CREATE INDEX ON webhook_delivery (tenant, id);

CREATE TABLE webhook_attempt (
  id            uuid        NOT NULL,
  endpoint      uuid        NOT NULL,
  delivery      uuid        NOT NULL,
  number        int         NOT NULL,
  start_time    timestamptz NOT NULL,
  duration      interval    NOT NULL,
  status        smallint    NOT NULL,                 -- HTTP; 0: no answer
  error         text        NOT NULL,
  response_body bytea       NOT NULL,                 -- its beginning
  PRIMARY KEY (endpoint, delivery, id)
) PARTITION BY RANGE (id);
SELECT make_day_partition('webhook_attempt', (now() AT TIME ZONE 'UTC')::date + ahead) FROM generate_series(-1, 3) AS ahead;

-- Inserts deliveries and moves the reader, or nothing of both. Answers
--   done     it is committed with this transaction
--   moved    the reader no longer stands at (from_xid, from_seq): another instance, or an earlier call whose answer was lost
--   changed  the endpoints are no longer of revision `known`: match again
CREATE FUNCTION webhook_fan_out(
  reader text, generation_ int, from_xid xid8, from_seq int, to_xid xid8, to_seq int, known bigint,
  d_id uuid[], d_endpoint uuid[], d_tenant uuid[], d_account uuid[], d_event uuid[], d_type text[], d_body bytea[], d_trace text[])
RETURNS text LANGUAGE plpgsql AS $$
BEGIN
  PERFORM FROM webhook_reader WHERE name = reader AND generation = generation_ AND xid = from_xid AND seq = from_seq FOR UPDATE;
  IF NOT FOUND THEN
    RETURN 'moved';
  END IF;
  PERFORM FROM webhook_revision WHERE revision = known FOR SHARE;
  IF NOT FOUND THEN
    RETURN 'changed';
  END IF;
  INSERT INTO webhook_delivery (id, endpoint, tenant, account, event, event_type, body, traceparent)
    SELECT * FROM unnest(d_id, d_endpoint, d_tenant, d_account, d_event, d_type, d_body, d_trace)
    ON CONFLICT (endpoint, event) DO NOTHING;
  UPDATE webhook_reader SET xid = to_xid, seq = to_seq, update_time = now() WHERE name = reader;
  IF d_id <> '{}' THEN
    PERFORM pg_notify('webhook_deliveries', '');
  END IF;
  RETURN 'done';
END $$;

-- Claims deliveries that are due, at most `total`, at most `most` of one endpoint, less what is in flight there already.
-- Lock order: webhook_health by endpoint; deliveries only with SKIP LOCKED. Nothing else waits while holding them.
CREATE FUNCTION webhook_claim(claim uuid, lease interval, total int, most int, busy uuid[], busy_count int[])
RETURNS TABLE (
  id uuid, endpoint uuid, event uuid, event_type text, tries int, body bytea, traceparent text, create_time timestamptz,
  endpoint_version bigint)
LANGUAGE plpgsql
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET enable_sort = off
AS $$
#variable_conflict use_column
DECLARE waiting record; room int; paced timestamptz; taken int; instant timestamptz := clock_timestamp();
BEGIN
  FOR waiting IN
    WITH RECURSIVE pending AS (                       -- one index probe for each endpoint that is owed anything
      (SELECT endpoint FROM webhook_delivery WHERE state = 1 ORDER BY endpoint LIMIT 1)
      UNION ALL
      SELECT (SELECT d.endpoint FROM webhook_delivery d WHERE d.state = 1 AND d.endpoint > p.endpoint ORDER BY d.endpoint LIMIT 1)
        FROM pending p WHERE p.endpoint IS NOT NULL)
    SELECT p.endpoint, e.version, e.rate_per_second AS rate, coalesce(b.count, 0) AS in_flight
      FROM pending p JOIN webhook_endpoint e ON e.id = p.endpoint LEFT JOIN webhook_health h ON h.endpoint = p.endpoint
        LEFT JOIN unnest(busy, busy_count) AS b(endpoint, count) ON b.endpoint = p.endpoint
      WHERE e.state = 1 AND coalesce(b.count, 0) < most AND (h.hold_until IS NULL OR h.hold_until <= instant)
        AND EXISTS (SELECT FROM webhook_delivery d WHERE d.state = 1 AND d.endpoint = p.endpoint AND d.due_at <= instant)
      ORDER BY p.endpoint
  LOOP
    EXIT WHEN total <= 0;
    room := least(total, most - waiting.in_flight);
    IF waiting.rate > 0 THEN                          -- a bucket of one second's worth
      SELECT greatest(h.paced_until, instant) INTO paced FROM webhook_health h WHERE h.endpoint = waiting.endpoint FOR UPDATE;
      room := least(room, floor(extract(epoch FROM instant + interval '1 second' - paced) * waiting.rate)::int);
      CONTINUE WHEN room <= 0;
    END IF;
    RETURN QUERY
      UPDATE webhook_delivery d SET token = claim, due_at = instant + lease
        FROM (SELECT w.id FROM webhook_delivery w
                WHERE w.state = 1 AND w.endpoint = waiting.endpoint AND w.due_at <= instant
                ORDER BY w.due_at LIMIT room FOR UPDATE SKIP LOCKED) AS due
        WHERE d.id = due.id
        RETURNING d.id, d.endpoint, d.event, d.event_type, d.tries, d.body, d.traceparent, d.create_time, waiting.version;
    GET DIAGNOSTICS taken = ROW_COUNT;
    total := total - taken;
    IF waiting.rate > 0 AND taken > 0 THEN
      UPDATE webhook_health h SET paced_until = paced + taken * interval '1 second' / waiting.rate
        WHERE h.endpoint = waiting.endpoint;
    END IF;
  END LOOP;
END $$;

-- Ends or postpones claimed deliveries and stores their attempts. A delivery whose token has changed is left alone: its claim
-- lapsed and it is somebody else's now. Returns the deliveries that were completed.
CREATE FUNCTION webhook_complete(
  c_id uuid[], c_token uuid[], c_state smallint[], c_wait interval[],
  c_attempt uuid[], c_start timestamptz[], c_duration interval[], c_status smallint[], c_error text[], c_body bytea[],
  c_hold interval[])
RETURNS SETOF uuid LANGUAGE plpgsql
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
AS $$
#variable_conflict use_column
DECLARE completed uuid[]; well uuid[]; ill uuid[];
BEGIN
  WITH done AS (SELECT * FROM unnest(c_id, c_token, c_state, c_wait, c_attempt, c_start, c_duration, c_status, c_error, c_body)
                  AS c(id, token, state, wait, attempt, start, duration, status, error, body)),
  changed AS (
    UPDATE webhook_delivery d SET state = c.state, attempts = d.attempts + 1, tries = d.tries + 1, token = NULL,
        due_at = CASE c.state WHEN 1 THEN now() + c.wait ELSE d.due_at END, last_status = c.status, last_error = c.error,
        end_time = CASE c.state WHEN 1 THEN NULL ELSE now() END
      FROM done c WHERE d.id = c.id AND d.token = c.token AND d.state = 1
      RETURNING d.id, d.endpoint, d.attempts),
  stored AS (
    INSERT INTO webhook_attempt (id, endpoint, delivery, number, start_time, duration, status, error, response_body)
      SELECT c.attempt, d.endpoint, d.id, d.attempts, c.start, c.duration, c.status, c.error, c.body
      FROM changed d JOIN done c ON c.id = d.id)
  SELECT coalesce(array_agg(d.id), '{}'), array_agg(DISTINCT d.endpoint) FILTER (WHERE c.state = 2),
      array_agg(DISTINCT d.endpoint) FILTER (WHERE c.state <> 2)
    INTO completed, well, ill FROM changed d JOIN done c ON c.id = d.id;
  PERFORM FROM webhook_health h WHERE h.endpoint = ANY (well || ill)
    AND (h.failing_since IS NOT NULL OR h.endpoint = ANY (ill)) ORDER BY h.endpoint FOR UPDATE;
  UPDATE webhook_health h SET failing_since = now() WHERE h.endpoint = ANY (ill) AND h.failing_since IS NULL;
  UPDATE webhook_health h SET failing_since = NULL WHERE h.endpoint = ANY (well) AND h.failing_since IS NOT NULL;
  UPDATE webhook_health h SET hold_until = now() + x.hold
    FROM (SELECT d.endpoint, max(c.hold) AS hold FROM unnest(c_id, c_hold) AS c(id, hold) JOIN webhook_delivery d ON d.id = c.id
          WHERE c.hold IS NOT NULL AND c.id = ANY (completed) GROUP BY d.endpoint) AS x
    WHERE h.endpoint = x.endpoint;
  RETURN QUERY SELECT unnest(completed);
END $$;
