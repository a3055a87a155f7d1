SELECT toUnixTimestamp64Milli(max(after)), toUnixTimestamp64Milli(at)
FROM cuts
GROUP BY at
ORDER BY at DESC
LIMIT {limit:UInt32}
;
-- limit = "1000"

