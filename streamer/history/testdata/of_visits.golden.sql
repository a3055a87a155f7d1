
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
    toFloat64(sum(s_pageviews)) AS pageviews,
    count() OVER () AS total_rows
FROM
(

    SELECT
        if(props[{p0:String}] = '', '(none)', props[{p0:String}]) AS d0,
        countIf(kind = 'pageview') AS s_pageviews,
        count() AS s_rows
    FROM 
(
WITH
    visitors AS
    (
        SELECT
            site,
            if(events.utc_offset = -1, toDate(toDateTime(toInt64(toUnixTimestamp(events.ts)) + transform(roundDown(toInt64(toUnixTimestamp(events.ts)), {changes:Array(Int64)}), {changes:Array(Int64)}, {offsets:Array(Int64)}), 'UTC')), events.day) AS day,
            visitor,
            arraySort(e -> (e.ts, e.koff, e.kidx), groupArray(tuple(ts, koff, kidx, if(events.utc_offset = -1, toInt32(transform(roundDown(toInt64(toUnixTimestamp(events.ts)), {changes:Array(Int64)}), {changes:Array(Int64)}, {offsets:Array(Int64)})), events.utc_offset) AS utc_offset, kind, interactive, path, props, source))) AS all
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
    toUInt32(n) AS n,
    e.ts AS ts,
    e.utc_offset AS utc_offset,
    e.kind AS kind,
    e.path AS page,
    e.props AS props,
    f.source AS source,
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
    WHERE if(source = '', 'Direct / None', source) IN {p1:Array(String)}
        AND if(page = '', '(not set)', page) IN {p2:Array(String)}
    GROUP BY d0
)
GROUP BY d0
ORDER BY pageviews DESC, d0
LIMIT {limit:UInt32} OFFSET {offset:UInt32};
-- site = "example.com"
-- p0 = "plan"
-- p1 = "[Direct / None]"
-- p2 = "[/]"
-- open0 = "1793487600000"
-- open0_end = "1794092400000"
-- open0_day = "2026-11-01"
-- open0_last_day = "2026-11-07"
-- changes = "[1793487600]"
-- offsets = "[3600]"
-- limit = "10000"
-- offset = "0"

