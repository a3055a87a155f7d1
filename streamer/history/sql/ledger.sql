{{- /* What became of a site's beacons, by minute or in all. Of a row that was written several times the newest counts. */ -}}
SELECT
    {{if .}}toUnixTimestamp(minute){{else}}toUInt32(0){{end}} AS at,
    sum(received),
    sum(counted),
    sum(late),
    sum(stale),
    sum(repeated),
    sumMap(dropped)
FROM ledger FINAL
WHERE site = {site:String} AND minute >= toStartOfMinute(toDateTime({from:Int64}, 'UTC')) AND minute < toDateTime({to:Int64}, 'UTC')
GROUP BY at
ORDER BY at
