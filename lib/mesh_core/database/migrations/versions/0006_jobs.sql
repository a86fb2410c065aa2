-- Long jobs, and what the router counts accounts with.

CREATE TABLE job (
  id          uuid        PRIMARY KEY,
  tenant      uuid,                                 -- null: the operator's. No reference: an ended job keeps no tenant
  kind        smallint    NOT NULL,                 -- sessionmesh.v1.JobKind
  state       smallint    NOT NULL DEFAULT 1,       -- sessionmesh.v1.JobState
  subject     text        NOT NULL DEFAULT '',
  detail      jsonb       NOT NULL DEFAULT '{}',    -- what else the job was asked for
  total       bigint      NOT NULL DEFAULT 0,
  done        bigint      NOT NULL DEFAULT 0,
  failed      bigint      NOT NULL DEFAULT 0,
  bytes       bigint      NOT NULL DEFAULT 0,
  error       bytea,                                -- serialised google.rpc.Status
  cancel_time timestamptz,                          -- when CancelJob asked for the end
  create_time timestamptz NOT NULL DEFAULT now(),
  update_time timestamptz NOT NULL DEFAULT now(),
  end_time    timestamptz
);
CREATE INDEX ON job (tenant, id);
CREATE INDEX job_unfinished ON job (kind) WHERE end_time IS NULL;
CREATE UNIQUE INDEX job_one_drain_per_node ON job (subject) WHERE kind = 2 AND end_time IS NULL;
CREATE INDEX ON job (end_time) WHERE end_time IS NOT NULL;

-- Every router counts the accounts that want a session about once a second.
CREATE INDEX account_online ON account (shard) WHERE delete_time IS NULL AND desired_state = 1;
