-- Days in whose build one key has two strings: what events have, or `names` has of before.
WITH both AS
(
    SELECT site, key
    FROM
    (
        SELECT site, dim, key, value FROM ({{template "names of events"}})
        UNION ALL
        SELECT site, dim, key, value FROM names WHERE site IN {sites:Array(String)} AND dim IN ('page', 'referrer')
            AND key IN (SELECT key FROM ({{template "names of events"}}))
    )
    GROUP BY site, dim, key
    HAVING min(value) != max(value)
)
SELECT DISTINCT site, toUInt16(day) AS d
FROM hits
WHERE seal = {seal:UInt64} AND (site IN (SELECT site FROM both)) AND ((site, page) IN both OR (site, referrer) IN both)
