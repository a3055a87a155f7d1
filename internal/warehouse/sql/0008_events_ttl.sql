-- A site's retention_days says how long its events are kept, and a streamer deletes them. The TTL is behind the longest
-- possible retention.
ALTER TABLE events MODIFY TTL toDateTime(ts) + INTERVAL 11 YEAR
