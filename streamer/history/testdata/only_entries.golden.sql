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
            views[1].path AS visit_entry_page
        FROM visitors
        WHERE notEmpty(counted)
    ),
    rows AS
    (
        SELECT
            if(visit_entry_page = '', '(not set)', visit_entry_page) AS d0,
            visitor,
            start,
            start >= fromUnixTimestamp64Milli({from:Int64}, 'UTC') AS begins,
            countIf(e.kind = 'pageview') AS row_pageviews,
            count() AS row_events,
            any(length(views)) AS visit_views,
            any(duration) AS visit_ms,
            any(bounced) AS visit_bounced
        FROM visits
        ARRAY JOIN counted AS e
        WHERE e.ts >= fromUnixTimestamp64Milli({from:Int64}, 'UTC')
            AND start >= fromUnixTimestamp64Milli({from:Int64}, 'UTC')
            AND NOT (if(visit_entry_page = '', '(not set)', visit_entry_page) IN {p0:Array(String)})
        GROUP BY d0, visitor, start, begins
    )
SELECT
    d0,
    if(countIf(begins) = 0, NULL, round(100 * countIf(begins AND visit_bounced) / countIf(begins))) AS bounce_rate,
    count() OVER () AS total_rows
FROM rows
GROUP BY d0
ORDER BY bounce_rate DESC, d0
LIMIT {limit:UInt32} OFFSET {offset:UInt32};
-- site = "example.com"
-- from = "1793487600000"
-- to = "1794092400000"
-- midnight = "1793404800000"
-- p0 = "[/]"
-- limit = "10000"
-- offset = "0"

