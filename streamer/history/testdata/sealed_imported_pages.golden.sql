SELECT toUInt16(first), toUInt16(last)
FROM imports FINAL
WHERE site = {site:String} AND at >= fromUnixTimestamp64Milli({imports_since:Int64}, 'UTC')
;
-- site = "example.com"
-- imports_since = "0"


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
    multiIf(groups.n0 != '', groups.n0, groups.d0 = cityHash64('(not set)'), '(not set)', names0.value) AS d0,
    groups.visitors AS visitors,
    groups.bounce_rate AS bounce_rate,
    groups.total_rows AS total_rows
FROM
(
SELECT
    d0,
    max(n0) AS n0,
    if(bitAnd(groupBitAnd(s_known), 1) = 0, NULL, toFloat64(sum(s_visitors))) AS visitors,
    if(bitAnd(groupBitAnd(s_known), 16) = 0, NULL, if(sum(s_entries) = 0, NULL, round(100 * sum(s_bounces) / sum(s_entries)))) AS bounce_rate,
    count() OVER () AS total_rows
FROM
(

    SELECT
        if(key IN (0, cityHash64('')), cityHash64('(not set)'), key) AS d0, '' AS n0,
        sum(visitors) AS s_visitors,
        toUInt64(0) AS s_entries,
        toUInt64(0) AS s_bounces,
        count() AS s_rows,
        toUInt8(255) AS s_known
    FROM rollups
    WHERE seal IN {seals1:Array(UInt64)} AND site = {site:String} AND day >= {sealed_day1:Date} AND day <= {sealed_last_day1:Date} AND transform(toUInt16(day), {days1:Array(UInt16)}, {day_seals1:Array(UInt64)}, toUInt64(0)) = seal
        AND segment = 0 AND dim = 'page' AND span = 'day'
    GROUP BY d0
UNION ALL

    SELECT
        if(page IN (0, cityHash64('')), cityHash64('(not set)'), page) AS d0, '' AS n0,
        countIf(alone AND nth = 1) + uniqExactIf(bitOr(bitShiftLeft(toUInt64(day), 32), toUInt64(who)), NOT alone) AS s_visitors,
        toUInt64(0) AS s_entries,
        toUInt64(0) AS s_bounces,
        count() AS s_rows,
        toUInt8(255) AS s_known
    FROM hits
    WHERE seal IN {seals2:Array(UInt64)} AND site = {site:String} AND day >= {sealed_day2:Date} AND day <= {sealed_last_day2:Date}
    GROUP BY d0
UNION ALL

    SELECT
        if(key IN (0, cityHash64('')), cityHash64('(not set)'), key) AS d0, '' AS n0,
        toUInt64(0) AS s_visitors,
        sum(visits) AS s_entries,
        sum(bounces) AS s_bounces,
        toUInt64(0) AS s_rows,
        toUInt8(255) AS s_known
    FROM rollups
    WHERE seal IN {seals1:Array(UInt64)} AND site = {site:String} AND day >= {sealed_day1:Date} AND day <= {sealed_last_day1:Date} AND transform(toUInt16(day), {days1:Array(UInt16)}, {day_seals1:Array(UInt64)}, toUInt64(0)) = seal
        AND segment = 0 AND dim = 'entry_page' AND span = 'day' AND visits > 0
    GROUP BY d0
UNION ALL

    SELECT
        if(entry IN (0, cityHash64('')), cityHash64('(not set)'), entry) AS d0, '' AS n0,
        toUInt64(0) AS s_visitors,
        count() AS s_entries,
        countIf(bounced) AS s_bounces,
        toUInt64(0) AS s_rows,
        toUInt8(255) AS s_known
    FROM visits
    WHERE seal IN {seals2:Array(UInt64)} AND site = {site:String} AND day >= {sealed_day2:Date} AND day <= {sealed_last_day2:Date}
    GROUP BY d0
UNION ALL

    SELECT
        cityHash64(r0) AS d0, any(r0) AS n0,
        uniqExactIf(bitXor(who, toUInt64(day) * 11400714819323198485), row_events > 0) AS s_visitors,
        countIf(entered) AS s_entries,
        countIf(entered AND visit_bounced) AS s_bounces,
        countIf(NOT entered) AS s_rows,
        toUInt8(255) AS s_known
    FROM
    (
        SELECT
            if(if(part = 2, entry, page) = '', '(not set)', if(part = 2, entry, page)) AS r0,
            day,
            who,
            visit,
            part = 1 AS begins,
            part = 2 AS entered,
            countIf(kind = 'pageview' AND part = 0) AS row_pageviews,
            countIf(part = 0) AS row_events,
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
            arraySort(e -> (e.ts, e.koff, e.kidx), groupArray(tuple(ts, koff, kidx, if(events.utc_offset = -1, toInt32(transform(roundDown(toInt64(toUnixTimestamp(events.ts)), {changes:Array(Int64)}), {changes:Array(Int64)}, {offsets:Array(Int64)})), events.utc_offset) AS utc_offset, kind, interactive, path))) AS all
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
        ARRAY JOIN [0, 2] AS part
        GROUP BY r0, day, who, visit, begins, entered
    )
    GROUP BY d0
UNION ALL

    SELECT
        cityHash64(r0) AS d0, any(r0) AS n0,
        sum(i_visitors) AS s_visitors,
        toUInt64(0) AS s_entries,
        toUInt64(0) AS s_bounces,
        count() AS s_rows,
        groupBitAnd(toUInt8(bitOr(bitAnd(bits, 15), if((batch, day) IN (SELECT batch, day FROM imported WHERE dim = {p1:String} AND site = {site:String} AND day >= {imported_from:Date} AND day <= {imported_to:Date} AND batch IN (SELECT batch FROM imports FINAL WHERE site = {site:String} AND at >= fromUnixTimestamp64Milli({imports_since:Int64}, 'UTC'))), 48, 0)))) AS s_known
    FROM
    (
        SELECT
            if(value = '', '(not set)', value) AS r0,
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
        GROUP BY r0, batch, day
    )
    GROUP BY d0
UNION ALL

    SELECT
        cityHash64(r0) AS d0, any(r0) AS n0,
        toUInt64(0) AS s_visitors,
        sum(i_visits) AS s_entries,
        sum(i_bounces) AS s_bounces,
        toUInt64(0) AS s_rows,
        groupBitAnd(toUInt8(bitOr(207, if(bitAnd(bits, 2) = 2, bitAnd(bits, 48), 0)))) AS s_known
    FROM
    (
        SELECT
            if(value = '', '(not set)', value) AS r0,
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
        WHERE dim = {p1:String} AND site = {site:String} AND day >= {imported_from:Date} AND day <= {imported_to:Date} AND batch IN (SELECT batch FROM imports FINAL WHERE site = {site:String} AND at >= fromUnixTimestamp64Milli({imports_since:Int64}, 'UTC'))
        GROUP BY r0, batch, day
        HAVING i_visits > 0 OR bitAnd(bits, 2) = 0
    )
    GROUP BY d0
)
GROUP BY d0
HAVING sum(s_rows) > 0
ORDER BY visitors DESC
LIMIT {limit:UInt32} + {offset:UInt32} WITH TIES
) AS groups
LEFT JOIN (SELECT key, any(value) AS value FROM names WHERE site = {site:String} AND dim = 'page' GROUP BY key) AS names0 ON groups.d0 = names0.key
ORDER BY visitors DESC, d0
LIMIT {limit:UInt32} OFFSET {offset:UInt32};
-- site = "example.com"
-- sealed_day1 = "2026-11-01"
-- sealed_last_day1 = "2026-11-05"
-- seals1 = "[11 12]"
-- days1 = "[20758 20759 20762]"
-- day_seals1 = "[11 11 12]"
-- sealed_day2 = "2026-11-03"
-- sealed_last_day2 = "2026-11-03"
-- seals2 = "[12]"
-- open0 = "1793746800000"
-- open0_end = "1793833200000"
-- open0_day = "2026-11-04"
-- open0_last_day = "2026-11-04"
-- open1 = "1793919600000"
-- open1_end = "1794092400000"
-- open1_day = "2026-11-06"
-- open1_last_day = "2026-11-07"
-- imported_from = "2026-11-01"
-- imported_to = "2026-11-07"
-- imports_since = "0"
-- p0 = "event:page"
-- p1 = "visit:entry_page"
-- changes = "[1793487600]"
-- offsets = "[3600]"
-- limit = "10000"
-- offset = "0"

