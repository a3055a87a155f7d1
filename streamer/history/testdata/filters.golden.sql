WITH (SELECT count() > 0 FROM names WHERE site = {site:String} AND dim = {dim:String} AND key = cityHash64({label:String})) AS labelled
SELECT toUInt16(day), seal, rolled AND NOT labelled, monthly
FROM (SELECT day, sum(n) AS n FROM marks WHERE site = {site:String} AND day >= {first_day:Date} AND day <= {last_day:Date} GROUP BY day) AS m
LEFT JOIN (SELECT day, seal, marks, rolled, monthly FROM seals FINAL WHERE site = {site:String} AND day >= {first_day:Date} AND day <= {last_day:Date}) AS s
    ON m.day = s.day AND m.n = s.marks
ORDER BY day
;
-- site = "example.com"
-- first_day = "2026-11-01"
-- last_day = "2026-11-07"
-- dim = ""
-- label = ""

SELECT
    toFloat64(sum(s_events)) AS events,
    count() OVER () AS total_rows
FROM
(

    SELECT
        count() AS s_events,
        count() AS s_rows
    FROM (
    SELECT if(events.utc_offset = -1, toDate(toDateTime(toInt64(toUnixTimestamp(events.ts)) + transform(roundDown(toInt64(toUnixTimestamp(events.ts)), {changes:Array(Int64)}), {changes:Array(Int64)}, {offsets:Array(Int64)}), 'UTC')), events.day) AS day, if(events.utc_offset = -1, toInt32(transform(roundDown(toInt64(toUnixTimestamp(events.ts)), {changes:Array(Int64)}), {changes:Array(Int64)}, {offsets:Array(Int64)})), events.utc_offset) AS utc_offset, visitor AS who, ts, kind, path AS page, name, hostname, props
    FROM events FINAL
    WHERE kind != 'engagement' AND site = {site:String} AND (toStartOfHour(ts) >= toStartOfHour(fromUnixTimestamp64Milli({open0:Int64}, 'UTC')) AND toStartOfHour(ts) <= toStartOfHour(fromUnixTimestamp64Milli({open0_end:Int64} - 1, 'UTC')) AND ts >= fromUnixTimestamp64Milli({open0:Int64}, 'UTC') AND ts < fromUnixTimestamp64Milli({open0_end:Int64}, 'UTC') AND (events.utc_offset = -1 OR events.day >= {open0_day:Date} AND events.day <= {open0_last_day:Date}))
)
    WHERE (NOT (if(page = '', '(not set)', page) IN {p0:Array(String)}) OR NOT ((arrayExists(v -> position(lowerUTF8(if(name = '', '(not set)', name)), lowerUTF8(v)) > 0, {p1:Array(String)}) AND lowerUTF8(if(hostname = '', '(not set)', hostname)) IN (arrayMap(v -> lowerUTF8(v), {p2:Array(String)})))))
        AND NOT ((match(if(props[{p3:String}] = '', '(none)', props[{p3:String}]), {p4:String}) OR match(if(props[{p3:String}] = '', '(none)', props[{p3:String}]), {p5:String})))
        AND NOT (arrayExists(v -> position(if(page = '', '(not set)', page), v) > 0, {p6:Array(String)}))
)
ORDER BY events DESC
LIMIT {limit:UInt32} OFFSET {offset:UInt32};
-- site = "example.com"
-- p0 = "[/'; DROP TABLE events]"
-- p1 = "[A]"
-- p2 = "[X]"
-- p3 = "a'b"
-- p4 = "^x"
-- p5 = "y$"
-- p6 = "[z]"
-- open0 = "1793487600000"
-- open0_end = "1794092400000"
-- open0_day = "2026-11-01"
-- open0_last_day = "2026-11-07"
-- changes = "[1793487600]"
-- offsets = "[3600]"
-- limit = "10000"
-- offset = "0"

