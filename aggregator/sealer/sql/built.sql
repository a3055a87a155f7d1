-- What a build holds, to compare with the events.
SELECT site, toUInt16(day) AS d, sum(hits) AS hits, sum(visits) AS visits, sum(events) AS events
FROM
(
    SELECT site, day, count() AS hits, toUInt64(0) AS visits, toUInt64(0) AS events
    FROM hits WHERE seal = {seal:UInt64} GROUP BY site, day
    UNION ALL
    SELECT site, day, toUInt64(0) AS hits, count() AS visits, sum(events) AS events
    FROM visits WHERE seal = {seal:UInt64} GROUP BY site, day
)
GROUP BY site, day
ORDER BY day, site
