-- A visitor's id is of one day, so a month's visitors are the sum of its days'.
INSERT INTO rollups
(
    seal, site, segment, dim, span, day, hour, key,
    visitors, visits, pageviews, events, views, entries, bounces, duration_ms, engaged_ms, engaged_visits,
    scroll_depth, scrolled_visits, exits
)
SELECT
    {to:UInt64}, site, segment, dim, 'month', toDate({first:UInt16}), 0, key,
    sum(visitors), sum(visits), sum(pageviews), sum(events), sum(views), sum(entries), sum(bounces), sum(duration_ms), sum(engaged_ms),
    sum(engaged_visits), sum(scroll_depth), sum(scrolled_visits), sum(exits)
FROM rollups
WHERE seal = {to:UInt64} AND span = 'day'
GROUP BY site, segment, dim, key
