-- webhook_shares
SELECT 1;
