-- sessions_and_journal
SELECT 1;
