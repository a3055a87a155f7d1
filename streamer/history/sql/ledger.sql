{{- /* What became of a site's beacons, by the minute or in total, with the newest version of each row. */ -}}
SELECT
    {{if .}}toUnixTimestamp(minute){{else}}toUInt32(0){{end}} AS at,
    sum(received),
    sum(counted),
    sum(late),
    sum(stale),
    sum(duplicate),
    sumMap(dropped)
FROM ledger FINAL
WHERE site = {site:String} AND minute >= toStartOfMinute(toDateTime({from:Int64}, 'UTC')) AND minute < toDateTime({to:Int64}, 'UTC')
GROUP BY at
ORDER BY at
