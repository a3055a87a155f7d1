-- The days whose sums differ between the builds that count and others.
SELECT
    site, toString(day) AS date, sum(o * of_visitors) AS visitors, sum(n * of_visitors) AS visitors2, sum(o * of_visits) AS visits, sum(n * of_visits) AS visits2,
    sum(o * of_pageviews) AS pageviews, sum(n * of_pageviews) AS pageviews2, sum(o * of_events) AS events, sum(n * of_events) AS events2,
    sum(o * of_bounces) AS bounces, sum(n * of_bounces) AS bounces2
FROM
(
    SELECT
        site, day, toUInt64(seal NOT IN {seals:Array(UInt64)}) AS o, toUInt64(seal IN {seals:Array(UInt64)}) AS n, uniqExact(who) AS of_visitors, count() AS of_visits,
        sum(v.pageviews) AS of_pageviews, sum(v.events) AS of_events, countIf(bounced) AS of_bounces
    FROM visits AS v
    WHERE day >= toDate({from:UInt16})
        AND (seal IN {seals:Array(UInt64)} OR (site, day, seal) IN (SELECT site, day, seal FROM seals FINAL WHERE site != ''))
    GROUP BY site, day, o, n, seal
)
GROUP BY site, day
HAVING visitors != visitors2 OR visits != visits2 OR pageviews != pageviews2 OR events != events2 OR bounces != bounces2
ORDER BY site, date
LIMIT {limit:UInt32}
