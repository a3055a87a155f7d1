SELECT
    toString(toDateTime(toInt64(toUnixTimestamp(ts)) + transform(roundDown(toInt64(toUnixTimestamp(ts)), {changes:Array(Int64)}), {changes:Array(Int64)}, {offsets:Array(Int64)}), 'UTC')) AS d0,
    toFloat64(countIf(kind = 'pageview')) AS pageviews,
    toFloat64(uniqExact(visitor)) AS visitors,
    count() OVER () AS total_rows
FROM events FINAL
WHERE site = {site:String} AND toStartOfHour(ts) >= toStartOfHour(fromUnixTimestamp64Milli({from:Int64}, 'UTC')) AND toStartOfHour(ts) <= toStartOfHour(fromUnixTimestamp64Milli({to:Int64} - 1, 'UTC')) AND ts >= fromUnixTimestamp64Milli({from:Int64}, 'UTC') AND ts < fromUnixTimestamp64Milli({to:Int64}, 'UTC')
    AND kind != 'engagement'
GROUP BY d0
ORDER BY d0, pageviews DESC
LIMIT {limit:UInt32} OFFSET {offset:UInt32};
-- site = "example.com"
-- from = "1795434900000"
-- to = "1795435200000"
-- changes = "[1795434900]"
-- offsets = "[3600]"
-- limit = "10000"
-- offset = "0"

