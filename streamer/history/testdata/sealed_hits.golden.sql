
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
    d0,
    toFloat64(sum(s_visits)) AS visits,
    count() OVER () AS total_rows
FROM
(

    SELECT
        r0 AS d0,
        countIf(begins) AS s_visits,
        countIf(NOT entered) AS s_rows
    FROM
    (
        SELECT
            if(name = '', '(not set)', name) AS r0,
            day,
            who,
            visit,
            true AS begins,
            false AS entered,
            countIf(kind = 'pageview') AS row_pageviews,
            count() AS row_events,
            toUInt64(any(pageviews)) AS visit_views,
            toUInt64(any(duration_ms)) AS visit_ms,
            any(bounced) AS visit_bounced
        FROM hits
    WHERE seal IN {seals1:Array(UInt64)} AND site = {site:String} AND day >= {sealed_day1:Date} AND day <= {sealed_last_day1:Date} AND transform(toUInt16(day), {days1:Array(UInt16)}, {day_seals1:Array(UInt64)}, toUInt64(0)) = seal
        AND if(page IN (0, cityHash64('')), cityHash64('(not set)'), page) IN (SELECT key FROM names WHERE site = {site:String} AND dim = 'page' AND arrayExists(v -> position(if(value = '', '(not set)', value), v) > 0, {p0:Array(String)}) UNION ALL SELECT cityHash64('(not set)') AS key FROM (SELECT '' AS value) WHERE arrayExists(v -> position(if(value = '', '(not set)', value), v) > 0, {p0:Array(String)}))
        AND if(page IN (0, cityHash64('')), cityHash64('(not set)'), page) IN (arrayMap(v -> cityHash64(v), {p1:Array(String)}))
        GROUP BY r0, day, who, visit, begins, entered
    )
    GROUP BY d0
UNION ALL

    SELECT
        r0 AS d0,
        countIf(begins) AS s_visits,
        countIf(NOT entered) AS s_rows
    FROM
    (
        SELECT
            if(name = '', '(not set)', name) AS r0,
            day,
            who,
            visit,
            true AS begins,
            false AS entered,
            countIf(kind = 'pageview') AS row_pageviews,
            count() AS row_events,
            toUInt64(any(pageviews)) AS visit_views,
            toUInt64(any(duration_ms)) AS visit_ms,
            any(bounced) AS visit_bounced
        FROM 
(
WITH
    visitors AS
    (
        SELECT
            site,
            if(events.utc_offset = -1, toDate(toDateTime(toInt64(toUnixTimestamp(events.ts)) + transform(roundDown(toInt64(toUnixTimestamp(events.ts)), {changes:Array(Int64)}), {changes:Array(Int64)}, {offsets:Array(Int64)}), 'UTC')), events.day) AS day,
            visitor,
            arraySort(e -> (e.ts, e.koff, e.kidx), groupArray(tuple(ts, koff, kidx, if(events.utc_offset = -1, toInt32(transform(roundDown(toInt64(toUnixTimestamp(events.ts)), {changes:Array(Int64)}), {changes:Array(Int64)}, {offsets:Array(Int64)})), events.utc_offset) AS utc_offset, kind, interactive, path, name))) AS all
        FROM events FINAL
        WHERE site = {site:String} AND (toStartOfHour(ts) >= toStartOfHour(fromUnixTimestamp64Milli({open0:Int64}, 'UTC')) AND toStartOfHour(ts) <= toStartOfHour(fromUnixTimestamp64Milli({open0_end:Int64} - 1, 'UTC')) AND ts >= fromUnixTimestamp64Milli({open0:Int64}, 'UTC') AND ts < fromUnixTimestamp64Milli({open0_end:Int64}, 'UTC') AND (events.utc_offset = -1 OR events.day >= {open0_day:Date} AND events.day <= {open0_last_day:Date}) OR toStartOfHour(ts) >= toStartOfHour(fromUnixTimestamp64Milli({open1:Int64}, 'UTC')) AND toStartOfHour(ts) <= toStartOfHour(fromUnixTimestamp64Milli({open1_end:Int64} - 1, 'UTC')) AND ts >= fromUnixTimestamp64Milli({open1:Int64}, 'UTC') AND ts < fromUnixTimestamp64Milli({open1_end:Int64}, 'UTC') AND (events.utc_offset = -1 OR events.day >= {open1_day:Date} AND events.day <= {open1_last_day:Date}))
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
    toUInt32(n) AS n,
    e.ts AS ts,
    e.utc_offset AS utc_offset,
    e.kind AS kind,
    e.path AS page,
    e.name AS name,
    if(empty(views), '', views[1].path) AS entry,
    if(empty(views), '', views[-1].path) AS exit,
    f.ts AS start,
    toUInt32(length(views)) AS pageviews,
    toUInt32(least(4294967295, toUnixTimestamp64Milli(last) - toUnixTimestamp64Milli(f.ts))) AS duration_ms,
    length(views) <= 1 AND NOT arrayExists(e -> e.kind = 'custom' AND e.interactive, counted) AS bounced
FROM visits
ARRAY JOIN
    counted AS e,
    arrayEnumerate(counted) AS n
)
    WHERE arrayExists(v -> position(if(page = '', '(not set)', page), v) > 0, {p0:Array(String)})
        AND if(page = '', '(not set)', page) IN {p1:Array(String)}
        GROUP BY r0, day, who, visit, begins, entered
    )
    GROUP BY d0
)
GROUP BY d0
ORDER BY d0
LIMIT {limit:UInt32} OFFSET {offset:UInt32};
-- site = "example.com"
-- sealed_day1 = "2026-11-01"
-- sealed_last_day1 = "2026-11-05"
-- seals1 = "[11 12]"
-- days1 = "[20758 20759 20760 20762]"
-- day_seals1 = "[11 11 12 12]"
-- p0 = "[/a]"
-- p1 = "[/ /b]"
-- open0 = "1793746800000"
-- open0_end = "1793833200000"
-- open0_day = "2026-11-04"
-- open0_last_day = "2026-11-04"
-- open1 = "1793919600000"
-- open1_end = "1794092400000"
-- open1_day = "2026-11-06"
-- open1_last_day = "2026-11-07"
-- changes = "[1793487600]"
-- offsets = "[3600]"
-- limit = "10000"
-- offset = "0"

