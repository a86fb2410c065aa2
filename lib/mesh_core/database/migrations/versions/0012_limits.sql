-- Secrets before the previous one, each good until the end of its own overlap. The version before keeps only the
-- previous one, and leaves these as they are.
ALTER TABLE api_key
  ADD COLUMN older_hashes       bytea[]       NOT NULL DEFAULT '{}',
  ADD COLUMN older_expire_times timestamptz[] NOT NULL DEFAULT '{}',
  ADD CONSTRAINT api_key_older CHECK (cardinality(older_hashes) = cardinality(older_expire_times));
