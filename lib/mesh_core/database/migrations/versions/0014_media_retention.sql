-- What refers to media, how long it is kept for that, and what a tenant stores, without adding it all up.

-- Rules ---------------------------------------------------------------------------------------------------------------

CREATE TABLE media_policy (                     -- of tenants that changed something
  tenant        uuid        PRIMARY KEY,        -- no reference, as with the rules
  compression   smallint    NOT NULL DEFAULT 0, -- sessionmesh.v1.Compression
  keep_original boolean     NOT NULL DEFAULT false,
  version       bigint      NOT NULL DEFAULT 1, -- the etag; every update raises it
  update_time   timestamptz NOT NULL DEFAULT now(),
  settled_until uuid                            -- media after this one have yet to follow the rules; null: all do
);
CREATE INDEX media_policy_unsettled ON media_policy (tenant) WHERE settled_until IS NOT NULL;

CREATE TABLE media_rule (                       -- the tenant of zeros is the mesh: its rules hold where a tenant has none
  tenant    uuid     NOT NULL,
  category  smallint NOT NULL,                  -- sessionmesh.v1.MediaCategory
  keep_for  interval,                           -- null: for ever
  max_bytes bigint,                             -- null: no limit
  PRIMARY KEY (tenant, category)
);
INSERT INTO media_rule (tenant, category, keep_for)
  SELECT '00000000-0000-0000-0000-000000000000', category, interval '30 days'
  FROM unnest(ARRAY[2, 4, 5, 6]) AS category;   -- received, status, view-once, revoked: what strangers send

-- References ----------------------------------------------------------------------------------------------------------

-- A reference outlives its message: what its rule promised holds.
CREATE TABLE media_reference (
  media       uuid        NOT NULL REFERENCES media ON DELETE CASCADE,
  message     uuid        NOT NULL,
  tenant      uuid        NOT NULL,             -- of the media
  account     uuid        NOT NULL,             -- of the message
  category    smallint    NOT NULL,             -- sessionmesh.v1.MediaCategory
  create_time timestamptz NOT NULL DEFAULT now(),   -- when it came into its category; when it is to be sent, if later
  PRIMARY KEY (media, message)
);
CREATE INDEX ON media_reference (tenant, category, media, create_time);
CREATE INDEX ON media_reference (account, media, category, message);
CREATE INDEX ON media_reference USING brin (message) WITH (pages_per_range = 32, autosummarize = on);

ALTER TABLE media
  ADD COLUMN keep_until  timestamptz,           -- what its upload asked for; null: the rules
  ADD COLUMN ended       boolean NOT NULL DEFAULT false,    -- it is deleted, whatever refers to it
  ADD COLUMN stored_size bigint  NOT NULL DEFAULT 0,        -- bytes of its objects, shared ones too
  ADD COLUMN saved_size  bigint  NOT NULL DEFAULT 0;        -- bytes that compressing its file saved
COMMENT ON COLUMN media.expire_time IS 'when it is deleted, by media_end or up to an hour later; null: never';

CREATE FUNCTION media_own_category(origin smallint) RETURNS smallint LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
  SELECT CASE origin WHEN 2 THEN 2 ELSE 1 END::smallint
$$;
COMMENT ON FUNCTION media_own_category IS 'The category of media that nothing refers to: of the network received, else default.';

-- The sweeper looks again before it deletes, so an `expire_time` that is too early loses nothing.
CREATE FUNCTION media_end(m media) RETURNS timestamptz LANGUAGE plpgsql STABLE AS $$
DECLARE
  of_references timestamptz; own timestamptz;
BEGIN
  SELECT max(coalesce(latest.create_time + (
      SELECT keep_for FROM media_rule WHERE category = c
        AND tenant IN (m.tenant, '00000000-0000-0000-0000-000000000000') ORDER BY tenant DESC LIMIT 1), 'infinity'))
    INTO of_references FROM unnest('{2,3,4,5,6,7}'::smallint[]) AS c CROSS JOIN LATERAL (
      SELECT r.create_time FROM media_reference r
      WHERE r.tenant = m.tenant AND r.category = c AND r.media = m.id ORDER BY r.create_time DESC LIMIT 1) AS latest;
  IF of_references IS NULL AND m.keep_until IS NULL THEN
    own := coalesce(m.create_time + (
      SELECT keep_for FROM media_rule WHERE category = media_own_category(m.origin)
        AND tenant IN (m.tenant, '00000000-0000-0000-0000-000000000000') ORDER BY tenant DESC LIMIT 1), 'infinity');
  END IF;
  RETURN nullif(greatest(m.keep_until, of_references, own), 'infinity');
