-- The days of a seal that have such a key.
WITH collided AS (SELECT c.1, c.2 FROM (SELECT arrayJoin(arrayZip({collided:Array(String)}, {keys:Array(UInt64)})) AS c))
SELECT DISTINCT site, toUInt16(day) AS d
FROM hits
WHERE seal = {seal:UInt64} AND ((site, page) IN collided OR (site, referrer) IN collided)
