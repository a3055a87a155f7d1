CREATE VIEW peer_events AS
SELECT *, cityHash64(site, visitor, day, sum(begins) OVER (PARTITION BY site, day, visitor ORDER BY ts ROWS UNBOUNDED PRECEDING)) AS session
FROM (
    SELECT site, day, visitor, ts, kind, name, hostname, path, referrer, source, channel, utm_campaign, country, city, device, browser, os, props,
        ts - lagInFrame(ts, 1, toDateTime64(0, 3, 'UTC')) OVER (PARTITION BY site, day, visitor ORDER BY ts ROWS UNBOUNDED PRECEDING) >= 1800 AS begins
    FROM events
)
