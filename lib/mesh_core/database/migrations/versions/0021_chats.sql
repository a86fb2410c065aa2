-- Chats, as an account's owner knows them. Storing a message costs nothing here: what is new is folded in when somebody asks.

ALTER TABLE message ADD COLUMN beside smallint;     -- null: a message as any other; 1: of the past; 2: a reaction or a vote

CREATE TABLE chat (
  account       uuid             NOT NULL,      -- no reference: the journal writes it
  chat          text COLLATE "C" NOT NULL,      -- an address, as messages have it
  same_as       text COLLATE "C",               -- the chat that messages under this address are in: itself, or another address of the
                                                -- same person, and then `read_until` alone is used here; null: nobody has looked yet
  last_message  uuid,                           -- null: it was cleared
  last_time     timestamptz      NOT NULL,      -- of the last message, by the network; without one, when the chat was made
  unread        int              NOT NULL DEFAULT 0,
  counted       uuid,                           -- the latest message that `unread` has counted, or not because it is read
  read_until    uuid,                           -- messages up to this one are read; null: nobody said so
  emptied_until uuid,                           -- the last message when it was cleared or deleted
  deleted       boolean          NOT NULL DEFAULT false,    -- it was deleted, and nothing has come since
  archived      boolean          NOT NULL DEFAULT false,
  marked_unread boolean          NOT NULL DEFAULT false,
  pinned        boolean          NOT NULL DEFAULT false,
  mute_until    bigint           NOT NULL DEFAULT 0,        -- microseconds since the epoch; 0: it is not muted
  disappear     int              NOT NULL DEFAULT 0,        -- seconds after which messages disappear; 0: never
  name          text             NOT NULL DEFAULT '',       -- what the network calls it
  PRIMARY KEY (account, chat)                   -- an account has thousands at most, which are read and sorted
) WITH (fillfactor = 80);
CREATE INDEX chat_other_address ON chat (account, same_as) WHERE same_as <> chat;
CREATE INDEX chat_new_address ON chat (account) WHERE same_as IS NULL;

ALTER TABLE person_identity ADD COLUMN folded boolean NOT NULL DEFAULT false;  -- there is one chat of all these names, if any
CREATE INDEX person_identity_new ON person_identity (account) WHERE NOT folded;

CREATE TABLE chat_fold (
  account uuid PRIMARY KEY,                     -- no reference, as above
  until   uuid NOT NULL,                        -- messages up to this one are in `chat`
  read    uuid NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000'  -- those before this one came when nobody kept chats: they are read
);
INSERT INTO chat_fold SELECT id, '00000000-0000-0000-0000-000000000000', uuid_at(now()) FROM account;

-- The past of chats, which the owners of accounts fetch as jobs.
ALTER TABLE job ADD COLUMN shard smallint;          -- of the account; null: nobody looks for jobs of this kind by it
CREATE INDEX job_of_shard ON job (kind, shard) WHERE end_time IS NULL AND shard IS NOT NULL;
CREATE TYPE journal_job AS (acc int, job uuid, state smallint, detail text, done bigint, error bytea);

CREATE INDEX account_record_group_member ON account_record (account, member, key) WHERE kind = 11;  -- in which groups somebody is

CREATE FUNCTION uuid_time(id uuid) RETURNS timestamptz LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
  SELECT to_timestamp(('x0000' || left(translate(id::text, '-', ''), 12))::bit(64)::bigint / 1000.0)
$$;
COMMENT ON FUNCTION uuid_time IS 'When a UUIDv7 was made.';

CREATE FUNCTION chat_addresses(of_account uuid, head text) RETURNS text[] LANGUAGE sql STABLE AS $$
  SELECT head || array(SELECT chat FROM chat WHERE account = of_account AND same_as = head AND same_as <> chat ORDER BY chat)
$$;
COMMENT ON FUNCTION chat_addresses IS 'All addresses that messages of a chat have.';

