-- Sums by the dimensions of events: a visit counts once by value.
INSERT INTO rollups
(
    seal, site, segment, dim, span, day, hour, key,
    visitors, visits, pageviews, events, views, entries, bounces, duration_ms,
    engaged_ms, engaged_visits, scroll_depth, scrolled_visits, exits
)
SELECT
    {seal:UInt64}, site, 0, ['page', 'name', 'hostname'][i] AS dim, 'day', day, 0, key,
    countIf(alone) + uniqExactIf(who, NOT alone), count(), sum(own_pageviews), sum(own_events), sum(views),
    countIf(i != 1 OR key = entry), countIf(bounced AND (i != 1 OR key = entry)), sumIf(duration_ms, i != 1 OR key = entry),
    sum(engaged), countIf(engaged > 0), sum(toUInt64(depth)), countIf(depth > 0), countIf(i != 1 OR key = exit)
FROM
(
    SELECT
        site, day, i, key, who, visit, any(alone) AS alone, countIf(kind = 'pageview') AS own_pageviews, count() AS own_events,
        any(pageviews) AS views, any(entry) AS entry, any(exit) AS exit, any(bounced) AS bounced, any(duration_ms) AS duration_ms,
        sum(engaged_ms) AS engaged, max(scroll_depth) AS depth
    FROM hits
    ARRAY JOIN [page, cityHash64(name), cityHash64(hostname)] AS key, [1, 2, 3] AS i
    WHERE seal = {seal:UInt64} AND {{template "rolled"}}
    GROUP BY site, day, i, key, who, visit
)
GROUP BY site, day, i, key
