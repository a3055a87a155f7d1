SELECT 'events', site, toInt64(toUnixTimestamp(ts)), kpart, count()
FROM events FINAL
WHERE kpart >= {partitions:UInt16}
    AND toStartOfHour(ts) >= toStartOfHour(fromUnixTimestamp64Milli({from:Int64}, 'UTC'))
    AND toStartOfHour(ts) <= toStartOfHour(fromUnixTimestamp64Milli({to:Int64}, 'UTC'))
    AND ts >= fromUnixTimestamp64Milli({from:Int64}, 'UTC')
    AND ts < fromUnixTimestamp64Milli({to:Int64}, 'UTC')
    AND (empty({sites:Array(String)}) OR has({sites:Array(String)}, site))
GROUP BY 1, 2, 3, 4
UNION ALL
SELECT 'windows', site, toInt64(toUnixTimestamp(second)), part, count()
FROM windows FINAL
WHERE part >= {partitions:UInt16}
    AND second >= fromUnixTimestamp(intDiv({from:Int64}, 1000))
    AND second < fromUnixTimestamp(intDiv({to:Int64}, 1000))
    AND (empty({sites:Array(String)}) OR has({sites:Array(String)}, site))
GROUP BY 1, 2, 3, 4
UNION ALL
SELECT 'ledger', site, toInt64(toUnixTimestamp(minute)), kpart, count()
FROM ledger FINAL
WHERE kpart >= {partitions:UInt16}
    AND minute >= toStartOfMinute(fromUnixTimestamp(intDiv({from:Int64}, 1000)))
    AND minute < fromUnixTimestamp(intDiv({to:Int64}, 1000))
    AND (empty({sites:Array(String)}) OR has({sites:Array(String)}, site))
GROUP BY 1, 2, 3, 4
