SELECT table, name
FROM system.detached_parts
WHERE database = currentDatabase() AND table IN ('visits', 'hits', 'rollups', 'names', 'marks', 'seals') AND reason LIKE 'broken%'
