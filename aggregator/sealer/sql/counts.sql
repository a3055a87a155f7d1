-- What the events of days are, to compare a build with.
SELECT site, toUInt16(day) AS d, count() AS events, countIf(kind != 'engagement') AS counted, sum(cityHash64(id)) AS digest
FROM events FINAL
WHERE {{template "units" .}}
GROUP BY site, day
ORDER BY day, site
