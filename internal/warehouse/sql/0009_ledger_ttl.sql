-- As that of events.
ALTER TABLE ledger MODIFY TTL minute + INTERVAL 11 YEAR
