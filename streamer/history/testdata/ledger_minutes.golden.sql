SELECT
    toUnixTimestamp(minute) AS at,
    sum(received),
    sum(counted),
    sum(late),
    sum(stale),
    sum(duplicate),
    sumMap(dropped)
FROM ledger FINAL
WHERE site = {site:String} AND minute >= toStartOfMinute(toDateTime({from:Int64}, 'UTC')) AND minute < toDateTime({to:Int64}, 'UTC')
GROUP BY at
ORDER BY at
;
-- site = "'; DROP TABLE ledger"
-- from = "1792447200"
-- to = "1793055600"

