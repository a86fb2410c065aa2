-- Tenants, their keys, accounts, and what any service needs to answer a repeated request.

CREATE FUNCTION uuid_at(moment timestamptz) RETURNS uuid LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
  SELECT (lpad(to_hex((extract(epoch FROM moment) * 1000)::bigint), 12, '0') || repeat('0', 20))::uuid
$$;
COMMENT ON FUNCTION uuid_at IS 'The least UUIDv7 of a moment: ranges of ids are ranges of time.';

-- Which database this is. A copy restored on another server has another system identifier: cursors of the old one
-- would point at other events, so services refuse it until it is adopted under the next generation.
CREATE TABLE cluster_identity (
  single            boolean PRIMARY KEY DEFAULT true CHECK (single),
  system_identifier bigint  NOT NULL,
  generation        int     NOT NULL DEFAULT 1
);
INSERT INTO cluster_identity (system_identifier) SELECT system_identifier FROM pg_control_system();

CREATE TABLE tenant (
  id           uuid        PRIMARY KEY,
  external_id  text        UNIQUE,
  display_name text        NOT NULL DEFAULT '',
  state        smallint    NOT NULL DEFAULT 1,
  settings     jsonb       NOT NULL DEFAULT '{}',
  version      bigint      NOT NULL DEFAULT 1,      -- the etag; every update raises it
  create_time  timestamptz NOT NULL DEFAULT now(),
  update_time  timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE api_key (
  id            uuid        PRIMARY KEY,
  tenant        uuid        REFERENCES tenant,      -- null: an administrator's
  name          text        NOT NULL DEFAULT '',
  hash          bytea       NOT NULL,               -- SHA-256 of a secret of 256 random bits
  previous_hash bytea,                              -- of the secret before the last rotation, good for the overlap
  previous_expire_time timestamptz,
  scopes        text[]      NOT NULL DEFAULT '{}',
  role          smallint    NOT NULL,
  create_time   timestamptz NOT NULL DEFAULT now(),
  expire_time   timestamptz,
  revoke_time   timestamptz,
  last_use_time timestamptz
);
CREATE INDEX ON api_key (tenant, id);

CREATE TABLE tenant_key (                           -- data keys, wrapped by the master key; the highest version seals
  tenant      uuid        REFERENCES tenant,
  version     int,
  wrapped     bytea       NOT NULL,
  create_time timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (tenant, version)
);

CREATE TABLE account (                              -- desired state, written by the router alone
  id            uuid        PRIMARY KEY,
  tenant        uuid        NOT NULL REFERENCES tenant,
  external_id   text,
  display_name  text        NOT NULL DEFAULT '',
  driver        text        NOT NULL,
  phone         text        NOT NULL DEFAULT '',
  labels        jsonb       NOT NULL DEFAULT '{}',
  settings      jsonb       NOT NULL DEFAULT '{}',
  desired_state smallint    NOT NULL DEFAULT 1,
  shard         smallint    NOT NULL CHECK (shard BETWEEN 0 AND 4095),
  version       bigint      NOT NULL DEFAULT 1,
  create_time   timestamptz NOT NULL DEFAULT now(),
  update_time   timestamptz NOT NULL DEFAULT now(),
  delete_time   timestamptz,                        -- soft; the row goes at expire_time
  expire_time   timestamptz
);
CREATE INDEX ON account (tenant, id);
CREATE INDEX ON account (shard);
CREATE UNIQUE INDEX account_external_id ON account (tenant, external_id) WHERE delete_time IS NULL;
CREATE INDEX ON account (expire_time) WHERE expire_time IS NOT NULL;

-- One row per request id that acted: a repeat gets the first result. Not partitioned: a partition per day would
-- accept the same id again after midnight.
CREATE TABLE request (
  scope      uuid        NOT NULL,                  -- the account, or the tenant for what has no account
  method     smallint    NOT NULL,
  request_id text        NOT NULL,
  digest     bytea       NOT NULL,
  result     uuid        NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (scope, method, request_id)
);
CREATE INDEX ON request USING brin (created_at);