END $$;
COMMENT ON FUNCTION media_end IS 'When nothing keeps it any more; null: never.';

-- Has `expire_time` follow rules and references. It may be up to an hour late: so what many messages refer to is not changed for each.
CREATE FUNCTION media_settle(ids uuid[]) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  found record; late interval;
BEGIN
  FOR found IN
    SELECT m.id, m.expire_time, media_end(m) AS ends FROM media m WHERE m.id = ANY (ids) AND NOT m.ended ORDER BY m.id
  LOOP
    late := least(interval '1 hour', greatest(found.ends - now(), interval '0') / 24);
    IF (found.expire_time BETWEEN found.ends AND found.ends + late) IS NOT TRUE
        AND num_nulls(found.expire_time, found.ends) < 2 THEN
      UPDATE media SET expire_time = found.ends + late WHERE id = found.id;
    END IF;
  END LOOP;
END $$;

CREATE FUNCTION media_categories(m media) RETURNS smallint[] LANGUAGE sql STABLE AS $$
  SELECT coalesce(nullif(ARRAY(SELECT c::smallint FROM generate_series(1, 7) AS c WHERE EXISTS (
      SELECT FROM media_reference r WHERE r.tenant = m.tenant AND r.category = c::smallint AND r.media = m.id)), '{}'),
    ARRAY[media_own_category(m.origin)])
$$;

-- What is in which category, since when.
CREATE VIEW media_category AS
  SELECT tenant, category, media, max(create_time) AS since FROM media_reference GROUP BY tenant, category, media
  UNION ALL
  SELECT tenant, media_own_category(origin), id, create_time FROM media m
    WHERE NOT EXISTS (SELECT FROM media_reference r WHERE r.media = m.id);

-- Lets go of what an account's messages refer to, some of it at a time; returns how many references went. What came with them
-- goes with the last one, other files fall under their rules.
CREATE FUNCTION media_release(of_account uuid, most int) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
  released uuid[];
BEGIN
  WITH gone AS (
    DELETE FROM media_reference WHERE (media, message) IN (
      SELECT media, message FROM media_reference WHERE account = of_account LIMIT most) RETURNING media)
  SELECT array_agg(media) INTO released FROM gone;
  PERFORM FROM media WHERE id = ANY (released) ORDER BY id FOR UPDATE;   -- waits for who is about to refer to one
  UPDATE media m SET ended = true, expire_time = now() WHERE m.id = ANY (released) AND m.origin = 2 AND m.keep_until IS NULL
    AND NOT EXISTS (SELECT FROM media_reference r WHERE r.media = m.id);
  PERFORM media_settle(released);
  RETURN coalesce(cardinality(released), 0);
END $$;

CREATE FUNCTION media_arrives() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  NEW.keep_until := coalesce(NEW.keep_until, NEW.expire_time);   -- the version before knows no other
  NEW.expire_time := media_end(NEW);
  RETURN NEW;
END $$;
CREATE TRIGGER media_arrives BEFORE INSERT ON media FOR EACH ROW EXECUTE FUNCTION media_arrives();

-- Sizes ---------------------------------------------------------------------------------------------------------------

CREATE FUNCTION media_weighs() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
  size bigint := coalesce((SELECT o.size FROM media_object o WHERE o.tenant = NEW.tenant AND o.sha256 = NEW.sha256), 0);
BEGIN
  NEW.saved_size := CASE WHEN NEW.sha256 IS NULL THEN 0 ELSE NEW.original_size - size END;
  NEW.stored_size := size + CASE WHEN NEW.original_kept THEN NEW.original_size ELSE 0 END
    + coalesce((SELECT o.size FROM media_object o WHERE o.tenant = NEW.tenant AND o.sha256 = NEW.thumbnail_sha256), 0);
  RETURN NEW;
