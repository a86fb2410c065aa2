-- What session-nodes write: messages, sessions, events. Only through journal_write, under the fence of 0002_ownership.

-- Partitions by day ---------------------------------------------------------------------------------------------------

-- Not to_regclass: it answers from a cache that an advisory lock does not refresh.
CREATE FUNCTION partition_exists(name text) RETURNS boolean LANGUAGE sql VOLATILE AS $$
  SELECT EXISTS (SELECT FROM pg_class WHERE relname = name AND relnamespace = current_schema()::regnamespace)
$$;

-- UUIDv7 begins with its time, so a day is a range of ids: an id finds its partition, and the key needs no second column.
-- Returns whether it was made. Made beside the table and attached, because CREATE ... PARTITION OF stops all its writers.
CREATE FUNCTION make_day_partition(parent text, day date) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE name text := format('%s_%s', parent, to_char(day, 'YYYYMMDD'));
BEGIN
  IF partition_exists(name) THEN
    RETURN false;
  END IF;
  PERFORM pg_advisory_xact_lock(hashtext('sessionmesh partitions'));
  IF partition_exists(name) THEN
    RETURN false;
  END IF;
  EXECUTE format('CREATE TABLE %I (LIKE %I INCLUDING ALL)', name, parent);
  IF parent = 'message' THEN                       -- room for a status change on the page that has the row
    EXECUTE format('ALTER TABLE %I SET (fillfactor = 85)', name);
  END IF;
  EXECUTE format('ALTER TABLE %I ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)', parent, name,
    uuid_at(day::timestamp AT TIME ZONE 'UTC'), uuid_at((day + 1)::timestamp AT TIME ZONE 'UTC'));
  RETURN true;
END $$;

-- Messages ------------------------------------------------------------------------------------------------------------

CREATE TABLE message (
  id             uuid     NOT NULL,
  account        uuid     NOT NULL,
  epoch          bigint   NOT NULL,             -- of the owner that stored it
  direction      smallint NOT NULL,             -- sessionmesh.v1.Direction
  status         smallint NOT NULL,             -- sessionmesh.v1.MessageStatus; 0 for inbound
  priority       smallint NOT NULL DEFAULT 0,
  chat           text     NOT NULL,
  network_id     text     NOT NULL DEFAULT '',
  content        bytea    NOT NULL CHECK (octet_length(content) <= 1048576),
  traceparent    text     NOT NULL DEFAULT '',
  failure        smallint NOT NULL DEFAULT 0,   -- sessionmesh.v1.FailureReason
  failure_detail text     NOT NULL DEFAULT '',
  update_time    timestamptz,                   -- when its status last rose; null: never
  network_time   timestamptz,                   -- when the network took it
  PRIMARY KEY (account, id)                     -- the one index: a page of an account's messages, newest first, is one range
) PARTITION BY RANGE (id);

CREATE TABLE message_receipt (                  -- each member's, in groups
  message uuid        NOT NULL,
  member  text        NOT NULL,
  status  smallint    NOT NULL,
  time    timestamptz NOT NULL,
  PRIMARY KEY (message, member)
);

CREATE TABLE outbox (                           -- what must still be sent; read whole by a shard's new owner
  shard    smallint    NOT NULL,
  message  uuid        NOT NULL,
  account  uuid        NOT NULL,
  priority smallint    NOT NULL,
  due_at   timestamptz NOT NULL,
  PRIMARY KEY (shard, message)
);

CREATE TABLE network_message (                  -- the network's id -> ours: recognises what arrives again
  account    uuid        NOT NULL,
  network_id text        NOT NULL,
  message    uuid        NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (account, network_id)
);
CREATE INDEX ON network_message USING brin (created_at);

