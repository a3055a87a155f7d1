-- The marks that a build sees, and the version that its seals have: newer than those that there are.
SELECT m.site AS site, toUInt16(m.day) AS d, m.n AS marks, greatest(s.version + 1, toUInt64(toUnixTimestamp64Micro(now64(6)))) AS version
FROM (SELECT site, day, sum(n) AS n FROM marks WHERE {{template "listed"}} GROUP BY site, day) AS m
LEFT JOIN (SELECT site, day, version FROM seals FINAL WHERE {{template "listed"}}) AS s ON m.site = s.site AND m.day = s.day
ORDER BY d, site
