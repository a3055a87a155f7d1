-- The seals of current days by month.
SELECT toUInt16(toStartOfMonth(day)) AS first, groupUniqArray(3000)(seal) AS seals, countIf(NOT monthly) AS loose
FROM (SELECT site, day, seal, marks, monthly FROM seals FINAL WHERE toUInt16(day) <= {last:UInt16}) AS s
INNER JOIN (SELECT site, day, sum(n) AS n FROM marks GROUP BY site, day) AS m ON m.site = s.site AND m.day = s.day AND m.n = s.marks
GROUP BY first
ORDER BY first
