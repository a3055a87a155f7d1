-- The totals of local hours: events by their own time, visits by that of their begin.
INSERT INTO rollups
(
    seal, site, segment, dim, span, day, hour, key,
    visitors, visits, pageviews, events, views, entries, bounces, duration_ms, exits
)
SELECT
    {seal:UInt64}, site, 0, '', 'hour', day, hour, 0,
    sum(visitors), sum(visits), sum(own_pageviews), sum(own_events), sum(views), sum(visits), sum(bounces), sum(duration_ms), sum(visits)
FROM
(
    SELECT
        site, day, toHour(ts + toIntervalSecond(if(utc_offset = -1, 0, utc_offset))) AS hour, uniqExact(who) AS visitors,
        toUInt64(0) AS visits, countIf(kind = 'pageview') AS own_pageviews, count() AS own_events, toUInt64(0) AS views,
        toUInt64(0) AS bounces, toUInt64(0) AS duration_ms
    FROM hits
    WHERE seal = {seal:UInt64} AND {{template "rolled"}}
    GROUP BY site, day, hour
    UNION ALL
    SELECT
        site, day, toHour(start + toIntervalSecond(if(utc_offset = -1, 0, utc_offset))) AS hour, toUInt64(0) AS visitors,
        count() AS visits, toUInt64(0) AS own_pageviews, toUInt64(0) AS own_events, sum(pageviews) AS views,
        countIf(bounced) AS bounces, sum(visits.duration_ms) AS duration_ms
    FROM visits
    WHERE seal = {seal:UInt64} AND {{template "rolled"}}
    GROUP BY site, day, hour
)
GROUP BY site, day, hour
