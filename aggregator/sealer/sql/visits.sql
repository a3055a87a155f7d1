-- The visits of a seal from its hits. Each hit knows all of its visit but the number of its hits.
INSERT INTO visits
(
    seal, site, day, who, visit, alone, start, utc_offset, pageviews, events, duration_ms, bounced, entry, exit,
    source, channel, referrer, utm_source, utm_medium, utm_campaign, utm_content, utm_term,
    country, region, city, device, screen, browser, browser_version, os, os_version, language, user
)
SELECT
    seal, site, day, who, visit, alone, start, utc_offset, pageviews, events, duration_ms, bounced, entry, exit,
    source, channel, referrer, utm_source, utm_medium, utm_campaign, utm_content, utm_term,
    country, region, city, device, screen, browser, browser_version, os, os_version, language, user
FROM (SELECT * FROM hits WHERE seal = {seal:UInt64} AND n = 1) AS h
INNER JOIN
(
    SELECT site, day, who, visit, toUInt32(count()) AS events
    FROM hits
    WHERE seal = {seal:UInt64}
    GROUP BY site, day, who, visit
) AS c USING (site, day, who, visit)
