SELECT DISTINCT day, dim
FROM imported
WHERE site = {site:String} AND batch IN
(
    SELECT batch FROM imports FINAL WHERE site = {site:String} AND at >= fromUnixTimestamp64Milli({since:Int64}, 'UTC')
)
