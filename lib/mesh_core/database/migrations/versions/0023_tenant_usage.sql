-- What tenants use, by day. Every part adds what it has counted.

CREATE TABLE tenant_usage (
  tenant                 uuid   NOT NULL,
  day                    date   NOT NULL,              -- in UTC
  messages_sent          bigint NOT NULL,              -- that the network took
  messages_received      bigint NOT NULL,
  media_uploaded_bytes   bigint NOT NULL,
  media_downloaded_bytes bigint NOT NULL,
  webhook_attempts       bigint NOT NULL,
  PRIMARY KEY (tenant, day)
) WITH (fillfactor = 50);
CREATE INDEX ON tenant_usage (day);
