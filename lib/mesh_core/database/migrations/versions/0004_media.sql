-- Media: what tenants store, and the objects that hold the bytes.

CREATE TABLE media_object (                         -- bytes in the object store, once per tenant and content
  tenant      uuid        REFERENCES tenant,
  sha256      bytea,
  key         text        NOT NULL UNIQUE,          -- never used again, so a late delete cannot hit new bytes
  size        bigint      NOT NULL,
  media       int         NOT NULL CHECK (media > 0),   -- rows of media that share it
  PRIMARY KEY (tenant, sha256)
);

CREATE TABLE media (
  id              uuid        PRIMARY KEY,
  tenant          uuid        NOT NULL REFERENCES tenant,
  mime_type       text        NOT NULL,
  sha256          bytea       NOT NULL,
  original_size   bigint      NOT NULL,
  original_sha256 bytea       NOT NULL,
  file_name       text        NOT NULL DEFAULT '',
  width           int         NOT NULL DEFAULT 0,
  height          int         NOT NULL DEFAULT 0,
  origin          smallint    NOT NULL,
  labels          jsonb       NOT NULL DEFAULT '{}',
  create_time     timestamptz NOT NULL DEFAULT now(),
  expire_time     timestamptz,
  FOREIGN KEY (tenant, sha256) REFERENCES media_object
);
CREATE INDEX ON media (tenant, id);
CREATE INDEX ON media (tenant, sha256);
CREATE INDEX ON media (expire_time) WHERE expire_time IS NOT NULL;

-- Objects that no media row speaks for: being uploaded, or to be deleted. Written before the bytes are, so that
-- whatever crashes leaves no object that nobody knows of. An upload's row also holds its place in the quota.
CREATE TABLE media_loose_object (
  key      text        PRIMARY KEY,
  tenant   uuid        NOT NULL REFERENCES tenant,
  size     bigint      NOT NULL,
  due_time timestamptz NOT NULL                     -- when the object is deleted
);
CREATE INDEX ON media_loose_object (due_time);
CREATE INDEX ON media_loose_object (tenant);
