{{- /* Final seconds as the live view showed them: the sum of the partitions, with the newest version of each row. */ -}}
SELECT
    toUnixTimestamp(second) AS at,
    sum(pageviews),
    sum(visitors),
    sum(events),
    sum(events + 1)
FROM windows FINAL
WHERE site = {site:String} AND second > toDateTime({from:Int64}, 'UTC') AND second <= toDateTime({to:Int64}, 'UTC') AND events > 0
GROUP BY at
ORDER BY at
