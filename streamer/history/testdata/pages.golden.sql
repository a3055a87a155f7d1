SELECT
    if(path = '', '(not set)', path) AS d0,
    toFloat64(uniqExact(visitor)) AS visitors,
    toFloat64(countIf(kind = 'pageview')) AS pageviews,
    count() OVER () AS total_rows
FROM events FINAL
WHERE site = {site:String} AND toStartOfHour(ts) >= toStartOfHour(fromUnixTimestamp64Milli({from:Int64}, 'UTC')) AND toStartOfHour(ts) <= toStartOfHour(fromUnixTimestamp64Milli({to:Int64} - 1, 'UTC')) AND ts >= fromUnixTimestamp64Milli({from:Int64}, 'UTC') AND ts < fromUnixTimestamp64Milli({to:Int64}, 'UTC')
    AND kind != 'engagement'
GROUP BY d0
ORDER BY visitors DESC, d0
LIMIT {limit:UInt32} OFFSET {offset:UInt32};
-- site = "example.com"
-- from = "1793487600000"
-- to = "1794092400000"
-- limit = "10"
-- offset = "0"

