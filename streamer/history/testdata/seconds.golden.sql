WITH (SELECT count() > 0 FROM names WHERE site = {site:String} AND dim = {dim:String} AND key = cityHash64({label:String})) AS labelled
SELECT toUInt16(day), seal, rolled AND NOT labelled, monthly
FROM (SELECT day, sum(n) AS n FROM marks WHERE site = {site:String} AND day >= {first_day:Date} AND day <= {last_day:Date} GROUP BY day) AS m
LEFT JOIN (SELECT day, seal, marks, rolled, monthly FROM seals FINAL WHERE site = {site:String} AND day >= {first_day:Date} AND day <= {last_day:Date}) AS s
    ON m.day = s.day AND m.n = s.marks
ORDER BY day
;
-- site = "example.com"
-- first_day = "2026-11-23"
-- last_day = "2026-11-23"
-- dim = ""
-- label = ""

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

