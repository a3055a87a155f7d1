-- The days that a rebuild covers.
SELECT DISTINCT site, toUInt16(day) AS d
FROM marks
WHERE day >= toDate({from:UInt16})
ORDER BY d, site
