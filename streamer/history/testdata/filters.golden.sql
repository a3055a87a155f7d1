SELECT
    toFloat64(count()) AS events,
    count() OVER () AS total_rows
FROM events FINAL
WHERE site = {site:String} AND toStartOfHour(ts) >= toStartOfHour(fromUnixTimestamp64Milli({from:Int64}, 'UTC')) AND toStartOfHour(ts) <= toStartOfHour(fromUnixTimestamp64Milli({to:Int64} - 1, 'UTC')) AND ts >= fromUnixTimestamp64Milli({from:Int64}, 'UTC') AND ts < fromUnixTimestamp64Milli({to:Int64}, 'UTC')
    AND kind != 'engagement'
    AND (NOT (if(path = '', '(not set)', path) IN {p0:Array(String)}) OR NOT ((arrayExists(v -> position(lowerUTF8(if(name = '', '(not set)', name)), lowerUTF8(v)) > 0, {p1:Array(String)}) AND lowerUTF8(if(hostname = '', '(not set)', hostname)) IN (arrayMap(v -> lowerUTF8(v), {p2:Array(String)})))))
    AND NOT ((match(if(props[{p3:String}] = '', '(none)', props[{p3:String}]), {p4:String}) OR match(if(props[{p3:String}] = '', '(none)', props[{p3:String}]), {p5:String})))
    AND NOT (arrayExists(v -> position(if(path = '', '(not set)', path), v) > 0, {p6:Array(String)}))
ORDER BY events DESC
LIMIT {limit:UInt32} OFFSET {offset:UInt32};
-- site = "example.com"
-- from = "1793487600000"
-- to = "1794092400000"
-- p0 = "[/'; DROP TABLE events]"
-- p1 = "[A]"
-- p2 = "[X]"
-- p3 = "a'b"
-- p4 = "^x"
-- p5 = "y$"
-- p6 = "[z]"
-- limit = "10000"
-- offset = "0"

