-- How many days of sites are sealed, how many are read from their events, and by which rules they were built.
SELECT
    count() AS days, countIf(m.n = s.marks AND s.rules >= {rules:UInt16}) AS sealed, countIf(s.marks = 0) AS never,
    countIf(m.n != s.marks AND s.marks != 0) AS changed, countIf(m.n = s.marks AND s.rules < {rules:UInt16}) AS outdated,
    toString(minIf(day, m.n != s.marks)) AS oldest, sum(s.events) AS events, uniqExactIf(s.seal, s.seal != 0) AS seals
FROM (SELECT site, day, sum(n) AS n FROM marks WHERE day >= toDate({from:UInt16}) GROUP BY site, day) AS m
LEFT JOIN (SELECT site, day, seal, marks, rules, events FROM seals FINAL) AS s USING (site, day)
