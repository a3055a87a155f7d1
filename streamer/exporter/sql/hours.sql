SELECT toUnixTimestamp(toStartOfHour(ts)) AS hour, count() AS rows
FROM events
WHERE site = {site:String}
    AND ts >= fromUnixTimestamp64Milli({since:Int64}, 'UTC')
    AND day >= {from:Date} AND day <= {to:Date}
GROUP BY hour
ORDER BY hour
