SELECT
    site, intDiv(toInt64(toUnixTimestamp(minute)), 60),
    received, counted, late, stale, duplicate, dropped
FROM ledger_rollup FINAL
WHERE minute >= fromUnixTimestamp({from:Int64})
    AND minute < fromUnixTimestamp({to:Int64})
    AND (empty({sites:Array(String)}) OR has({sites:Array(String)}, site))
