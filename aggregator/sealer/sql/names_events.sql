-- The strings of pages and referrers, which sealed rows have as keys. A key of two strings keeps the one it has.
INSERT INTO names (site, dim, key, value)
SELECT site, dim, key, value
FROM ({{template "names of events"}})
WHERE (site, key) NOT IN (SELECT c.1, c.2 FROM (SELECT arrayJoin(arrayZip({collided:Array(String)}, {keys:Array(UInt64)})) AS c))
