SELECT toUInt64(partition)
FROM system.parts
WHERE database = currentDatabase() AND table = 'imported' AND active
    AND toUInt64(partition) NOT IN (SELECT batch FROM imports FINAL)
GROUP BY partition
