SELECT toUInt16(first), toUInt16(last)
FROM imports FINAL
WHERE site = {site:String} AND at >= fromUnixTimestamp64Milli({imports_since:Int64}, 'UTC')
;
-- site = "example.com"
-- imports_since = "0"


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
    if(bitAnd(groupBitAnd(s_known), 1) = 0, NULL, toFloat64(sum(s_visitors))) AS visitors,
    if(bitAnd(groupBitAnd(s_known), 64) = 0, NULL, if(sum(s_visits) = 0, NULL, round(sum(s_views) / sum(s_visits), 2))) AS views_per_visit,
    count() OVER () AS total_rows
FROM
(

    SELECT
        countIf(alone) + uniqExactIf(bitXor(who, toUInt64(day) * 11400714819323198485), NOT alone) AS s_visitors,
        count() AS s_visits,
        sum(toUInt64(pageviews)) AS s_views,
        count() AS s_rows,
        toUInt8(255) AS s_known
    FROM 
(
WITH
    visitors AS
    (
        SELECT
            site,
            if(events.utc_offset = -1, toDate(toDateTime(toInt64(toUnixTimestamp(events.ts)) + transform(roundDown(toInt64(toUnixTimestamp(events.ts)), {changes:Array(Int64)}), {changes:Array(Int64)}, {offsets:Array(Int64)}), 'UTC')), events.day) AS day,
            visitor,
            arraySort(e -> (e.ts, e.koff, e.kidx), groupArray(tuple(ts, koff, kidx, if(events.utc_offset = -1, toInt32(transform(roundDown(toInt64(toUnixTimestamp(events.ts)), {changes:Array(Int64)}), {changes:Array(Int64)}, {offsets:Array(Int64)})), events.utc_offset) AS utc_offset, kind, interactive))) AS all
        FROM events FINAL
        WHERE site = {site:String} AND (toStartOfHour(ts) >= toStartOfHour(fromUnixTimestamp64Milli({open0:Int64}, 'UTC')) AND toStartOfHour(ts) <= toStartOfHour(fromUnixTimestamp64Milli({open0_end:Int64} - 1, 'UTC')) AND ts >= fromUnixTimestamp64Milli({open0:Int64}, 'UTC') AND ts < fromUnixTimestamp64Milli({open0_end:Int64}, 'UTC') AND (events.utc_offset = -1 OR events.day >= {open0_day:Date} AND events.day <= {open0_last_day:Date}))
        GROUP BY site, day, visitor
    ),
    chains AS
    (
        SELECT
            site,
            day,
            visitor,
            arrayFilter(
                c -> arrayExists(e -> e.kind != 'engagement', c),
                arraySplit((e, pause) -> pause >= 1800000, all, arrayDifference(arrayMap(e -> toUnixTimestamp64Milli(e.ts), all)))
            ) AS chains
        FROM visitors
    ),
    visits AS
    (
        SELECT
            site,
            day,
            visitor,
            visit,
            length(chains) = 1 AS alone,
            chain[-1].ts AS last,
            arrayFilter(e -> e.kind != 'engagement', chain) AS counted,
            arrayFilter(e -> e.kind = 'pageview', counted) AS views,
            counted[1] AS f
        FROM chains
        ARRAY JOIN chains AS chain, arrayEnumerate(chains) AS visit
    )
SELECT
    site,
    day,
    visitor AS who,
    toUInt16(least(visit, 65535)) AS visit,
    alone,
    f.utc_offset AS utc_offset,
    toUInt32(length(counted)) AS events,
    f.ts AS start,
    toUInt32(length(views)) AS pageviews,
    toUInt32(least(4294967295, toUnixTimestamp64Milli(last) - toUnixTimestamp64Milli(f.ts))) AS duration_ms,
    length(views) <= 1 AND NOT arrayExists(e -> e.kind = 'custom' AND e.interactive, counted) AS bounced
FROM visits
)
UNION ALL

    SELECT
        sum(i_visitors) AS s_visitors,
        sum(i_visits) AS s_visits,
        sum(i_pageviews) AS s_views,
        count() AS s_rows,
        groupBitAnd(toUInt8(bitOr(bitAnd(bits, 15), if(bitAnd(bits, 2) = 2, bitOr(bitAnd(bits, 48), if(bitAnd(bits, 4) = 4, 64, 0)), 0)))) AS s_known
    FROM
    (
        SELECT
            batch,
            day,
            groupBitOr(known) AS bits,
            sum(visitors) AS i_visitors,
            sum(visits) AS i_visits,
            sum(pageviews) AS i_pageviews,
            sum(events) AS i_events,
            sum(bounces) AS i_bounces,
            sum(duration_ms) AS i_duration_ms
        FROM imported
        WHERE dim = {p0:String} AND site = {site:String} AND day >= {imported_from:Date} AND day <= {imported_to:Date} AND batch IN (SELECT batch FROM imports FINAL WHERE site = {site:String} AND at >= fromUnixTimestamp64Milli({imports_since:Int64}, 'UTC'))
        GROUP BY batch, day
    )
)
ORDER BY visitors DESC
LIMIT {limit:UInt32} OFFSET {offset:UInt32};
-- site = "example.com"
-- open0 = "1793487600000"
-- open0_end = "1794092400000"
-- open0_day = "2026-11-01"
-- open0_last_day = "2026-11-07"
-- imported_from = "2026-11-01"
-- imported_to = "2026-11-07"
-- imports_since = "0"
-- p0 = ""
-- changes = "[1793487600]"
-- offsets = "[3600]"
-- limit = "10000"
-- offset = "0"

