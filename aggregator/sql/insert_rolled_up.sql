INSERT INTO rolled_up (before, since)
SELECT fromUnixTimestamp({before:Int64}), now() + INTERVAL 1 HOUR
