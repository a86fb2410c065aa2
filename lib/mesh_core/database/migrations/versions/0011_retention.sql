-- retention
SELECT 1;
