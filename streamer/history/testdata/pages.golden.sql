
WITH (
    SELECT groupUniqArray(toString(dim))
    FROM names
    WHERE site = {site:String} AND (dim, key) IN (SELECT d.1, cityHash64(d.2) FROM (SELECT arrayJoin(arrayZip({dims:Array(String)}, {labels:Array(String)})) AS d))
) AS labelled
SELECT number, if(last.2 = n, last.1, 0), last.3, last.4, labelled
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
-- dims = "[page]"
-- labels = "[(not set)]"

SELECT
    d0,
    toFloat64(sum(s_visitors)) AS visitors,
    toFloat64(sum(s_pageviews)) AS pageviews,
    count() OVER () AS total_rows
FROM
(

    SELECT
        if(page = '', '(not set)', page) AS d0,
        uniqExact(bitXor(who, toUInt64(day) * 11400714819323198485)) AS s_visitors,
        countIf(kind = 'pageview') AS s_pageviews,
        count() AS s_rows
    FROM (
    SELECT if(events.utc_offset = -1, toDate(toDateTime(toInt64(toUnixTimestamp(events.ts)) + transform(roundDown(toInt64(toUnixTimestamp(events.ts)), {changes:Array(Int64)}), {changes:Array(Int64)}, {offsets:Array(Int64)}), 'UTC')), events.day) AS day, if(events.utc_offset = -1, toInt32(transform(roundDown(toInt64(toUnixTimestamp(events.ts)), {changes:Array(Int64)}), {changes:Array(Int64)}, {offsets:Array(Int64)})), events.utc_offset) AS utc_offset, visitor AS who, ts, kind, path AS page
    FROM events FINAL
    WHERE kind != 'engagement' AND site = {site:String} AND (toStartOfHour(ts) >= toStartOfHour(fromUnixTimestamp64Milli({open0:Int64}, 'UTC')) AND toStartOfHour(ts) <= toStartOfHour(fromUnixTimestamp64Milli({open0_end:Int64} - 1, 'UTC')) AND ts >= fromUnixTimestamp64Milli({open0:Int64}, 'UTC') AND ts < fromUnixTimestamp64Milli({open0_end:Int64}, 'UTC') AND (events.utc_offset = -1 OR events.day >= {open0_day:Date} AND events.day <= {open0_last_day:Date}))
)
    GROUP BY d0
)
GROUP BY d0
ORDER BY visitors DESC, d0
LIMIT {limit:UInt32} OFFSET {offset:UInt32};
-- site = "example.com"
-- open0 = "1793487600000"
-- open0_end = "1794092400000"
-- open0_day = "2026-11-01"
-- open0_last_day = "2026-11-07"
-- changes = "[1793487600]"
-- offsets = "[3600]"
-- limit = "10"
-- offset = "0"

