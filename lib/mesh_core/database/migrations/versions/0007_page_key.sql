-- What page tokens are signed with: 244 random bits that are the same for every process of the mesh, and that no caller knows.
ALTER TABLE cluster_identity ADD COLUMN page_key bytea;
UPDATE cluster_identity SET page_key = sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()));
ALTER TABLE cluster_identity ALTER COLUMN page_key SET NOT NULL;
