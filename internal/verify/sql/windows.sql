SELECT site, toInt64(toUnixTimestamp(second)), pageviews, visitors, events, active, version
FROM windows FINAL
WHERE part = {partition:UInt16}
    AND second >= fromUnixTimestamp({from:Int64})
    AND second < fromUnixTimestamp({to:Int64})
    AND (empty({sites:Array(String)}) OR has({sites:Array(String)}, site))
