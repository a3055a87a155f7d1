WITH
    visitors AS
    (
        SELECT
            visitor,
            arraySort(e -> (e.ts, e.koff, e.kidx), groupArray(tuple(ts, koff, kidx, kind, interactive, path, country))) AS all
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
            counted[1].country AS visit_country
        FROM visitors
        WHERE notEmpty(counted)
    ),
    rows AS
    (
        SELECT
            if(if(part = 2, visit_entry_page, e.path) = '', '(not set)', if(part = 2, visit_entry_page, e.path)) AS d0,
            visitor,
            start,
            part = 1 AS begins,
            part = 2 AS entered,
            countIf(e.kind = 'pageview' AND part = 0) AS row_pageviews,
            countIf(part = 0) AS row_events,
            any(length(views)) AS visit_views,
            any(duration) AS visit_ms,
            any(bounced) AS visit_bounced
        FROM visits
        ARRAY JOIN counted AS e
        ARRAY JOIN [0, 1, 2] AS part
        WHERE e.ts >= fromUnixTimestamp64Milli({from:Int64}, 'UTC')
            AND (part = 0 OR start >= fromUnixTimestamp64Milli({from:Int64}, 'UTC'))
            AND (part = 2 OR arrayExists(v -> position(if(e.path = '', '(not set)', e.path), v) > 0, {p0:Array(String)}))
            AND (part != 2 OR arrayExists(v -> position(if(visit_entry_page = '', '(not set)', visit_entry_page), v) > 0, {p1:Array(String)}))
            AND if(visit_country = '', '(not set)', visit_country) IN {p2:Array(String)}
        GROUP BY d0, visitor, start, begins, entered
    )
SELECT
    d0,
    toFloat64(uniqExactIf(visitor, row_events > 0)) AS visitors,
    toFloat64(countIf(begins)) AS visits,
    if(countIf(entered) = 0, NULL, round(100 * countIf(entered AND visit_bounced) / countIf(entered))) AS bounce_rate,
    count() OVER () AS total_rows
FROM rows
GROUP BY d0
HAVING countIf(NOT entered) > 0
ORDER BY visitors DESC, d0
LIMIT {limit:UInt32} OFFSET {offset:UInt32};
-- site = "example.com"
-- from = "1793487600000"
-- to = "1794092400000"
-- midnight = "1793404800000"
-- p0 = "[/a]"
-- p1 = "[/a]"
-- p2 = "[DE]"
-- limit = "10000"
-- offset = "0"