CREATE TABLE media_fetch (                      -- "get this message's media", until it is done
  message  uuid        PRIMARY KEY,
  account  uuid        NOT NULL,
  shard    smallint    NOT NULL,
  blob     bytea       NOT NULL,                -- what the driver needs to fetch it
  attempts int         NOT NULL DEFAULT 0,
  due_at   timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX ON media_fetch (shard, due_at);

-- Sessions ------------------------------------------------------------------------------------------------------------

CREATE TABLE session (
  account           uuid     PRIMARY KEY,
  tenant            uuid     NOT NULL,
  epoch             bigint   NOT NULL,
  node              text     NOT NULL,
  state             smallint NOT NULL,          -- sessionmesh.v1.SessionState
  cause             smallint NOT NULL,          -- sessionmesh.v1.SessionCause
  detail            text     NOT NULL,
  phone             text     NOT NULL,
  network_user_id   text     NOT NULL,
  push_name         text     NOT NULL,
  paired            boolean  NOT NULL,
  recent_failures   int      NOT NULL,
  sent              bigint   NOT NULL,
  received          bigint   NOT NULL,
  failed            bigint   NOT NULL,
  connects          bigint   NOT NULL,
  settings          bytea    NOT NULL,          -- sessionmesh.v1.SessionSettings
  connect_time      timestamptz,
  last_heard_time   timestamptz,
  next_connect_time timestamptz,
  update_time       timestamptz NOT NULL
) WITH (fillfactor = 70);
CREATE INDEX ON session (tenant, account);

CREATE TABLE disconnect (                       -- ends of connections
  account         uuid     NOT NULL,
  id              uuid     NOT NULL,
  cause           smallint NOT NULL,
  detail          text     NOT NULL,
  node            text     NOT NULL,
  connect_time    timestamptz,
  disconnect_time timestamptz NOT NULL,
  PRIMARY KEY (account, id)
);

CREATE TABLE credential (                       -- a driver's state, sealed
  account uuid   PRIMARY KEY,
  epoch   bigint NOT NULL,
  blob    bytea  NOT NULL
) WITH (fillfactor = 70);

-- Events --------------------------------------------------------------------------------------------------------------

CREATE TABLE event (                            -- read in the order (xid, seq); seq counts within its batch, so no sequence
  id          uuid        NOT NULL,
  xid         xid8        NOT NULL DEFAULT pg_current_xact_id(),
  seq         int         NOT NULL,
  tenant      uuid        NOT NULL,
  account     uuid        NOT NULL,
  epoch       bigint      NOT NULL,
  type        text        NOT NULL,
  body        bytea       NOT NULL,             -- sessionmesh.v1.Event without commit_time and cursor
  commit_time timestamptz NOT NULL DEFAULT now()
) PARTITION BY RANGE (id);
CREATE INDEX ON event (xid, seq);

-- Events up to this position were dropped: a cursor before it has missed some.
CREATE TABLE event_horizon (
  single boolean PRIMARY KEY DEFAULT true CHECK (single),
  xid    xid8    NOT NULL DEFAULT '0',
  seq    int     NOT NULL DEFAULT 0
);
INSERT INTO event_horizon DEFAULT VALUES;

-- Drops a day for good; returns whether there was one. Whether it may go is the caller's to know.
CREATE FUNCTION drop_day_partition(parent text, day date) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE name text := format('%s_%s', parent, to_char(day, 'YYYYMMDD'));
BEGIN
  PERFORM pg_advisory_xact_lock(hashtext('sessionmesh partitions'));
  IF NOT partition_exists(name) THEN
    RETURN false;
  END IF;
  EXECUTE format('LOCK TABLE %I, %I IN ACCESS EXCLUSIVE MODE', parent, name);
  IF parent = 'event' THEN
    EXECUTE format('UPDATE event_horizon h SET xid = e.xid, seq = e.seq
      FROM (SELECT xid, seq FROM %I ORDER BY xid DESC, seq DESC LIMIT 1) e WHERE (e.xid, e.seq) > (h.xid, h.seq)', name);
  END IF;
  EXECUTE format('DROP TABLE %I', name);
  RETURN true;
END $$;

SELECT make_day_partition(parent, (now() AT TIME ZONE 'UTC')::date + ahead)
  FROM unnest(ARRAY['message', 'event']) AS parent, generate_series(-1, 3) AS ahead;

-- The journal ---------------------------------------------------------------------------------------------------------

CREATE TABLE node_journal (                     -- the latest batches of each incarnation and their answers
  incarnation text,                             -- no foreign key: its check is a query more in every batch
  batch       bigint,
  answer      jsonb,
  PRIMARY KEY (incarnation, batch)
);

-- Which changes of status are legal. 1 QUEUED, 2 SENDING, 3 SENT, 4 DELIVERED, 5 READ, 6 PLAYED only rise. CANCELLED (10) and
-- EXPIRED (11) end what was not sent; FAILED (12) also what the network took and then refused; IN_DOUBT (13) what may have been
-- sent, until a callback or the policy settles it.
CREATE FUNCTION message_may_become(old smallint, new smallint) RETURNS boolean LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
  SELECT CASE WHEN new < 10 THEN old < new OR old = 13 AND new >= 3
              WHEN new = 12 THEN old <= 3 OR old = 13
              ELSE old <= 2 END
$$;

CREATE FUNCTION at_micros(micros bigint) RETURNS timestamptz LANGUAGE sql STABLE PARALLEL SAFE AS $$
  SELECT 'epoch'::timestamptz + micros * interval '1 microsecond'
$$;

-- Rows of the rarer kinds. `acc` is the row of the account in the batch's a_* columns, from 1;
-- times are microseconds since 1970, as in all of the journal's arguments.
CREATE TYPE journal_inbound AS (
  acc int, id uuid, network_id text, direction smallint, status smallint, chat text, content bytea, traceparent text,
  network_time bigint, event uuid, type text, body bytea, media bytea);
CREATE TYPE journal_action AS (
  acc int, method smallint, request_id text, digest bytea, result uuid, event uuid, type text, body bytea);
CREATE TYPE journal_session AS (
  acc int, node text, state smallint, cause smallint, detail text, phone text, network_user_id text, push_name text,
  paired boolean, recent_failures int, sent bigint, received bigint, failed bigint, connects bigint, settings bytea,
  connect_time bigint, last_heard_time bigint, next_connect_time bigint, update_time bigint);
CREATE TYPE journal_disconnect AS (
  acc int, id uuid, cause smallint, detail text, node text, connect_time bigint, disconnect_time bigint);
CREATE TYPE journal_content AS (acc int, id uuid, content bytea);
CREATE TYPE journal_fetch AS (acc int, message uuid, retry_at bigint);
CREATE TYPE journal_receipt AS (acc int, message uuid, member text, status smallint, time bigint);

-- One batch = one call = one transaction. a_* has a row for each account, the other kinds point at it.
-- An array may be shorter than its fellows where the rest would be null. Answers null, or what is not plain success:
--   refused    rows of a_* whose shard is not mine under that epoch: nothing of these accounts was written
--   message    row of m_* -> [first result, same payload]: the request id was used before, nothing of the row was written
--   action     the same for `actions`
--   repeat     row of `inbound` -> the message it was stored as before; nothing of the row was written
-- The answer stays small, so that a frozen client never blocks the server while it sends.
CREATE FUNCTION journal_write(
  me text, number bigint,
  a_shard smallint[], a_epoch bigint[], a_account uuid[], a_tenant uuid[],
  m_acc int[], m_id uuid[], m_method smallint[], m_request text[], m_digest bytea[], m_chat text[], m_content bytea[],
  m_event uuid[], m_type text[], m_body bytea[],
  m_network text[], m_trace text[], m_priority smallint[], m_due bigint[],
  s_acc int[], s_id uuid[], s_status smallint[], s_time bigint[],
  s_sent bigint[], s_failure smallint[], s_detail text[], s_network text[],
  e_acc int[], e_id uuid[], e_type text[], e_body bytea[], e_status int[],
  c_acc int[], c_blob bytea[],
  inbound journal_inbound[], actions journal_action[], sessions journal_session[], disconnects journal_disconnect[],
  contents journal_content[], fetches journal_fetch[], receipts journal_receipt[],
  give_back smallint[], give_back_epoch bigint[])
RETURNS jsonb LANGUAGE plpgsql
-- Plans are cached from the first calls, often over empty tables, with arrays guessed at 10 elements: without these a status
-- change scans `message` whole, for as long as the connection lives. Array x table is always one index probe per element here.
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
AS $$
#variable_conflict use_column
DECLARE
  gone int[]; skip int[] := '{}'; risen int[]; reply jsonb; found_before jsonb; written int; expected int;
  messages int := cardinality(m_id); arrived int := cardinality(inbound); acted int := cardinality(actions);
BEGIN
  IF give_back <> '{}' THEN                -- lock order: shards come first
    PERFORM FROM shard_fence WHERE shard = ANY (give_back) ORDER BY shard FOR NO KEY UPDATE;
  END IF;
  -- FENCE. Nobody can take a shard from me without expiring me, and expiring needs FOR UPDATE on this row: one lock guards all.
  PERFORM FROM node_incarnation WHERE id = me AND NOT expired FOR KEY SHARE;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'incarnation % has expired', me USING ERRCODE = 'SM001';
  END IF;
  -- RESEND. The same number again, from any connection, in any order, gets the first answer and does nothing. A row per batch,
  -- not one row updated: under any long transaction of the instance the dead versions of a hot row pile up.
  INSERT INTO node_journal (incarnation, batch) VALUES (me, number) ON CONFLICT DO NOTHING;   -- waits for the rival
  IF NOT FOUND THEN
    RETURN (SELECT j.answer FROM node_journal j WHERE j.incarnation = me AND j.batch = number);
  END IF;
  -- EPOCH. A later statement has a later snapshot than the lock, so this plain read is current. Sound only in READ COMMITTED.
  SELECT array_agg(acc::int) INTO gone FROM unnest(a_shard, a_epoch) WITH ORDINALITY AS a(shard, epoch, acc)
    LEFT JOIN shard_fence f ON f.shard = a.shard
    WHERE (f.holder = me AND f.epoch = a.epoch AND NOT f.released) IS NOT TRUE;
  IF gone IS NULL THEN gone := '{}'; ELSE reply := jsonb_build_object('refused', to_jsonb(gone)); END IF;

  IF messages > 0 THEN
    INSERT INTO request (scope, method, request_id, digest, result)
      SELECT a_account[acc], method, request, digest, id
      FROM unnest(m_acc, m_method, m_request, m_digest, m_id) AS m(acc, method, request, digest, id)
      WHERE request IS NOT NULL AND acc <> ALL (gone)
      ON CONFLICT DO NOTHING;              -- waits for a rival that has not committed yet
    GET DIAGNOSTICS written = ROW_COUNT;
    IF written < messages THEN             -- rare: refused, without a request id, or there before
      SELECT jsonb_object_agg(row, jsonb_build_array(r.result, r.digest = m.digest)), coalesce(array_agg(row::int), '{}')
        INTO found_before, skip
        FROM unnest(m_acc, m_method, m_request, m_digest, m_id) WITH ORDINALITY AS m(acc, method, request, digest, id, row)
        JOIN request r ON r.scope = a_account[acc] AND r.method = m.method AND r.request_id = m.request AND r.result <> m.id
        WHERE acc <> ALL (gone);
      IF skip <> '{}' THEN
        reply := coalesce(reply, '{}') || jsonb_build_object('message', found_before);
      END IF;
    END IF;
    INSERT INTO message (id, account, epoch, direction, status, priority, chat, network_id, content, traceparent)
      SELECT id, a_account[acc], a_epoch[acc], 1, 1, coalesce(priority, 0), chat, coalesce(network, ''), content, coalesce(trace, '')
      FROM unnest(m_acc, m_id, m_chat, m_content, m_network, m_trace, m_priority) WITH ORDINALITY
        AS m(acc, id, chat, content, network, trace, priority, row)
      WHERE acc <> ALL (gone) AND row <> ALL (skip);
    INSERT INTO outbox (shard, message, account, priority, due_at)
      SELECT a_shard[acc], id, a_account[acc], coalesce(priority, 0),
        coalesce(at_micros(due), now())
      FROM unnest(m_acc, m_id, m_priority, m_due) WITH ORDINALITY AS m(acc, id, priority, due, row)
      WHERE acc <> ALL (gone) AND row <> ALL (skip);
    INSERT INTO event (id, seq, tenant, account, epoch, type, body)
      SELECT id, row, a_tenant[acc], a_account[acc], a_epoch[acc], type, body
      FROM unnest(m_acc, m_event, m_type, m_body) WITH ORDINALITY AS m(acc, id, type, body, row)
      WHERE acc <> ALL (gone) AND row <> ALL (skip);
  END IF;

  IF arrived > 0 THEN
    INSERT INTO network_message (account, network_id, message)
      SELECT a_account[acc], network_id, id FROM unnest(inbound) WHERE acc <> ALL (gone)
      ON CONFLICT DO NOTHING;
    GET DIAGNOSTICS written = ROW_COUNT;
    skip := '{}';
    IF written < arrived THEN
      SELECT jsonb_object_agg(row, n.message), coalesce(array_agg(row::int), '{}') INTO found_before, skip
        FROM (SELECT row_number() OVER () AS row, * FROM unnest(inbound)) i
        JOIN network_message n ON n.account = a_account[i.acc] AND n.network_id = i.network_id AND n.message <> i.id
        WHERE acc <> ALL (gone);
      IF skip <> '{}' THEN
        reply := coalesce(reply, '{}') || jsonb_build_object('repeat', found_before);
      END IF;
    END IF;
    INSERT INTO message (id, account, epoch, direction, status, chat, network_id, content, traceparent, network_time)
      SELECT id, a_account[acc], a_epoch[acc], direction, status, chat, network_id, content, traceparent, at_micros(network_time)
      FROM (SELECT row_number() OVER () AS row, * FROM unnest(inbound)) i WHERE acc <> ALL (gone) AND row <> ALL (skip);
    INSERT INTO event (id, seq, tenant, account, epoch, type, body)
      SELECT event, messages + row, a_tenant[acc], a_account[acc], a_epoch[acc], type, body
      FROM (SELECT row_number() OVER () AS row, * FROM unnest(inbound)) i WHERE acc <> ALL (gone) AND row <> ALL (skip);
    INSERT INTO media_fetch (message, account, shard, blob)
      SELECT id, a_account[acc], a_shard[acc], media
      FROM (SELECT row_number() OVER () AS row, * FROM unnest(inbound)) i
      WHERE media IS NOT NULL AND acc <> ALL (gone) AND row <> ALL (skip);
  END IF;

  IF acted > 0 THEN
    INSERT INTO request (scope, method, request_id, digest, result)
      SELECT a_account[acc], method, request_id, digest, result FROM unnest(actions) WHERE acc <> ALL (gone)
      ON CONFLICT DO NOTHING;
    GET DIAGNOSTICS written = ROW_COUNT;
    skip := '{}';
    IF written < acted THEN
      SELECT jsonb_object_agg(row, jsonb_build_array(r.result, r.digest = x.digest)), coalesce(array_agg(row::int), '{}')
        INTO found_before, skip
        FROM (SELECT row_number() OVER () AS row, * FROM unnest(actions)) x
        JOIN request r ON r.scope = a_account[x.acc] AND r.method = x.method AND r.request_id = x.request_id AND r.result <> x.result
        WHERE acc <> ALL (gone);
      IF skip <> '{}' THEN
        reply := coalesce(reply, '{}') || jsonb_build_object('action', found_before);
      END IF;
    END IF;
    INSERT INTO event (id, seq, tenant, account, epoch, type, body)
      SELECT event, messages + arrived + row, a_tenant[acc], a_account[acc], a_epoch[acc], type, body
      FROM (SELECT row_number() OVER () AS row, * FROM unnest(actions)) x
      WHERE event IS NOT NULL AND acc <> ALL (gone) AND row <> ALL (skip);
  END IF;

  IF s_id <> '{}' THEN                     -- the writer has already reduced: one row per message
    WITH changed AS (
      UPDATE message m SET status = s.status, update_time = at_micros(s.time),
          network_time = coalesce(at_micros(s.sent), m.network_time),
          failure = coalesce(s.failure, m.failure), failure_detail = coalesce(s.detail, m.failure_detail),
          network_id = coalesce(s.network, m.network_id)
        FROM unnest(s_acc, s_id, s_status, s_time, s_sent, s_failure, s_detail, s_network) WITH ORDINALITY
          AS s(acc, id, status, time, sent, failure, detail, network, row)
        WHERE m.account = a_account[s.acc] AND m.id = s.id AND message_may_become(m.status, s.status) AND acc <> ALL (gone)
        RETURNING s.row)
    SELECT coalesce(array_agg(row::int), '{}') INTO risen FROM changed;
    DELETE FROM outbox o USING unnest(s_acc, s_id, s_status) AS s(acc, id, status)
      WHERE o.shard = a_shard[acc] AND o.message = s.id AND s.status >= 3 AND acc <> ALL (gone);
    IF s_network <> '{}' THEN              -- networks that choose the id themselves
      INSERT INTO network_message (account, network_id, message)
        SELECT a_account[acc], network, id FROM unnest(s_acc, s_id, s_network) WITH ORDINALITY AS s(acc, id, network, row)
        WHERE network IS NOT NULL AND row = ANY (risen) ON CONFLICT DO NOTHING;
    END IF;
  END IF;
  IF receipts <> '{}' THEN
    INSERT INTO message_receipt AS old (message, member, status, time)
      SELECT DISTINCT ON (message, member) message, member, status, at_micros(time) FROM unnest(receipts) WHERE acc <> ALL (gone)
        ORDER BY message, member, status DESC
      ON CONFLICT (message, member) DO UPDATE SET status = excluded.status, time = excluded.time WHERE old.status < excluded.status;
  END IF;
  IF contents <> '{}' THEN
    UPDATE message m SET content = c.content FROM unnest(contents) AS c WHERE m.account = a_account[c.acc] AND m.id = c.id AND acc <> ALL (gone);
  END IF;
  IF fetches <> '{}' THEN
    DELETE FROM media_fetch f USING unnest(fetches) AS x WHERE f.message = x.message AND x.retry_at IS NULL AND acc <> ALL (gone);
    UPDATE media_fetch f SET attempts = attempts + 1, due_at = at_micros(x.retry_at) FROM unnest(fetches) AS x
      WHERE f.message = x.message AND x.retry_at IS NOT NULL AND acc <> ALL (gone);
  END IF;

  IF e_id <> '{}' THEN
    INSERT INTO event (id, seq, tenant, account, epoch, type, body)   -- e_status: only if that row of s_* rose
      SELECT id, messages + arrived + acted + row, a_tenant[acc], a_account[acc], a_epoch[acc], type, body
      FROM unnest(e_acc, e_id, e_type, e_body, e_status) WITH ORDINALITY AS e(acc, id, type, body, status, row)
      WHERE acc <> ALL (gone) AND (status IS NULL OR status = ANY (risen));
  END IF;
  IF sessions <> '{}' THEN
    INSERT INTO session (account, tenant, epoch, node, state, cause, detail, phone, network_user_id, push_name, paired,
        recent_failures, sent, received, failed, connects, settings, connect_time, last_heard_time, next_connect_time, update_time)
      SELECT a_account[acc], a_tenant[acc], a_epoch[acc], node, state, cause, detail, phone, network_user_id, push_name, paired,
        recent_failures, sent, received, failed, connects, settings, at_micros(connect_time), at_micros(last_heard_time), at_micros(next_connect_time), at_micros(update_time)
      FROM unnest(sessions) WHERE acc <> ALL (gone)
      ON CONFLICT (account) DO UPDATE SET epoch = excluded.epoch, node = excluded.node, state = excluded.state,
        cause = excluded.cause, detail = excluded.detail, phone = excluded.phone, network_user_id = excluded.network_user_id,
        push_name = excluded.push_name, paired = excluded.paired, recent_failures = excluded.recent_failures,
        sent = excluded.sent, received = excluded.received, failed = excluded.failed, connects = excluded.connects,
        settings = excluded.settings, connect_time = excluded.connect_time, last_heard_time = excluded.last_heard_time,
        next_connect_time = excluded.next_connect_time, update_time = excluded.update_time;
  END IF;
  IF disconnects <> '{}' THEN
    INSERT INTO disconnect (account, id, cause, detail, node, connect_time, disconnect_time)
      SELECT a_account[acc], id, cause, detail, node, at_micros(connect_time), at_micros(disconnect_time)
      FROM unnest(disconnects) WHERE acc <> ALL (gone);
  END IF;
  IF c_acc <> '{}' THEN                    -- the writer has already reduced: one row per account
    INSERT INTO credential (account, epoch, blob)
      SELECT a_account[acc], a_epoch[acc], blob FROM unnest(c_acc, c_blob) AS c(acc, blob) WHERE acc <> ALL (gone)
      ON CONFLICT (account) DO UPDATE SET epoch = excluded.epoch, blob = excluded.blob;
  END IF;

  IF give_back <> '{}' THEN
    UPDATE shard_fence f SET released = true, wanted_until = NULL
      FROM unnest(give_back, give_back_epoch) AS g(shard, epoch)
      WHERE f.shard = g.shard AND f.epoch = g.epoch AND f.holder = me AND NOT f.released;
  END IF;
  IF reply IS NOT NULL THEN
    UPDATE node_journal j SET answer = reply WHERE j.incarnation = me AND j.batch = number;
  END IF;
  IF number % 1000 = 0 THEN
    DELETE FROM node_journal j WHERE j.incarnation = me AND j.batch < number - 1000;
  ELSIF number = 1 THEN                    -- what those have left who will never ask again
    DELETE FROM node_journal j USING node_incarnation n
      WHERE j.incarnation = n.id AND n.id <> me AND (n.expired OR n.beat_at < now() - interval '1 day');
  END IF;
  RETURN reply;
END $$;
