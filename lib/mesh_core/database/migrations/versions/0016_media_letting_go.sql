-- What lets media go: settled again once it is committed; FAILED ones end; limits and jobs are looked at some at a time.

-- Settling ------------------------------------------------------------------------------------------------------------

-- Media of which a reference changed its category. Two that change at once do not see each other, and each may take the file for
-- kept by the other one: so such media are settled once more by the media service, which sees what is committed. No key: nobody
-- waits for who notes the same file.
CREATE TABLE media_unsettled (
  media uuid NOT NULL                             -- no reference, so that a file's deletion has nothing to look for here
);
INSERT INTO media_unsettled SELECT DISTINCT media FROM media_reference WHERE category = 6;  -- those that were taken back

CREATE FUNCTION media_reference_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO media_unsettled VALUES (NEW.media);
  RETURN NULL;
END $$;
CREATE TRIGGER media_reference_changed AFTER UPDATE OF category, create_time ON media_reference
  FOR EACH ROW EXECUTE FUNCTION media_reference_changed();

CREATE FUNCTION media_settled(expire_time timestamptz, ends timestamptz) RETURNS timestamptz LANGUAGE sql STABLE AS $$
  SELECT CASE WHEN expire_time BETWEEN ends AND ends + late THEN expire_time ELSE ends + late END
  FROM (SELECT least(interval '1 hour', greatest(ends - now(), interval '0') / 24) AS late) AS may
$$;
COMMENT ON FUNCTION media_settled IS 'The expire_time of what ends then: the present one where it will do.';

-- As before, but what is written was found out under the lock of its row: who was waited for is seen.
CREATE OR REPLACE FUNCTION media_settle(ids uuid[]) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  wrong uuid[];
BEGIN
  SELECT array_agg(m.id) INTO wrong FROM media m
    WHERE m.id = ANY (ids) AND NOT m.ended AND m.expire_time IS DISTINCT FROM media_settled(m.expire_time, media_end(m));
  IF wrong IS NOT NULL THEN
    PERFORM FROM media WHERE id = ANY (wrong) ORDER BY id FOR NO KEY UPDATE;
    UPDATE media m SET expire_time = media_settled(m.expire_time, media_end(m)) WHERE m.id = ANY (wrong) AND NOT m.ended;
  END IF;
END $$;
COMMENT ON FUNCTION media_settle IS
  'Has expire_time follow rules and references. It may be up to an hour late: so what many refer to is not changed for each.';

-- FAILED media ----------------------------------------------------------------------------------------------------------

-- There is nothing to keep of one but why it failed: a week, and as long as messages refer to it.
CREATE FUNCTION media_fails() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  NEW.keep_until := now() + interval '7 days';
  NEW.expire_time := media_settled(NULL, media_end(NEW));
  RETURN NEW;
END $$;
CREATE TRIGGER media_fails BEFORE UPDATE OF state ON media FOR EACH ROW WHEN (NEW.state = 3 AND OLD.state <> 3)
  EXECUTE FUNCTION media_fails();
UPDATE media SET keep_until = now() + interval '7 days' WHERE state = 3;
SELECT media_settle(array_agg(id)) FROM media WHERE state = 3;

-- Work ----------------------------------------------------------------------------------------------------------------

ALTER TABLE media_work ADD COLUMN faults int NOT NULL DEFAULT 0;    -- attempts that failed for a reason of the file's own

-- The next job is looked for tenant by tenant, zeros being the operator's.
CREATE INDEX job_turns ON job (kind, coalesce(tenant, '00000000-0000-0000-0000-000000000000'), id) WHERE end_time IS NULL;
DROP INDEX job_unfinished;

-- Sweeping ------------------------------------------------------------------------------------------------------------

-- Each object that goes was checked against its tenant once more; it goes all the same.
ALTER TABLE media_loose_object DROP CONSTRAINT media_loose_object_tenant_fkey;
-- The mesh's own rules have this one.
ALTER TABLE tenant ADD CONSTRAINT tenant_is_not_the_mesh CHECK (id <> '00000000-0000-0000-0000-000000000000');
