SELECT toUnixTimestamp(toStartOfHour(ts))
FROM events
WHERE site = {site:String} AND ts >= fromUnixTimestamp64Milli({since:Int64}, 'UTC')
ORDER BY site, toStartOfHour(ts)
LIMIT 1