-- A number or a user name that was told of somebody else later, whose lasting id is another, is no longer this person's.
CREATE FUNCTION person_names(p person_identity) RETURNS text[] LANGUAGE sql STABLE AS $$
  SELECT array_remove(ARRAY[
    'user:' || nullif(p.user_id, ''), 'hidden:' || nullif(p.hidden_id, ''),
    CASE WHEN p.phone <> '' AND NOT EXISTS (SELECT FROM person_identity l WHERE l.account = p.account AND l.phone <> ''
        AND l.phone = p.phone AND (l.update_time, l.person) > (p.update_time, p.person)
        AND (least(l.user_id, p.user_id) <> '' AND l.user_id <> p.user_id
          OR least(l.hidden_id, p.hidden_id) <> '' AND l.hidden_id <> p.hidden_id)) THEN 'phone:' || p.phone END,
    CASE WHEN p.username <> '' AND NOT EXISTS (SELECT FROM person_identity l WHERE l.account = p.account AND l.username <> ''
        AND l.username = p.username AND (l.update_time, l.person) > (p.update_time, p.person)
        AND (least(l.user_id, p.user_id) <> '' AND l.user_id <> p.user_id
          OR least(l.hidden_id, p.hidden_id) <> '' AND l.hidden_id <> p.hidden_id)) THEN 'username:' || p.username END], NULL)
$$;

CREATE FUNCTION person_names(of_account uuid, address text) RETURNS text[] LANGUAGE plpgsql STABLE AS $$
DECLARE
  names text[] := ARRAY[address]; more text[];
BEGIN
  LOOP
    SELECT array_agg(DISTINCT name) INTO more FROM person_identity p, person_names(p) AS valid, unnest(valid) AS name
      WHERE p.account = of_account AND valid && names AND name <> ALL (names)
        AND (p.person = ANY (names)
          OR p.phone <> '' AND p.phone = ANY (array(SELECT substr(n, 7) FROM unnest(names) AS n WHERE n LIKE 'phone:%'))
          OR p.hidden_id <> '' AND p.hidden_id = ANY (array(SELECT substr(n, 8) FROM unnest(names) AS n WHERE n LIKE 'hidden:%'))
          OR p.username <> '' AND p.username = ANY (array(SELECT substr(n, 10) FROM unnest(names) AS n WHERE n LIKE 'username:%')));
    IF more IS NULL THEN
      RETURN names;
    END IF;
    names := names || more;
  END LOOP;
END $$;
COMMENT ON FUNCTION person_names(uuid, text) IS 'All addresses of who has this one, as far as an account was told.';

-- Makes one chat of those that a person has, whose names these are. What was set of one of them is set of it, but that it is archived
-- only where all were; it stands under the number, where messages have it. Whoever has lost a number to this person leaves it the
-- chat that it was in, and has one of their own from their next message on.
CREATE FUNCTION chat_join(of_account uuid, names text[]) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  heads text[]; head text; addresses text[]; left_behind text[]; one text;
BEGIN
  SELECT array_agg(DISTINCT coalesce(same_as, chat)) INTO heads FROM chat WHERE account = of_account AND chat = ANY (names);
  addresses := heads || array(SELECT chat FROM chat WHERE account = of_account AND same_as = ANY (heads) AND same_as <> chat);
  WITH leaving AS (
    UPDATE chat c SET same_as = c.chat, last_message = NULL, unread = 0, emptied_until = NULL, deleted = true, archived = false,
        marked_unread = false, pinned = false, mute_until = 0, disappear = 0, name = '', last_time = h.last_time, counted = h.counted
      FROM chat h
      WHERE c.account = of_account AND c.chat = ANY (addresses) AND c.chat <> ALL (heads) AND c.chat <> ALL (names)
        AND h.account = of_account AND h.chat = c.same_as
        AND split_part(c.chat, ':', 1) IN ('user', 'hidden')
        AND EXISTS (SELECT FROM unnest(names) AS n WHERE split_part(n, ':', 1) = split_part(c.chat, ':', 1))
      RETURNING c.chat)
  SELECT coalesce(array_agg(chat), '{}') INTO left_behind FROM leaving;
  addresses := array(SELECT unnest(addresses) EXCEPT SELECT unnest(left_behind));
  SELECT chat INTO head FROM unnest(addresses) AS chat
    ORDER BY array_position(ARRAY['phone', 'user', 'hidden', 'username'], split_part(chat, ':', 1)), chat COLLATE "C" LIMIT 1;
  IF heads <> ARRAY[head] THEN
    UPDATE chat c SET last_message = m.last_message, last_time = m.last_time, unread = m.unread, counted = m.counted,
        emptied_until = m.emptied_until, deleted = m.deleted, archived = m.archived, marked_unread = m.marked_unread,
        pinned = m.pinned, mute_until = m.mute_until, disappear = m.disappear, name = m.name
      FROM (SELECT (array_agg(last_message ORDER BY last_time DESC, last_message DESC) FILTER (WHERE last_message IS NOT NULL))[1]
            AS last_message,
          coalesce(max(last_time) FILTER (WHERE last_message IS NOT NULL), max(last_time)) AS last_time,
          sum(unread) AS unread, max(counted::text)::uuid AS counted, max(emptied_until::text)::uuid AS emptied_until,
          bool_and(deleted) AS deleted, bool_or(archived) AND bool_and(archived OR deleted) AS archived,
          bool_or(marked_unread) AS marked_unread, bool_or(pinned) AS pinned, max(mute_until) AS mute_until,
          max(disappear) AS disappear,
          coalesce((array_agg(name ORDER BY chat <> head, chat) FILTER (WHERE name <> ''))[1], '') AS name
        FROM chat WHERE account = of_account AND chat = ANY (heads)) AS m
      WHERE c.account = of_account AND c.chat = head;
  END IF;
  UPDATE chat SET same_as = head WHERE account = of_account AND chat = ANY (addresses) AND same_as IS DISTINCT FROM head;
  FOREACH one IN ARRAY left_behind LOOP
    PERFORM chat_join(of_account, person_names(of_account, one));
  END LOOP;
