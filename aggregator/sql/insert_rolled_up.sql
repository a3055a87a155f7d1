-- Not by the clock of an aggregator alone.
INSERT INTO rolled_up (before, since)
SELECT fromUnixTimestamp({before:Int64}) AS midnight, now() + INTERVAL 1 HOUR
WHERE midnight <= now() - toIntervalSecond({life:Int64})
