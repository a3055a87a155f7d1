SELECT toUnixTimestamp(min(ts))
FROM events
WHERE site = {site:String} AND toStartOfHour(ts) = (
    SELECT toStartOfHour(ts)
    FROM events
    WHERE site = {site:String}
    ORDER BY site, toStartOfHour(ts)
    LIMIT 1)
HAVING count() > 0
