{{- /* What became of a site's beacons, by the minute or in total, with the newest version of each row. The
minutes before `rolled` are read from the roll-up, which has no partitions. */ -}}
WITH (SELECT max(before) FROM rolled_up WHERE since <= now()) AS rolled
SELECT
    {{if .}}toUnixTimestamp(minute){{else}}toUInt32(0){{end}} AS at,
    sum(received),
    sum(counted),
    sum(late),
    sum(stale),
    sum(duplicate),
    sumMap(dropped)
FROM
(
    SELECT minute, received, counted, late, stale, duplicate, dropped
    FROM ledger FINAL
    WHERE site = {site:String} AND minute >= toStartOfMinute(toDateTime({from:Int64}, 'UTC')) AND minute < toDateTime({to:Int64}, 'UTC')
        AND minute >= rolled
    UNION ALL
    SELECT minute, received, counted, late, stale, duplicate, dropped
    FROM ledger_rollup FINAL
    WHERE site = {site:String} AND minute >= toStartOfMinute(toDateTime({from:Int64}, 'UTC')) AND minute < toDateTime({to:Int64}, 'UTC')
        AND minute < rolled
)
GROUP BY at
ORDER BY at
