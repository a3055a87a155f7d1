WITH
    visitors AS
    (
        SELECT
            visitor,
            arraySort(e -> (e.ts, e.koff, e.kidx), groupArray(tuple(ts, koff, kidx, kind, interactive))) AS all
        FROM events FINAL
        WHERE site = {site:String} AND ts >= fromUnixTimestamp64Milli({midnight:Int64}, 'UTC') AND ts < fromUnixTimestamp64Milli({to:Int64}, 'UTC')
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
            part,
            countIf(e.kind = 'pageview') AS row_pageviews,
            count() AS row_events,
            any(length(views)) AS visit_views,
            any(duration) AS visit_ms,
            any(bounced) AS visit_bounced
        FROM visits
        ARRAY JOIN counted AS e
        ARRAY JOIN [0, 1] AS part
        WHERE e.ts >= fromUnixTimestamp64Milli({from:Int64}, 'UTC')
            AND (part = 0 OR start >= fromUnixTimestamp64Milli({from:Int64}, 'UTC'))
        GROUP BY visitor, start, part
    )
SELECT
    toFloat64(uniqExactIf(visitor, part = 0)) AS visitors,
    toFloat64(countIf(part = 1)) AS visits,
    toFloat64(sumIf(row_pageviews, part = 0)) AS pageviews,
    toFloat64(sumIf(row_events, part = 0)) AS events,
    if(countIf(part = 1) = 0, NULL, round(sumIf(visit_views, part = 1) / countIf(part = 1), 2)) AS views_per_visit,
    if(countIf(part = 1) = 0, NULL, round(100 * countIf(part = 1 AND visit_bounced) / countIf(part = 1))) AS bounce_rate,
    if(countIf(part = 1) = 0, NULL, round(sumIf(visit_ms, part = 1) / countIf(part = 1) / 1000)) AS visit_duration,
    count() OVER () AS total_rows
FROM rows
ORDER BY visitors DESC
LIMIT {limit:UInt32} OFFSET {offset:UInt32};
-- site = "example.com"
-- from = "1793487600000"
-- to = "1794092400000"
-- midnight = "1793404800000"
-- limit = "10000"
-- offset = "0"

