-- Who did what: the calls that changed something that lives on, or tried to. Every part that takes calls writes here.

CREATE TABLE audit_event (
  id             uuid     PRIMARY KEY,              -- of the time when the call ended
  tenant         uuid,                              -- null: the mesh's own
  account        uuid,
  key_id         text     NOT NULL,                 -- as callers know it; '' without a valid one
  key_name       text     NOT NULL,                 -- as it was then
  method         text     NOT NULL,                 -- /service/name
  resource       text     NOT NULL,
  changed_fields text     NOT NULL,                 -- a line for each
  code           smallint NOT NULL,                 -- of `status`, 0: OK
  status         bytea    NOT NULL,                 -- a serialised google.rpc.Status
  source         text     NOT NULL,
  request_id     text     NOT NULL,
  user_agent     text     NOT NULL,
  traceparent    text     NOT NULL
);
CREATE INDEX ON audit_event (tenant, id);
CREATE INDEX ON audit_event (account, id) WHERE account IS NOT NULL;
CREATE INDEX ON audit_event (key_id, id);