END $$;
CREATE TRIGGER media_weighs BEFORE INSERT OR UPDATE OF sha256, thumbnail_sha256, original_kept, original_size ON media
  FOR EACH ROW EXECUTE FUNCTION media_weighs();

-- What a tenant's objects add up to, as changes that are summed: nobody waits for a row of all its uploads. The media service
-- puts them together from time to time.
CREATE TABLE media_total (
  tenant       uuid   NOT NULL,                 -- no reference: the last change goes after the tenant's last object
  objects      bigint NOT NULL,
  bytes        bigint NOT NULL,
  shared_bytes bigint NOT NULL                  -- that sharing saved
);
CREATE INDEX ON media_total (tenant);

CREATE FUNCTION media_object_added() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO media_total SELECT tenant, count(*), sum(size), sum(size * (media - 1)) FROM added GROUP BY tenant;
  RETURN NULL;
END $$;
CREATE FUNCTION media_object_removed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO media_total SELECT tenant, -count(*), -sum(size), -sum(size * (media - 1)) FROM removed GROUP BY tenant;
  RETURN NULL;
END $$;
CREATE FUNCTION media_object_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO media_total SELECT tenant, 0, sum(bytes), sum(shared) FROM (
      SELECT tenant, size AS bytes, size * (media - 1) AS shared FROM added
      UNION ALL SELECT tenant, -size, -size * (media - 1) FROM removed) AS moved
    GROUP BY tenant HAVING sum(bytes) <> 0 OR sum(shared) <> 0;
  RETURN NULL;
END $$;
CREATE TRIGGER media_object_added AFTER INSERT ON media_object REFERENCING NEW TABLE AS added
  FOR EACH STATEMENT EXECUTE FUNCTION media_object_added();
CREATE TRIGGER media_object_removed AFTER DELETE ON media_object REFERENCING OLD TABLE AS removed
  FOR EACH STATEMENT EXECUTE FUNCTION media_object_removed();
CREATE TRIGGER media_object_changed AFTER UPDATE ON media_object REFERENCING OLD TABLE AS removed NEW TABLE AS added
  FOR EACH STATEMENT EXECUTE FUNCTION media_object_changed();
INSERT INTO media_total
  SELECT tenant, count(*), sum(size), sum(size * (media - 1)) FROM media_object GROUP BY tenant;

-- What tenants with very many files store, as the media service counts it from time to time; others are counted when they ask.
CREATE TABLE media_report (
  tenant    uuid        PRIMARY KEY,            -- no reference, as with the totals
  made_time timestamptz,                        -- null: not yet
  took      interval    NOT NULL DEFAULT '0'
);
CREATE TABLE media_usage (
  tenant  uuid     NOT NULL,
  account uuid     NOT NULL,                    -- zeros: all of the tenant
  kind    smallint NOT NULL,                    -- 0: all; 1: by category; 2: by age
  number  smallint NOT NULL,                    -- of the category or the age
  files   bigint   NOT NULL,
  bytes   bigint   NOT NULL,
  saved   bigint   NOT NULL,                    -- bytes, by compressing; 0 for accounts
  PRIMARY KEY (tenant, account, kind, number)
);
CREATE INDEX ON media_usage (tenant, bytes DESC, account DESC) WHERE kind = 0;

-- What is there: what came with messages has the mesh's time from now on, since nothing is known to refer to it.
UPDATE media m SET keep_until = coalesce(m.expire_time, CASE m.origin WHEN 2 THEN now() + interval '30 days' END),
    expire_time = coalesce(m.expire_time, CASE m.origin WHEN 2 THEN now() + interval '30 days' END),
    stored_size = o.size, saved_size = m.original_size - o.size
  FROM media_object o WHERE o.tenant = m.tenant AND o.sha256 = m.sha256;

