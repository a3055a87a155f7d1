-- How many rows of events days have, about, and the offset of their newest.
SELECT site, toUInt16(day) AS d, count() AS events, argMax(if(utc_offset = -1, 0, utc_offset), ts) AS offset
FROM events
WHERE {{template "units" .}}
GROUP BY site, day
ORDER BY day, site
