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
