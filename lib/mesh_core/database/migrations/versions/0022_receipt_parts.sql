-- Receipts of groups' members, many in a row: a message to a thousand people is confirmed by all of them, and a row, an index entry
-- and an event for each cost more than all else of it. Rows of `message_receipt` are read until their day is dropped.

CREATE TABLE message_receipt_part (
  message  uuid  NOT NULL,                      -- no reference: the journal writes it
  part     uuid  NOT NULL,
  receipts bytea NOT NULL,                      -- sessionmesh.internal.v1.ReceiptPart
  PRIMARY KEY (message, part)
);
ALTER TABLE message_receipt_part ALTER COLUMN receipts SET STORAGE EXTERNAL;
ALTER TABLE event ALTER COLUMN body SET STORAGE EXTERNAL;       -- compressing those that name many members took more than all else of them

CREATE TYPE journal_receipt_part AS (acc int, message uuid, part uuid, receipts bytea);

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
  contents journal_content[], fetches journal_fetch[],
  give_back smallint[], give_back_epoch bigint[],
  e_become smallint[] DEFAULT '{}', e_receipt int[] DEFAULT '{}', people journal_person[] DEFAULT '{}', marks journal_mark[] DEFAULT '{}',
  places journal_place[] DEFAULT '{}', refs journal_reference[] DEFAULT '{}', driver_rows journal_driver_row[] DEFAULT '{}',
  records journal_record[] DEFAULT '{}', answers journal_answer[] DEFAULT '{}', chats journal_chat[] DEFAULT '{}',
  receipts journal_receipt[] DEFAULT '{}', parts journal_receipt_part[] DEFAULT '{}', jobs journal_job[] DEFAULT '{}')
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
        labels, beside)
      SELECT id, a_account[acc], a_epoch[acc], 1, 1, 10, coalesce(priority, 0), chat, coalesce(network, ''), content,
        coalesce(trace, ''), coalesce(external, ''), labels::jsonb, CASE method WHEN 4 THEN 2 END   -- reactions
      FROM unnest(m_acc, m_id, m_chat, m_content, m_network, m_trace, m_priority, m_external, m_labels, m_method) WITH ORDINALITY
        AS m(acc, id, chat, content, network, trace, priority, external, labels, method, row)
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
    INSERT INTO message (id, account, epoch, direction, origin, status, chat, network_id, content, traceparent, network_time, beside)
      SELECT id, a_account[acc], a_epoch[acc], direction, CASE direction WHEN 1 THEN 2 ELSE 0 END, status, chat, network_id, content,
        traceparent, at_micros(network_time),
        CASE WHEN type IS NULL THEN 1 WHEN type IN ('message.reaction', 'poll.voted') THEN 2 END
      FROM (SELECT row_number() OVER () AS row, * FROM unnest(inbound)) i WHERE acc <> ALL (gone) AND row <> ALL (skip);
    INSERT INTO event (id, seq, tenant, account, epoch, type, body)
      SELECT event, messages + row, a_tenant[acc], a_account[acc], a_epoch[acc], type, body
      FROM (SELECT row_number() OVER () AS row, * FROM unnest(inbound)) i
      WHERE event IS NOT NULL AND acc <> ALL (gone) AND row <> ALL (skip);
    INSERT INTO media_fetch (message, account, shard, blob)
      SELECT id, a_account[acc], a_shard[acc], media
      FROM (SELECT row_number() OVER () AS row, * FROM unnest(inbound)) i
      WHERE media IS NOT NULL AND acc <> ALL (gone) AND row <> ALL (skip);
  END IF;

  IF acted > 0 THEN
    INSERT INTO request (scope, method, request_id, digest, result, answer)
      SELECT a_account[acc], method, request_id, digest, result, (SELECT answer FROM unnest(answers) AS n WHERE n.result = x.result)
      FROM unnest(actions) AS x WHERE acc <> ALL (gone)
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
  IF receipts <> '{}' THEN                 -- of a node of the version before
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
  IF parts <> '{}' THEN                    -- the writer knows what is stored: these say more
    INSERT INTO message_receipt_part (message, part, receipts)
      SELECT message, part, receipts FROM unnest(parts) WHERE acc <> ALL (gone) ON CONFLICT DO NOTHING;
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
  IF driver_rows <> '{}' THEN              -- also where the message that they came with is a repeat; the writer has already reduced:
    DELETE FROM driver_row d USING unnest(driver_rows) AS r      -- without a key first, then one change of a key
      WHERE r.key IS NULL AND d.account = a_account[r.acc] AND r.acc <> ALL (gone);
    DELETE FROM driver_row_count d USING unnest(driver_rows) AS r
      WHERE r.key IS NULL AND d.account = a_account[r.acc] AND r.acc <> ALL (gone);
    WITH cut AS (
      DELETE FROM driver_row d USING unnest(driver_rows) AS r
        WHERE r.value IS NULL AND d.account = a_account[r.acc] AND d.key = r.key AND r.acc <> ALL (gone) RETURNING d.account),
    put AS (
      INSERT INTO driver_row AS d (account, key, value)
        SELECT a_account[r.acc], r.key, r.value FROM unnest(driver_rows) AS r WHERE r.value IS NOT NULL AND r.acc <> ALL (gone)
        ON CONFLICT (account, key) DO UPDATE SET value = excluded.value RETURNING d.account, d.xmax = 0 AS added)
    INSERT INTO driver_row_count AS old (account, rows)
      SELECT account, sum(change)::int
      FROM (SELECT account, -1 AS change FROM cut UNION ALL SELECT account, 1 FROM put WHERE added) AS changed
      GROUP BY account HAVING sum(change) <> 0
      ON CONFLICT (account) DO UPDATE SET rows = old.rows + excluded.rows;
  END IF;

  IF records <> '{}' THEN                  -- the writer has already reduced: one change of a record
    DELETE FROM account_record d USING unnest(records) AS r WHERE r.value IS NULL AND r.acc <> ALL (gone)
      AND d.account = a_account[r.acc] AND d.kind = r.kind AND d.key = r.key AND d.member = r.member;
    INSERT INTO account_record AS old (account, kind, key, member, value, time)
      SELECT a_account[acc], kind, key, member, value, at_micros(time) FROM unnest(records)
        WHERE value IS NOT NULL AND acc <> ALL (gone)
      ON CONFLICT (account, kind, key, member) DO UPDATE SET value = excluded.value, time = excluded.time;
  END IF;
  IF chats <> '{}' THEN                    -- the writer has already reduced: one change of a chat
    INSERT INTO chat_fold (account, until)
      SELECT DISTINCT a_account[acc], '00000000-0000-0000-0000-000000000000'::uuid FROM unnest(chats) WHERE acc <> ALL (gone)
      ON CONFLICT DO NOTHING;
    PERFORM FROM chat_fold WHERE account IN (SELECT a_account[acc] FROM unnest(chats) WHERE acc <> ALL (gone))
      ORDER BY account FOR UPDATE;         -- two addresses become one chat under this lock
    INSERT INTO chat AS c (account, chat, last_time, deleted)            -- one that is read, only: its messages are not folded yet
      SELECT a_account[acc], chat, at_micros(time), num_nonnulls(archived, marked_unread, pinned, mute_until, disappear, name) = 0
        FROM unnest(chats) AS x
        WHERE num_nonnulls(archived, marked_unread, pinned, mute_until, disappear, name, read_until) > 0 AND acc <> ALL (gone)
      ON CONFLICT (account, chat) DO NOTHING;
    UPDATE chat c SET
        deleted = x.deleted OR (c.deleted AND num_nonnulls(x.archived, x.marked_unread, x.pinned, x.mute_until, x.disappear, x.name) = 0),
        archived = NOT x.deleted AND coalesce(x.archived, c.archived),
        marked_unread = NOT x.deleted AND coalesce(x.marked_unread, c.marked_unread),
        pinned = NOT x.deleted AND coalesce(x.pinned, c.pinned),
        mute_until = CASE WHEN x.deleted THEN 0 ELSE coalesce(x.mute_until, c.mute_until) END,
        disappear = CASE WHEN x.deleted THEN 0 ELSE coalesce(x.disappear, c.disappear) END,
        name = coalesce(x.name, c.name),
        last_message = CASE WHEN x.deleted OR x.cleared THEN NULL ELSE c.last_message END,
        emptied_until = CASE WHEN x.deleted OR x.cleared THEN coalesce(c.last_message, c.emptied_until) ELSE c.emptied_until END,
        unread = CASE WHEN x.deleted OR x.cleared THEN 0 WHEN x.read_until IS NULL THEN c.unread ELSE least(c.unread, (
          SELECT count(*) FROM (SELECT m.id, m.chat, m.direction, m.beside FROM message m
            WHERE m.account = c.account AND m.id > x.read_until AND m.id <= c.counted ORDER BY m.id DESC LIMIT 5000) AS newer
          JOIN chat a ON a.account = c.account AND a.chat = newer.chat AND (a.chat = c.chat OR a.same_as = c.chat)
          WHERE newer.direction = 2 AND newer.beside IS NULL AND (newer.id > a.read_until) IS NOT FALSE)) END
      FROM unnest(chats) AS x JOIN chat named ON named.account = a_account[x.acc] AND named.chat = x.chat
      WHERE x.acc <> ALL (gone) AND c.account = named.account AND c.chat = coalesce(named.same_as, named.chat);
    UPDATE chat c SET read_until = greatest(x.read_until, c.read_until)   -- of each address: what was read before they were one chat
      FROM unnest(chats) AS x JOIN chat named ON named.account = a_account[x.acc] AND named.chat = x.chat
      WHERE x.read_until IS NOT NULL AND x.acc <> ALL (gone) AND c.account = named.account
        AND c.chat = ANY (chat_addresses(named.account, coalesce(named.same_as, named.chat)));
  END IF;
  IF jobs <> '{}' THEN                     -- the writer has already reduced: one row per job
    UPDATE job j SET state = s.state, detail = s.detail::jsonb, done = s.done, error = s.error, update_time = now(),
        end_time = CASE WHEN s.state > 2 THEN now() END
      FROM unnest(jobs) AS s WHERE j.id = s.job AND j.account = a_account[s.acc] AND j.end_time IS NULL AND s.acc <> ALL (gone);
  END IF;
  IF people <> '{}' THEN                   -- the writer has already reduced: one row per person
    INSERT INTO person_identity AS old (account, person, phone, user_id, hidden_id, username, display_name, update_time)
      SELECT a_account[acc], person, phone, user_id, hidden_id, username, display_name, at_micros(time) FROM unnest(people)
        WHERE acc <> ALL (gone)
      ON CONFLICT (account, person) DO UPDATE SET phone = coalesce(nullif(excluded.phone, ''), old.phone),
        user_id = coalesce(nullif(excluded.user_id, ''), old.user_id),
        hidden_id = coalesce(nullif(excluded.hidden_id, ''), old.hidden_id),
        username = coalesce(nullif(excluded.username, ''), old.username),
        display_name = coalesce(nullif(excluded.display_name, ''), old.display_name), update_time = excluded.update_time,
        folded = old.folded AND (excluded.phone, excluded.user_id, excluded.hidden_id, excluded.username)
          IS NOT DISTINCT FROM (old.phone, old.user_id, old.hidden_id, old.username)
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
