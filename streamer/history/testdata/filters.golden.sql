
SELECT number, if(last.2 = n, last.1, 0), last.3, last.4, []::Array(String)
FROM
(
    SELECT toUInt16(day) AS number, sum(changes) AS n, argMax(build, version) AS last
    FROM
    (
        SELECT day, n AS changes, tuple(toUInt64(0), toUInt64(0), false, false) AS build, toUInt64(0) AS version
        FROM marks
        WHERE site = {site:String} AND day >= {first_day:Date} AND day <= {last_day:Date}
        UNION ALL
        SELECT day, toUInt64(0) AS changes, tuple(seal, marks, rolled, monthly) AS build, version
        FROM seals
        WHERE site = {site:String} AND day >= {first_day:Date} AND day <= {last_day:Date}
    )
    GROUP BY number
)
WHERE n > 0
ORDER BY number
;
-- site = "example.com"
-- first_day = "2026-11-01"
-- last_day = "2026-11-07"

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