DROP INDEX media_loose_object_tenant_idx;
CREATE INDEX ON media_loose_object (tenant, due_time) INCLUDE (size, uploading);
-- What is stored, by age and account, read from the index alone.
CREATE INDEX ON media (tenant, create_time) INCLUDE (id, stored_size, saved_size);
CREATE INDEX ON media (tenant, id) INCLUDE (stored_size, origin, account);
DROP INDEX media_tenant_id_idx;

-- Writing -------------------------------------------------------------------------------------------------------------

-- As before, but that it takes what messages refer to, too.
CREATE TYPE journal_reference AS (acc int, message uuid, media uuid, category smallint, since bigint);
DROP FUNCTION journal_write;

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
  m_network text[], m_trace text[], m_priority smallint[], m_due bigint[], m_external text[], m_labels text[],
  s_acc int[], s_id uuid[], s_status smallint[], s_time bigint[],
  s_sent bigint[], s_failure smallint[], s_code int[], s_detail text[], s_network text[], s_round smallint[],
  e_acc int[], e_id uuid[], e_type text[], e_body bytea[], e_status int[],
  c_acc int[], c_blob bytea[],
  inbound journal_inbound[], actions journal_action[], sessions journal_session[], disconnects journal_disconnect[],
  contents journal_content[], fetches journal_fetch[], receipts journal_receipt[],
  give_back smallint[], give_back_epoch bigint[],
  e_become smallint[] DEFAULT '{}', e_receipt int[] DEFAULT '{}', people journal_person[] DEFAULT '{}', marks journal_mark[] DEFAULT '{}',
  places journal_place[] DEFAULT '{}', refs journal_reference[] DEFAULT '{}')
