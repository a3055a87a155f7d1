
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
-- first_day = "2026-11-23"
-- last_day = "2026-11-23"

SELECT
    d0,
    toFloat64(sum(s_pageviews)) AS pageviews,
    toFloat64(sum(s_visitors)) AS visitors,
    count() OVER () AS total_rows
FROM
(

    SELECT
        toString(toDateTime(toInt64(toUnixTimestamp(ts)) + utc_offset, 'UTC')) AS d0,
        countIf(kind = 'pageview') AS s_pageviews,
        uniqExact(bitXor(who, toUInt64(day) * 11400714819323198485)) AS s_visitors,
        count() AS s_rows
    FROM (
    SELECT if(events.utc_offset = -1, toDate(toDateTime(toInt64(toUnixTimestamp(events.ts)) + transform(roundDown(toInt64(toUnixTimestamp(events.ts)), {changes:Array(Int64)}), {changes:Array(Int64)}, {offsets:Array(Int64)}), 'UTC')), events.day) AS day, if(events.utc_offset = -1, toInt32(transform(roundDown(toInt64(toUnixTimestamp(events.ts)), {changes:Array(Int64)}), {changes:Array(Int64)}, {offsets:Array(Int64)})), events.utc_offset) AS utc_offset, visitor AS who, ts, kind, path AS page
    FROM events FINAL
    WHERE kind != 'engagement' AND site = {site:String} AND (toStartOfHour(ts) >= toStartOfHour(fromUnixTimestamp64Milli({open0:Int64}, 'UTC')) AND toStartOfHour(ts) <= toStartOfHour(fromUnixTimestamp64Milli({open0_end:Int64} - 1, 'UTC')) AND ts >= fromUnixTimestamp64Milli({open0:Int64}, 'UTC') AND ts < fromUnixTimestamp64Milli({open0_end:Int64}, 'UTC') AND (events.utc_offset = -1 OR events.day >= {open0_day:Date} AND events.day <= {open0_last_day:Date}))
)
    WHERE ts >= fromUnixTimestamp64Milli({from:Int64}, 'UTC') AND ts < fromUnixTimestamp64Milli({to:Int64}, 'UTC')
    GROUP BY d0
)
GROUP BY d0
ORDER BY d0, pageviews DESC
LIMIT {limit:UInt32} OFFSET {offset:UInt32};
-- site = "example.com"
-- from = "1795434900000"
-- to = "1795435200000"
-- open0 = "1795434900000"
-- open0_end = "1795435200000"
-- open0_day = "2026-11-23"
-- open0_last_day = "2026-11-23"
-- changes = "[1795388400]"
-- offsets = "[3600]"
-- limit = "10000"
-- offset = "0"

