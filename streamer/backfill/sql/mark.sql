INSERT INTO marks (site, day, n)
SELECT site, arrayJoin([day - 1, day, day + 1]) AS changed, 1
FROM events
WHERE _partition_id = {partition:String} AND site IN {sites:Array(String)}
GROUP BY site, changed
