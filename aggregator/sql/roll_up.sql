INSERT INTO ledger_rollup
(
    site, minute, received, counted, late, stale, duplicate, dropped, segments
)
SELECT
    site, minute, sum(received), sum(counted), sum(late), sum(stale), sum(duplicate), sumMap(dropped), count()
FROM ledger FINAL
WHERE minute >= fromUnixTimestamp({from:Int64}) AND minute < fromUnixTimestamp({to:Int64})
    AND NOT arrayExists((s, b) -> s = site AND toUnixTimestamp(minute) * 1000 < b, {sites:Array(String)}, {befores:Array(Int64)})
GROUP BY site, minute
SETTINGS optimize_aggregation_in_order = 1
