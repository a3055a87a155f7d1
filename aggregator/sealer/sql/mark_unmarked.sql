INSERT INTO marks (site, day, n)
SELECT site, day, 1
FROM (SELECT DISTINCT site, day FROM events)
WHERE (site, day) NOT IN (SELECT site, day FROM marks)
