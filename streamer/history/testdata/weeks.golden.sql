WITH
    visitors AS
    (
        SELECT
            visitor,
            arraySort(e -> (e.ts, e.koff, e.kidx), groupArray(tuple(ts, koff, kidx, kind, interactive, path))) AS all
        FROM events FINAL
        WHERE site = {site:String} AND toStartOfHour(ts) >= toStartOfHour(fromUnixTimestamp64Milli({midnight:Int64}, 'UTC')) AND toStartOfHour(ts) <= toStartOfHour(fromUnixTimestamp64Milli({to:Int64} - 1, 'UTC')) AND ts >= fromUnixTimestamp64Milli({midnight:Int64}, 'UTC') AND ts < fromUnixTimestamp64Milli({to:Int64}, 'UTC')
        GROUP BY visitor
    ),
    visits AS
    (
        SELECT
            visitor,
            arrayJoin(arraySplit((e, pause) -> pause >= 1800000, all, arrayDifference(arrayMap(e -> toUnixTimestamp64Milli(e.ts), all)))) AS chain,
            arrayFilter(e -> e.kind != 'engagement', chain) AS counted,
            arrayFilter(e -> e.kind = 'pageview', counted) AS views,
            counted[1].ts AS start,
            toUnixTimestamp64Milli(chain[-1].ts) - toUnixTimestamp64Milli(start) AS duration,
            length(views) <= 1 AND NOT arrayExists(e -> e.kind = 'custom' AND e.interactive, counted) AS bounced,
            views[1].path AS visit_entry_page,
            views[-1].path AS visit_exit_page
        FROM visitors
        WHERE notEmpty(counted)
    ),
    rows AS
    (
        SELECT
            toString(greatest(toMonday(toDateTime(toInt64(toUnixTimestamp(if(part = 0, e.ts, start))) + transform(roundDown(toInt64(toUnixTimestamp(if(part = 0, e.ts, start))), {changes:Array(Int64)}), {changes:Array(Int64)}, {offsets:Array(Int64)}), 'UTC')), toDate({first_day:String}))) AS d0,
            if(visit_entry_page = '', '(not set)', visit_entry_page) AS d1,
            if(visit_exit_page = '', '(not set)', visit_exit_page) AS d2,
            visitor,
            start,
            part AS begins,
            countIf(e.kind = 'pageview' AND part = 0) AS row_pageviews,
            countIf(part = 0) AS row_events,
            any(length(views)) AS visit_views,
            any(duration) AS visit_ms,
            any(bounced) AS visit_bounced
        FROM visits
        ARRAY JOIN counted AS e
        ARRAY JOIN [0, 1] AS part
        WHERE e.ts >= fromUnixTimestamp64Milli({from:Int64}, 'UTC')
            AND (part = 0 OR start >= fromUnixTimestamp64Milli({from:Int64}, 'UTC'))
        GROUP BY d0, d1, d2, visitor, start, begins
    )
SELECT
    d0,
    d1,
    d2,
    toFloat64(countIf(begins)) AS visits,
    toFloat64(sum(row_events)) AS events,
    count() OVER () AS total_rows
FROM rows
GROUP BY d0, d1, d2
ORDER BY d0, visits DESC, d1, d2
LIMIT {limit:UInt32} OFFSET {offset:UInt32};
-- site = "example.com"
-- from = "1793487600000"
-- to = "1794092400000"
-- midnight = "1793404800000"
-- changes = "[1793487600]"
-- offsets = "[3600]"
-- first_day = "2026-11-01"
-- limit = "10000"
-- offset = "0"

