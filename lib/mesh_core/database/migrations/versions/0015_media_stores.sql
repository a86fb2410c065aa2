-- Several object stores: each key says where its bytes are, and one store takes what is new.

-- `NAME:path`, or only the path in the store `main`, which was the only one before.
ALTER TABLE media_object
  ADD COLUMN store text NOT NULL GENERATED ALWAYS AS
    (CASE WHEN strpos(key, ':') = 0 THEN 'main' ELSE split_part(key, ':', 1) END) STORED;
CREATE INDEX ON media_object (store, key);

CREATE TABLE media_storage (
  single boolean PRIMARY KEY DEFAULT true CHECK (single),
  store  text    NOT NULL DEFAULT 'main'          -- takes new objects
);
INSERT INTO media_storage DEFAULT VALUES;

-- Storage moves to one place at a time.
CREATE UNIQUE INDEX job_one_migration ON job (kind) WHERE kind = 3 AND NOT dry_run AND end_time IS NULL;