END $$;

-- Folds an account's messages, and what was learnt of who is who, into its chats; returns how many of either were new, at most `most`:
-- as long as it is that many, there may be more. Ids are almost in the order of their commits: what is up to five minutes behind is
-- looked at again, which changes nothing where it is folded already. Any process may call it, at any time.
CREATE FUNCTION chat_fold(of_account uuid, most int) RETURNS int LANGUAGE plpgsql
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
AS $$
DECLARE
  since uuid; late uuid; latest uuid; before uuid; looked int; learnt int; several text[]; one text;
BEGIN
  SELECT until INTO since FROM chat_fold WHERE account = of_account;
  IF since IS NULL THEN
    INSERT INTO chat_fold (account, until) VALUES (of_account, '00000000-0000-0000-0000-000000000000') ON CONFLICT DO NOTHING;
  END IF;
  late := CASE WHEN uuid_time(since) < '2000-01-01' THEN since ELSE uuid_at(uuid_time(since) - interval '5 minutes') END;
  IF NOT EXISTS (SELECT FROM message WHERE account = of_account AND (late IS NULL OR id > late))
    AND NOT EXISTS (SELECT FROM person_identity WHERE account = of_account AND NOT folded)
    AND NOT EXISTS (SELECT FROM chat WHERE account = of_account AND same_as IS NULL) THEN
    RETURN 0;
  END IF;
  SELECT until, read INTO since, before FROM chat_fold WHERE account = of_account FOR UPDATE;
  late := CASE WHEN uuid_time(since) < '2000-01-01' THEN since ELSE uuid_at(uuid_time(since) - interval '5 minutes') END;
  SELECT count(*), (array_agg(id ORDER BY id DESC))[1] INTO looked, latest
    FROM (SELECT id FROM message WHERE account = of_account AND id > since ORDER BY id LIMIT most) AS new;
  IF looked = most THEN                    -- it is called again, and then looks behind
    late := since;
  END IF;
  WITH came AS (
    SELECT m.id, coalesce(a.same_as, m.chat) AS chat, m.direction, m.beside, coalesce(m.network_time, uuid_time(m.id)) AS at,
      (m.id > a.read_until) IS NOT FALSE AS unread
    FROM message m LEFT JOIN chat a ON a.account = of_account AND a.chat = m.chat
    WHERE m.account = of_account AND m.id > late AND m.id <= coalesce(latest, since)
      AND m.chat NOT IN ('status', 'hidden:erased') AND m.beside IS DISTINCT FROM 2),
  folded AS (
    SELECT f.chat, max(f.at) AS at, (array_agg(f.id ORDER BY f.at DESC, f.id DESC))[1] AS last,
      count(*) FILTER (WHERE f.direction = 2 AND f.beside IS NULL AND f.unread AND f.id > greatest(c.counted, before)) AS unread,
      (array_agg(f.id ORDER BY f.id DESC) FILTER (WHERE f.direction = 2))[1] AS counted
    FROM came f LEFT JOIN chat c ON c.account = of_account AND c.chat = f.chat
    WHERE c.emptied_until IS NULL OR f.id > c.emptied_until GROUP BY f.chat)
  INSERT INTO chat AS c (account, chat, last_message, last_time, unread, counted)
    SELECT of_account, chat, last, at, unread, counted FROM folded ORDER BY chat
    ON CONFLICT (account, chat) DO UPDATE SET deleted = false, unread = c.unread + excluded.unread,
      counted = greatest(c.counted, excluded.counted),
      last_message = CASE WHEN c.last_message IS NULL OR (excluded.last_time, excluded.last_message) > (c.last_time, c.last_message)
        THEN excluded.last_message ELSE c.last_message END,
      last_time = CASE WHEN c.last_message IS NULL THEN excluded.last_time ELSE greatest(c.last_time, excluded.last_time) END
      WHERE excluded.unread > 0 OR c.last_message IS NULL OR (excluded.last_time, excluded.last_message) > (c.last_time, c.last_message);
  UPDATE chat_fold SET until = latest WHERE account = of_account AND latest > until;
  WITH marked AS (
    UPDATE person_identity SET folded = true WHERE account = of_account AND person IN (
      SELECT person FROM person_identity WHERE account = of_account AND NOT folded ORDER BY person LIMIT most)
    RETURNING person, phone, user_id, hidden_id, username),
  told AS (   -- what is new, and of whom there is a new address
    SELECT * FROM marked
    UNION ALL SELECT p.person, p.phone, p.user_id, p.hidden_id, p.username FROM chat c JOIN person_identity p
      ON p.account = of_account AND p.person = c.chat WHERE c.account = of_account AND c.same_as IS NULL
    UNION ALL SELECT p.person, p.phone, p.user_id, p.hidden_id, p.username FROM chat c JOIN person_identity p
      ON p.account = of_account AND p.phone <> '' AND p.phone = substr(c.chat, 7)
      WHERE c.account = of_account AND c.same_as IS NULL AND c.chat LIKE 'phone:%'
    UNION ALL SELECT p.person, p.phone, p.user_id, p.hidden_id, p.username FROM chat c JOIN person_identity p
      ON p.account = of_account AND p.hidden_id <> '' AND p.hidden_id = substr(c.chat, 8)
      WHERE c.account = of_account AND c.same_as IS NULL AND c.chat LIKE 'hidden:%'
    UNION ALL SELECT p.person, p.phone, p.user_id, p.hidden_id, p.username FROM chat c JOIN person_identity p
      ON p.account = of_account AND p.username <> '' AND p.username = substr(c.chat, 10)
      WHERE c.account = of_account AND c.same_as IS NULL AND c.chat LIKE 'username:%')
  SELECT (SELECT count(*) FROM marked), array_agg(DISTINCT person) INTO learnt, several FROM told t
    WHERE 1 < (SELECT count(*) FROM chat WHERE account = of_account
        AND chat IN ('user:' || t.user_id, 'hidden:' || t.hidden_id, 'phone:' || t.phone, 'username:' || t.username))
      OR t.phone <> '' AND EXISTS (SELECT FROM person_identity o
        WHERE o.account = of_account AND o.phone <> '' AND o.phone = t.phone AND o.person <> t.person)
      OR t.hidden_id <> '' AND EXISTS (SELECT FROM person_identity o
        WHERE o.account = of_account AND o.hidden_id <> '' AND o.hidden_id = t.hidden_id AND o.person <> t.person)
      OR t.username <> '' AND EXISTS (SELECT FROM person_identity o
        WHERE o.account = of_account AND o.username <> '' AND o.username = t.username AND o.person <> t.person);
  FOREACH one IN ARRAY coalesce(several, '{}') LOOP
    PERFORM chat_join(of_account, person_names(of_account, one));
  END LOOP;
  UPDATE chat SET same_as = chat WHERE account = of_account AND same_as IS NULL;
  RETURN greatest(looked, learnt);
END $$;

-- A change of a chat for `journal_write`, which 0022 has. What is null stays as it is; what can be set makes the chat where there is none.
CREATE TYPE journal_chat AS (acc int, chat text, time bigint, deleted boolean, cleared boolean, read_until uuid,
  archived boolean, marked_unread boolean, pinned boolean, mute_until bigint, disappear int, name text);
