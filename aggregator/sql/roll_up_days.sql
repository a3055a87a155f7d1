SELECT toInt64(toUnixTimestamp(toStartOfDay(minute))) AS day
FROM ledger
WHERE minute < fromUnixTimestamp({before:Int64})
GROUP BY day
ORDER BY day
