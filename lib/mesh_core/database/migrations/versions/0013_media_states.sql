-- Media that are not READY at once: accepted, and processed or fetched later. What processing finds out besides.
ALTER TABLE media
  ADD COLUMN state            smallint NOT NULL DEFAULT 2,    -- sessionmesh.v1.MediaState
  ADD COLUMN failure          smallint NOT NULL DEFAULT 0,    -- sessionmesh.v1.MediaFailure
  ADD COLUMN purpose          smallint NOT NULL DEFAULT 0,    -- sessionmesh.v1.MediaPurpose it was processed for
  ADD COLUMN compression      smallint NOT NULL DEFAULT 0,    -- sessionmesh.v1.Compression it was processed with; 0: not known
  ADD COLUMN duration_ms      bigint,                         -- null: unknown
  ADD COLUMN waveform         bytea    NOT NULL DEFAULT '',
  ADD COLUMN preview          bytea    NOT NULL DEFAULT '',   -- JPEG of at most 4 KiB; empty: none
  ADD COLUMN thumbnail_sha256 bytea,                          -- null: it has none
  ADD COLUMN thumbnail_width  int,
  ADD COLUMN thumbnail_height int,
  ADD COLUMN original_kept    boolean  NOT NULL DEFAULT false,    -- the object of original_sha256 is kept, too
  ALTER COLUMN sha256 DROP NOT NULL,                          -- null: there are no bytes yet, or they are lost
  ALTER COLUMN original_sha256 DROP NOT NULL,                 -- null: nothing came yet
  ADD FOREIGN KEY (tenant, thumbnail_sha256) REFERENCES media_object;
CREATE INDEX ON media (tenant, thumbnail_sha256) WHERE thumbnail_sha256 IS NOT NULL;
CREATE INDEX ON media (tenant, original_sha256);
COMMENT ON COLUMN media_object.media IS 'references by media: as their bytes, thumbnails and kept originals, each counted';

-- What is still to be done to a PENDING media. Any replica claims it.
CREATE TABLE media_work (
  media         uuid        PRIMARY KEY REFERENCES media ON DELETE CASCADE,
  tenant        uuid        NOT NULL,
  kind          smallint    NOT NULL,                 -- 1: process the stored bytes; 2: fetch them
  options       bytea       NOT NULL,                 -- sessionmesh.v1.StorageOptions
  url           text        NOT NULL DEFAULT '',
  with_headers  boolean     NOT NULL DEFAULT false,   -- of the request to it; they are not stored
  due_time      timestamptz NOT NULL DEFAULT now(),   -- who claims it puts it off
  attempts      int         NOT NULL DEFAULT 0
);
CREATE INDEX ON media_work (tenant, kind, due_time);
