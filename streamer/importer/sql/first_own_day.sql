SELECT count() > 0, min(day)
FROM events
WHERE site = {site:String} AND ts >= fromUnixTimestamp64Milli({since:Int64}, 'UTC')
