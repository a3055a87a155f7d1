SELECT toUnixTimestamp(toStartOfHour(ts))
FROM events
WHERE site = {site:String}
ORDER BY site, toStartOfHour(ts)
LIMIT 1
