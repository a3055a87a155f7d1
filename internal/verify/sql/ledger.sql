SELECT
    site, intDiv(toInt64(toUnixTimestamp(minute)), 60), koff,
    received, counted, late, stale, duplicate, dropped, version
FROM ledger FINAL
WHERE kpart = {partition:UInt16}
    AND minute >= fromUnixTimestamp({from:Int64})
    AND minute < fromUnixTimestamp({to:Int64})
    AND (empty({sites:Array(String)}) OR has({sites:Array(String)}, site))
