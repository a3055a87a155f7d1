-- Partitions that no seal names, and that no rebuild has claimed.
SELECT table, partition_id, toUInt64(greatest(0, toInt64(now()) - toInt64(max(modification_time)))) AS age
FROM system.parts
WHERE database = currentDatabase() AND table IN ('visits', 'hits', 'rollups') AND active
    AND partition_id NOT IN (SELECT toString(seal) FROM seals FINAL WHERE site != '' OR version > toUInt64(toUnixTimestamp64Micro(now64(6))) - {claim:UInt64})
GROUP BY table, partition_id
ORDER BY table, partition_id
LIMIT {limit:UInt32}
