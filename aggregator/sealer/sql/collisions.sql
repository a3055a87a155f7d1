-- Keys of pages and referrers that have two strings: among those of events and those of before.
SELECT site, key
FROM
(
    SELECT site, dim, key, value FROM ({{template "names of events"}})
    UNION ALL
    SELECT site, dim, key, value FROM names WHERE site IN {sites:Array(String)} AND dim IN ('page', 'referrer')
)
GROUP BY site, dim, key
HAVING min(value) != max(value)
