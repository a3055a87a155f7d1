SELECT id, batch, format, name, at, first, last, days, sums, skipped
FROM imports FINAL
WHERE site = {site:String} AND at >= fromUnixTimestamp64Milli({since:Int64}, 'UTC')
ORDER BY at DESC, id
