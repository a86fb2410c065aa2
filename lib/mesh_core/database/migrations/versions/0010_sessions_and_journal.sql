-- sessions_and_journal

-- Accounts that wait for a failing network (BACKOFF, NETWORK_FAILING), which routers count for their alarm: few but in an outage.
CREATE INDEX session_waiting ON session (node) WHERE state = 5 AND cause = 14;
