WITH
    visitors AS
    (
        SELECT
            visitor,
            arraySort(e -> (e.ts, e.koff, e.kidx), groupArray(tuple(ts, koff, kidx, kind, interactive))) AS all
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
            length(views) <= 1 AND NOT arrayExists(e -> e.kind = 'custom' AND e.interactive, counted) AS bounced
        FROM visitors
        WHERE notEmpty(counted)
    ),
    rows AS
    (
        SELECT
            visitor,
            start,
            start >= fromUnixTimestamp64Milli({from:Int64}, 'UTC') AND NOT (start >= fromUnixTimestamp64Milli({hole0:Int64}, 'UTC') AND start < fromUnixTimestamp64Milli({hole0_end:Int64}, 'UTC')) AS begins,
            countIf(e.kind = 'pageview') AS row_pageviews,
            count() AS row_events,
            any(length(views)) AS visit_views,
            any(duration) AS visit_ms,
            any(bounced) AS visit_bounced
        FROM visits
        ARRAY JOIN counted AS e
        WHERE e.ts >= fromUnixTimestamp64Milli({from:Int64}, 'UTC') AND NOT (e.ts >= fromUnixTimestamp64Milli({hole0:Int64}, 'UTC') AND e.ts < fromUnixTimestamp64Milli({hole0_end:Int64}, 'UTC'))
        GROUP BY visitor, start, begins
    )
SELECT
    toFloat64(uniqExactIf(visitor, row_events > 0)) AS visitors,
    toFloat64(countIf(begins)) AS visits,
    count() OVER () AS total_rows
FROM rows
ORDER BY visitors DESC
LIMIT {limit:UInt32} OFFSET {offset:UInt32};
-- site = "example.com"
-- from = "1792887000000"
-- to = "1792891200000"
-- hole0 = "1792887600000"
-- hole0_end = "1792890600000"
-- midnight = "1792886400000"
-- limit = "10000"
-- offset = "0"