RETURNS jsonb LANGUAGE plpgsql
-- Plans are cached from the first calls, often over empty tables, with arrays guessed at 10 elements: without these a status
-- change scans `message` whole, for as long as the connection lives. Array x table is always one index probe per element here.
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
AS $$
#variable_conflict use_column
DECLARE
  gone int[]; skip int[] := '{}'; risen int[]; was jsonb; told int[]; reply jsonb; found_before jsonb; written int; expected int; settling uuid[];
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
    INSERT INTO message (id, account, epoch, direction, origin, status, priority, chat, network_id, content, traceparent, external_id,
        labels)
      SELECT id, a_account[acc], a_epoch[acc], 1, 1, 10, coalesce(priority, 0), chat, coalesce(network, ''), content,
        coalesce(trace, ''), coalesce(external, ''), labels::jsonb
      FROM unnest(m_acc, m_id, m_chat, m_content, m_network, m_trace, m_priority, m_external, m_labels) WITH ORDINALITY
        AS m(acc, id, chat, content, network, trace, priority, external, labels, row)
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
    INSERT INTO message (id, account, epoch, direction, origin, status, chat, network_id, content, traceparent, network_time)
      SELECT id, a_account[acc], a_epoch[acc], direction, CASE direction WHEN 1 THEN 2 ELSE 0 END, status, chat, network_id, content,
        traceparent, at_micros(network_time)
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

  IF s_id <> '{}' THEN                     -- the writer has already reduced: as a rule one row per message, else one in each round
    risen := '{}';
    IF e_become <> '{}' THEN               -- several events of one change: each is told if it alone would have been news
      SELECT jsonb_object_agg(s.row, m.status) INTO was
        FROM unnest(s_acc, s_id) WITH ORDINALITY AS s(acc, id, row)
        JOIN message m ON m.account = a_account[s.acc] AND m.id = s.id
        WHERE s.row IN (SELECT status FROM unnest(e_status, e_become) AS e(status, become) WHERE become IS NOT NULL);
    END IF;
    FOR turn IN 0 .. CASE s_round WHEN '{}' THEN 0 ELSE (SELECT max(r) FROM unnest(s_round) AS r) END LOOP
      WITH changed AS (
        UPDATE message m SET status = s.status, update_time = at_micros(s.time),
            network_time = coalesce(at_micros(s.sent), m.network_time),
            failure = coalesce(s.failure, 0), failure_code = s.code, failure_detail = coalesce(s.detail, ''),
            network_id = coalesce(s.network, m.network_id)
          FROM unnest(s_acc, s_id, s_status, s_time, s_sent, s_failure, s_code, s_detail, s_network, s_round) WITH ORDINALITY
            AS s(acc, id, status, time, sent, failure, code, detail, network, round, row)
          WHERE m.account = a_account[s.acc] AND m.id = s.id AND message_may_become(m.status, s.status) AND acc <> ALL (gone)
            AND coalesce(s.round, 0) = turn
          RETURNING s.row)
      SELECT risen || coalesce(array_agg(row::int), '{}') INTO risen FROM changed;
    END LOOP;
    DELETE FROM outbox o USING unnest(s_acc, s_id, s_status) AS s(acc, id, status)
      WHERE o.shard = a_shard[acc] AND o.message = s.id AND s.status NOT IN (10, 20) AND acc <> ALL (gone);
    IF s_network <> '{}' THEN              -- networks that choose the id themselves
      INSERT INTO network_message (account, network_id, message)
        SELECT a_account[acc], network, id FROM unnest(s_acc, s_id, s_network) WITH ORDINALITY AS s(acc, id, network, row)
        WHERE network IS NOT NULL AND row = ANY (risen) ON CONFLICT DO NOTHING;
    END IF;
  END IF;
  IF receipts <> '{}' THEN
    IF e_receipt <> '{}' THEN
      SELECT array_agg(r.row::int) INTO told FROM (SELECT row_number() OVER () AS row, * FROM unnest(receipts)) r
        LEFT JOIN message_receipt old ON old.message = r.message AND old.member = r.member
        WHERE old.status IS NULL OR old.status < r.status;
    END IF;
    INSERT INTO message_receipt AS old (message, member, status, time)
      SELECT DISTINCT ON (message, member) message, member, status, at_micros(time) FROM unnest(receipts) WHERE acc <> ALL (gone)
        ORDER BY message, member, status DESC
      ON CONFLICT (message, member) DO UPDATE SET status = excluded.status, time = excluded.time WHERE old.status < excluded.status;
  END IF;
  IF places <> '{}' THEN
    UPDATE message m SET direction = p.direction, origin = CASE p.direction WHEN 1 THEN 2 ELSE 0 END, status = p.status, chat = p.chat,
        content = p.content, network_time = at_micros(p.network_time), edit_time = at_micros(p.edit_time)
      FROM unnest(places) AS p WHERE m.account = a_account[p.acc] AND m.id = p.id AND acc <> ALL (gone)
        AND m.network_time IS NULL AND octet_length(m.content) > 0;
  END IF;
  IF contents <> '{}' THEN                 -- what was emptied since it was read stays so
    UPDATE message m SET content = c.content, edit_time = coalesce(at_micros(c.edit_time), m.edit_time)
      FROM unnest(contents) AS c WHERE m.account = a_account[c.acc] AND m.id = c.id AND acc <> ALL (gone)
        AND octet_length(m.content) > 0;
  END IF;
  IF marks <> '{}' THEN
    INSERT INTO media_fetch (message, account, shard, blob)
      SELECT message, a_account[acc], a_shard[acc], blob FROM unnest(marks) WHERE acc <> ALL (gone) ON CONFLICT DO NOTHING;
  END IF;
  IF fetches <> '{}' THEN
    DELETE FROM media_fetch f USING unnest(fetches) AS x WHERE f.message = x.message AND x.retry_at IS NULL AND acc <> ALL (gone);
    UPDATE media_fetch f SET attempts = attempts + 1, due_at = at_micros(x.retry_at) FROM unnest(fetches) AS x
      WHERE f.message = x.message AND x.retry_at IS NOT NULL AND acc <> ALL (gone);
  END IF;

  IF refs <> '{}' THEN                     -- to media that were deleted meanwhile there are none
    PERFORM FROM media WHERE id IN (SELECT media FROM unnest(refs)) ORDER BY id FOR KEY SHARE;
    WITH referring AS (
      INSERT INTO media_reference AS old (media, message, tenant, account, category, create_time)
        SELECT DISTINCT ON (m.id, r.message) m.id, r.message, m.tenant, a_account[r.acc], r.category,
          coalesce(at_micros(r.since), now())
        FROM (SELECT row_number() OVER () AS row, * FROM unnest(refs)) r
          JOIN media m ON m.id = r.media AND m.tenant = a_tenant[r.acc]
          JOIN message s ON s.account = a_account[r.acc] AND s.id = r.message
        WHERE acc <> ALL (gone) ORDER BY m.id, r.message, r.row DESC
        ON CONFLICT (media, message) DO UPDATE SET category = excluded.category, create_time = excluded.create_time
          WHERE old.category <> excluded.category
        RETURNING media)
    SELECT array_agg(media) INTO settling FROM referring;
    PERFORM media_settle(settling);
  END IF;

  IF e_id <> '{}' THEN
    -- e_status: only if that row of s_* rose; e_become: and the status before it may become this one;
    -- e_receipt: only if that row of `receipts` says more than was known
    INSERT INTO event (id, seq, tenant, account, epoch, type, body)
      SELECT id, messages + arrived + acted + row, a_tenant[acc], a_account[acc], a_epoch[acc], type, body
      FROM unnest(e_acc, e_id, e_type, e_body, e_status, e_become, e_receipt) WITH ORDINALITY
        AS e(acc, id, type, body, status, become, receipt, row)
      WHERE acc <> ALL (gone) AND (status IS NULL OR status = ANY (risen))
        AND (become IS NULL OR message_may_become((was ->> status::text)::smallint, become))
        AND (receipt IS NULL OR receipt = ANY (told));
  END IF;
  IF sessions <> '{}' THEN
    INSERT INTO session (account, tenant, epoch, node, state, cause, detail, phone, network_user_id, push_name, paired,
        recent_failures, sent, received, failed, connects, settings, connect_time, last_heard_time, next_connect_time, update_time,
        hidden_id, last_inbound_time, restrictions)
      SELECT a_account[acc], a_tenant[acc], a_epoch[acc], node, state, cause, detail, phone, network_user_id, push_name, paired,
        recent_failures, sent, received, failed, connects, settings, at_micros(connect_time), at_micros(last_heard_time),
        at_micros(next_connect_time), at_micros(update_time), hidden_id, at_micros(last_inbound_time), restrictions
      FROM unnest(sessions) WHERE acc <> ALL (gone)
      ON CONFLICT (account) DO UPDATE SET epoch = excluded.epoch, node = excluded.node, state = excluded.state,
        cause = excluded.cause, detail = excluded.detail, phone = excluded.phone, network_user_id = excluded.network_user_id,
        push_name = excluded.push_name, paired = excluded.paired, recent_failures = excluded.recent_failures,
        sent = excluded.sent, received = excluded.received, failed = excluded.failed, connects = excluded.connects,
        settings = excluded.settings, connect_time = excluded.connect_time, last_heard_time = excluded.last_heard_time,
        next_connect_time = excluded.next_connect_time, update_time = excluded.update_time, hidden_id = excluded.hidden_id,
        last_inbound_time = excluded.last_inbound_time, restrictions = excluded.restrictions;
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

  IF people <> '{}' THEN                   -- the writer has already reduced: one row per person
    INSERT INTO person_identity AS old (account, person, phone, user_id, hidden_id, username, display_name, update_time)
      SELECT a_account[acc], person, phone, user_id, hidden_id, username, display_name, at_micros(time) FROM unnest(people)
        WHERE acc <> ALL (gone)
      ON CONFLICT (account, person) DO UPDATE SET phone = coalesce(nullif(excluded.phone, ''), old.phone),
        user_id = coalesce(nullif(excluded.user_id, ''), old.user_id),
        hidden_id = coalesce(nullif(excluded.hidden_id, ''), old.hidden_id),
        username = coalesce(nullif(excluded.username, ''), old.username),
        display_name = coalesce(nullif(excluded.display_name, ''), old.display_name), update_time = excluded.update_time
        WHERE old.update_time < excluded.update_time - interval '1 day'
          OR (excluded.phone, excluded.user_id, excluded.hidden_id, excluded.username, excluded.display_name)
            IS DISTINCT FROM (old.phone, old.user_id, old.hidden_id, old.username, old.display_name);
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
