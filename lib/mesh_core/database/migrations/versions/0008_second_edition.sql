-- The second edition of the API: what it stores besides, or otherwise.

-- Rows of the first edition ---------------------------------------------------------------------------------------------

-- Stored requests, messages and events of the first edition cannot be read any more: such a database stays as it is.
DO $$ BEGIN
  IF EXISTS (SELECT FROM tenant) OR EXISTS (SELECT FROM api_key) OR EXISTS (SELECT FROM account) OR EXISTS (SELECT FROM message)
      OR EXISTS (SELECT FROM event) OR EXISTS (SELECT FROM job) THEN
    RAISE EXCEPTION 'the database has data of the first edition of the API, which this release cannot read: '
      'keep the release that it belongs to, or begin with an empty database' USING ERRCODE = 'SM002';
  END IF;
END $$;

-- Webhooks --------------------------------------------------------------------------------------------------------------

-- Headers are secrets: sealed, and only their names are readable.
ALTER TABLE webhook_endpoint DROP COLUMN headers,
  ADD COLUMN headers      bytea,                              -- sealed JSON of names and values; null: none
  ADD COLUMN header_names text[] NOT NULL DEFAULT '{}',       -- sorted
  ALTER COLUMN rate_per_second DROP DEFAULT, ALTER COLUMN rate_per_second DROP NOT NULL;    -- null: no limit
-- Null: there was no answer.
ALTER TABLE webhook_delivery ALTER COLUMN last_status DROP DEFAULT, ALTER COLUMN last_status DROP NOT NULL;
ALTER TABLE webhook_attempt ALTER COLUMN status DROP NOT NULL;

-- Media -----------------------------------------------------------------------------------------------------------------

ALTER TABLE media
  ADD COLUMN account            uuid,                         -- whom it is for. No reference: media outlive accounts
  ADD COLUMN declared_mime_type text     NOT NULL DEFAULT '', -- where it is not the type of the bytes
  ADD COLUMN unprocessed        smallint NOT NULL,            -- sessionmesh.v1.UnprocessedReason
  ADD COLUMN animated           boolean  NOT NULL DEFAULT false,
  ALTER COLUMN width DROP DEFAULT, ALTER COLUMN width DROP NOT NULL,        -- null: unknown
  ALTER COLUMN height DROP DEFAULT, ALTER COLUMN height DROP NOT NULL;
CREATE INDEX ON media (account, id) WHERE account IS NOT NULL;
ALTER TABLE media_loose_object ADD COLUMN uploading boolean NOT NULL DEFAULT false;   -- what is not is to be deleted

-- Jobs ------------------------------------------------------------------------------------------------------------------

ALTER TABLE job RENAME COLUMN bytes TO done_bytes;
ALTER TABLE job
  ADD COLUMN account     uuid,                                -- null: of none. No reference, as with the tenant
  ADD COLUMN dry_run     boolean NOT NULL DEFAULT false,
  ADD COLUMN total_bytes bigint,                              -- null: unknown
  ALTER COLUMN total DROP DEFAULT, ALTER COLUMN total DROP NOT NULL;        -- null: unknown

-- Keys ------------------------------------------------------------------------------------------------------------------

-- No references: what a key was limited to it stays limited to when the accounts are gone. Null: not limited.
ALTER TABLE api_key ADD COLUMN account_ids uuid[] CHECK (account_ids <> '{}');
