-- Names the seal of a compaction for the days that have kept theirs. One insert: all switch together.
INSERT INTO seals (site, day, seal, marks, rules, events, digest, rolled, monthly, version)
SELECT site, day, {to:UInt64}, marks, rules, events, digest, rolled, {monthly:Bool}, greatest(version + 1, toUInt64(toUnixTimestamp64Micro(now64(6))))
FROM seals FINAL
WHERE seal IN {seals:Array(UInt64)} AND day >= toDate({first:UInt16}) AND day <= toDate({last:UInt16})
