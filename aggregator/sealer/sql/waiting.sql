-- The sites' days that no seal covers with all their changes and these rules.
SELECT site, toUInt16(day) AS d, m.n AS marks, s.seal AS seal, m.later AS later
FROM
(
    SELECT site, day, sum(n) AS n, day < max(day) OVER (PARTITION BY site) AS later
    FROM marks
    GROUP BY site, day
) AS m
LEFT JOIN
(
    SELECT site, day, marks, rules, version, seal
    FROM seals FINAL
) AS s USING (site, day)
WHERE m.n != s.marks OR s.rules < {rules:UInt16}
ORDER BY d, site
LIMIT {limit:UInt64}
